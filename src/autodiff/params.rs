//! Parameters as one flat space: names, shapes and offsets in a fixed order.

use candle_core::{Result, Tensor};

use crate::vocabulary::ParamKind;

/// One parameter tensor and its place in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamTensor {
    /// PyTorch's name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// First element in the flat vector.
    pub offset: usize,
    /// Its role.
    pub kind: ParamKind,
}

impl ParamTensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The layer: the name up to its last dot.
    pub fn layer(&self) -> &str {
        self.name.rsplit_once('.').map_or(self.name.as_str(), |(layer, _)| layer)
    }
}

/// All trainable parameters in their fixed order. A vector of the space is a tensor `[n]`, a block `[k, n]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParamSpace {
    tensors: Vec<ParamTensor>,
    dim: usize,
}

impl ParamSpace {
    /// The space of the given tensors, in this order.
    pub fn new(tensors: impl IntoIterator<Item = (String, Vec<usize>, ParamKind)>) -> Self {
        let mut dim = 0;
        let tensors = tensors
            .into_iter()
            .map(|(name, shape, kind)| {
                let offset = dim;
                dim += shape.iter().product::<usize>();
                ParamTensor { name, shape, offset, kind }
            })
            .collect();
        Self { tensors, dim }
    }

    /// Number of parameters `n`.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The tensors in order.
    pub fn tensors(&self) -> &[ParamTensor] {
        &self.tensors
    }

    /// Cuts a vector `[n]` or a block `[k, n]` into tensors `[…shape]` or `[k, …shape]`.
    pub fn split(&self, flat: &Tensor) -> Result<Vec<Tensor>> {
        let lead = flat.rank() - 1;
        self.tensors
            .iter()
            .map(|tensor| {
                let shape: Vec<usize> = flat.dims()[..lead].iter().chain(&tensor.shape).copied().collect();
                flat.narrow(lead, tensor.offset, tensor.len())?.contiguous()?.reshape(shape)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn vectors_and_blocks_are_cut_in_order() {
        let space = ParamSpace::new([
            ("conv.weight".into(), vec![2, 1, 1, 2], ParamKind::Weight),
            ("scale".into(), vec![], ParamKind::Norm),
            ("fc.bias".into(), vec![3], ParamKind::Bias),
        ]);
        assert_eq!(space.dim(), 8);
        let places: Vec<(&str, usize, usize)> =
            space.tensors().iter().map(|tensor| (tensor.layer(), tensor.offset, tensor.len())).collect();
        assert_eq!(places, [("conv", 0, 4), ("scale", 4, 1), ("fc", 5, 3)]);

        let block = Tensor::arange(0f64, 16.0, &Device::Cpu).unwrap().reshape((2, 8)).unwrap();
        let parts = space.split(&block).unwrap();
        assert_eq!(parts[0].dims(), [2, 2, 1, 1, 2]);
        assert_eq!(parts[1].to_vec1::<f64>().unwrap(), [4.0, 12.0]);
        assert_eq!(parts[2].to_vec2::<f64>().unwrap(), [[5.0, 6.0, 7.0], [13.0, 14.0, 15.0]]);
        let parts = space.split(&block.get(1).unwrap()).unwrap();
        assert_eq!(parts[1].dims(), [0usize; 0]);
        assert_eq!(parts[2].to_vec1::<f64>().unwrap(), [13.0, 14.0, 15.0]);
        assert!(space.split(&Tensor::zeros(7, DType::F64, &Device::Cpu).unwrap()).is_err());
    }
}
