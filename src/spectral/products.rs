//! Products with an operator in blocks: counted, checked, and told to the observer.

use candle_core::Tensor;

use super::data_error::join;
use super::trace::finite_forms;
use crate::Error;
use crate::Result;
use crate::observer::{Observer, Step};
use crate::operator::{LinearOperator, ShardForms};

/// Products of one computation: counted, checked, and told to the observer.
pub(super) struct Products<'a> {
    pub(super) method: &'static str,
    pub(super) operator: &'a dyn LinearOperator,
    pub(super) total: usize,
    pub(super) num_matvecs: usize,
}

/// `A v` per row of a block, and what was seen on the way.
pub(super) struct Images {
    /// `[k, n]`.
    pub(super) block: Tensor,
    /// `vᵀAv` per row.
    pub(super) forms: Vec<f64>,
    pub(super) shards: Option<ShardForms>,
}

impl Products<'_> {
    /// `A v` for each row of `vectors`, `[k, n]` with `k ≥ 1`, in pieces of [`LinearOperator::block_size`].
    ///
    /// # Errors
    /// [`super::SpectralError::NonFinite`]; [`Error::Interrupted`] when the operator or the observer ends it.
    pub(super) fn of(&mut self, vectors: &Tensor, observer: &mut dyn Observer) -> Result<Images> {
        let count = vectors.dims()[0];
        let (mut blocks, mut forms, mut shards) = (Vec::new(), Vec::new(), Vec::new());
        while forms.len() < count {
            let rows = self.operator.block_size().clamp(1, count - forms.len());
            let piece = vectors.narrow(0, forms.len(), rows)?.contiguous()?;
            let product = self.operator.apply(&piece, observer)?;
            forms.extend(finite_forms(self.method, &piece, &product.block, self.num_matvecs)?);
            self.num_matvecs += rows;
            blocks.push(product.block);
            shards.push(product.shards);
            let seen = Step { task: self.method, done: self.num_matvecs, total: self.total, message: String::new() };
            if observer.on_step(&seen).is_break() && self.num_matvecs < self.total {
                return Err(Error::Interrupted);
            }
        }
        Ok(Images { block: Tensor::cat(&blocks, 0)?, forms, shards: join(shards) })
    }
}
