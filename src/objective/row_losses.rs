//! The loss of each row, and objectives that share all but the network's statistics.

use candle_core::DType;
use candle_core::Tensor;

use super::Objective;
use super::portions::Asked;
use crate::autodiff::{Saved, Tape};
use crate::data::Batch;
use crate::program::{Network, row_weights};
use crate::team::Wire;
use crate::{Observer, Result};

impl Objective<'_> {
    /// The same rows and options on another network of the same architecture, such as one with other running statistics.
    pub(crate) fn on<'b>(&'b self, network: &'b Network) -> Objective<'b> {
        Objective { network, ..self.clone() }
    }

    /// The same without the other ranks: each computes all of it alone.
    pub(crate) fn apart(&self) -> Self {
        Self { workers: self.workers.apart(), ..self.clone() }
    }

    /// Workers that take one parameter vector each through all rows: as many as threads, and as fit the memory.
    pub(crate) fn point_workers(&self) -> usize {
        if self.couples_rows() { 1 } else { self.worker_limit(0, self.micro_batch(0)) }
    }

    /// Losses `s_n(θ)` of all rows in the order of the data, without an L2 term; their mean is over the weights of
    /// [`Objective::row_weights`]. Cost: one forward pass over the rows.
    ///
    /// # Errors
    /// A tensor operation that fails; an interruption.
    pub fn row_losses(&self, theta: &Tensor, observer: &mut dyn Observer) -> Result<Vec<f64>> {
        let params = self.network.space().split(&self.place(theta)?)?;
        let pass = |batch: &Batch| {
            let mut tape = Tape::<Tensor>::new(Saved::Nothing);
            let outcome = self.forward(&mut tape, &params, batch, self.mode())?;
            let loss = self.row_loss(&mut tape, &outcome, batch)?;
            Ok(loss.value().flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?)
        };
        let mut losses = vec![f64::NAN; self.data.len()];
        for (rows, values) in self.by_micro_batch(pass, observer)? {
            rows.into_iter().zip(values).for_each(|(row, value)| losses[row] = value);
        }
        Ok(losses)
    }

    /// What `pass` makes of each micro-batch of a loss, in order, with its rows.
    pub(super) fn by_micro_batch<R: Send + Wire>(
        &self,
        pass: impl Fn(&Batch) -> Result<R> + Sync,
        observer: &mut dyn Observer,
    ) -> Result<Vec<(Vec<usize>, R)>> {
        let plan = self.micro_batches(Asked::LOSS);
        let size = plan.iter().map(|batch| batch.rows.len()).max().unwrap_or(0);
        let work = |index: usize| pass(&self.batch(&plan[index].rows)?);
        let parts = self.workers.shared_map(plan.len(), self.worker_limit(0, size), work, observer)?;
        Ok(plan.into_iter().map(|batch| batch.rows).zip(parts).collect())
    }

    /// Weights `w_n` of all rows in the mean, in the order of the data.
    ///
    /// # Errors
    /// Placing the targets on the objective's device.
    pub fn row_weights(&self) -> Result<Vec<f64>> {
        let rows: Vec<usize> = (0..self.data.len()).collect();
        let targets = self.data.target_batch(&rows, self.options.dtype, &self.options.device)?;
        Ok(row_weights(&self.options.loss, rows.len(), &targets))
    }
}
