//! The units in which a perturbation is measured.

use crate::autodiff::ParamSpace;
use crate::kernels::norm_of;
use crate::vocabulary::Scaling;

impl Scaling {
    /// `s`, `[n]`.
    pub fn units(self, space: &ParamSpace, theta: &[f64]) -> Vec<f64> {
        match self {
            Self::None => vec![1.0; theta.len()],
            Self::Element => theta.iter().map(|value| value.abs()).collect(),
            Self::Filter => {
                let mut units: Vec<f64> = theta.iter().map(|value| value.abs()).collect();
                for tensor in space.tensors().iter().filter(|tensor| tensor.shape.len() >= 2) {
                    let filter = (tensor.len() / tensor.shape[0].max(1)).max(1);
                    if let Some(own) = units.get_mut(tensor.offset..tensor.offset + tensor.len()) {
                        for filter in own.chunks_mut(filter) {
                            let norm = norm_of(filter);
                            filter.fill(norm);
                        }
                    }
                }
                units
            }
        }
    }
}
