//! Primal results that one product leaves to the next at the same parameters.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor};

/// Primal results of the convolutions and matrix products of a pass, in the order of execution, as far as there is room.
///
/// Of a Hessian-vector product with one vector they are a quarter of the work, and at fixed parameters and rows the same in each.
/// A pass that takes them has the bits of one that computes them.
#[derive(Debug)]
pub struct Kept {
    results: Arc<Mutex<Results>>,
    /// How many results this pass has used.
    used: Cell<usize>,
}

#[derive(Debug, Default)]
struct Results {
    tensors: Vec<Tensor>,
    /// Bytes left for more.
    room: usize,
}

impl Kept {
    /// Nothing yet, and room for so many bytes.
    pub(crate) fn new(room: usize) -> Self {
        Self { results: Arc::new(Mutex::new(Results { room, ..Results::default() })), used: Cell::new(0) }
    }

    /// The same results for another pass, which may run at the same time.
    pub(crate) fn again(&self) -> Self {
        Self { results: Arc::clone(&self.results), used: Cell::new(0) }
    }

    /// The next result: that of a pass before, or what `compute` gives.
    pub(super) fn next(&self, compute: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let place = self.used.replace(self.used.get() + 1);
        if let Some(tensor) = self.results().tensors.get(place) {
            return Ok(tensor.clone());
        }
        let tensor = compute()?;
        let mut results = self.results();
        // One that another pass was faster to keep is there; after one that did not fit, none has a place in the order.
        if results.tensors.len() == place {
            let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
            results.room = results.room.saturating_sub(bytes);
            if results.room > 0 {
                results.tensors.push(tensor.clone());
            }
        }
        Ok(tensor)
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn results_are_kept_in_order_up_to_the_room() {
        let tensor = |value: f32| Tensor::new(&[value, value], &Device::Cpu);
        // Two of eight bytes each fit below 17, and the third does not.
        let kept = Kept::new(17);
        let pass = |kept: &Kept, values: [f32; 4]| -> Vec<f32> {
            let next = |value| kept.next(|| tensor(value)).unwrap().to_vec1::<f32>().unwrap()[0];
            values.map(next).to_vec()
        };
        assert_eq!(pass(&kept.again(), [1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(pass(&kept.again(), [5.0, 6.0, 7.0, 8.0]), [1.0, 2.0, 7.0, 8.0]);
        // Two passes at a time, the first of which is behind.
        let behind = Kept::new(100);
        let ahead = behind.again();
        let next = |kept: &Kept, value| kept.next(|| tensor(value)).unwrap().to_vec1::<f32>().unwrap()[0];
        assert_eq!(
            [next(&ahead, 1.0), next(&ahead, 2.0), next(&behind, 0.0), next(&behind, 0.0)],
            [1.0, 2.0, 1.0, 2.0]
        );
        assert_eq!(pass(&Kept::new(0), [1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 3.0, 4.0]);
    }
}
