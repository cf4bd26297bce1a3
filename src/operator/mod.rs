//! Symmetric linear operators and operators made from them: the only seam between networks and algorithms. Knows no network.

mod dense;
mod error;
mod wrappers;

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

pub use dense::DenseOperator;
pub(crate) use dense::symmetric_eigen;
pub use error::OperatorError;
pub use wrappers::{Deflated, Restricted, Scaled};
pub(crate) use wrappers::{extend, restrict};

use crate::{Observer, Result};

/// A symmetric linear map on R^n, known only by its action.
pub trait LinearOperator {
    /// `n`.
    fn dim(&self) -> usize;
    /// The dtype of the vectors it takes and gives: f32 or f64.
    fn dtype(&self) -> DType;
    /// Where its vectors live.
    fn device(&self) -> &Device;
    /// `A v` for each row `v` of `block`: `[k, n]` in, `[k, n]` out, at fixed parameters and fixed data.
    /// Equal block, equal result, bit for bit.
    ///
    /// # Errors
    /// A non-finite product, or [`crate::Error::Interrupted`].
    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product>;
    /// `A v` for each row `v` of `block`, where nobody asks what the shards contributed: that may be cheaper, and
    /// differ from `apply` by rounding. Equal block, equal result, bit for bit.
    ///
    /// # Errors
    /// As [`LinearOperator::apply`].
    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        Ok(self.apply(block, observer)?.block)
    }
    /// How many vectors one `apply` likes best; more are allowed and cost more memory, fewer cost time.
    fn block_size(&self) -> usize {
        8
    }
}

/// A matrix `FᵀF + c I` on R^n by the rows of `F`: a sum of their outer products, and a shift.
pub trait OuterProducts {
    /// `n`.
    fn dim(&self) -> usize;
    /// The dtype of the rows: f32 or f64.
    fn dtype(&self) -> DType;
    /// How many there are.
    fn num_rows(&self) -> usize;
    /// `c`.
    fn shift(&self) -> f64;
    /// Some of the rows, `[range.len(), n]` in host memory. Equal range, equal rows, bit for bit.
    ///
    /// # Errors
    /// A row that cannot be computed, or [`crate::Error::Interrupted`].
    fn rows(&self, range: Range<usize>, observer: &mut dyn Observer) -> Result<Tensor>;
}

/// The result of [`LinearOperator::apply`].
pub struct Product {
    /// `A v` per row, `[k, n]`, contiguous.
    pub block: Tensor,
    /// How the data shards contributed, where the operator is a mean over data.
    pub shards: Option<ShardForms>,
}

/// The forms `vᵀA_s v` of each data shard `s`, where `A = Σ_s (W_s / Σ W) A_s`, `W_s` the weight of the shard's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardForms {
    /// Rows in each shard, `[S]`.
    pub rows: Vec<usize>,
    /// `W_s`, the sum of the rows' weights, `[S]`: their number where each row counts once.
    pub weights: Vec<f64>,
    /// `forms[s][i] = v_iᵀ A_s v_i`, `[S][k]`.
    pub forms: Vec<Vec<f64>>,
}

impl ShardForms {
    /// Forms of shards whose rows count once each.
    pub fn of_rows(rows: Vec<usize>, forms: Vec<Vec<f64>>) -> Self {
        let weights = rows.iter().map(|&rows| rows as f64).collect();
        Self { rows, weights, forms }
    }

    /// `W_s / Σ W`.
    pub fn shares(&self) -> Vec<f64> {
        let total: f64 = self.weights.iter().sum();
        self.weights.iter().map(|weight| weight / total).collect()
    }

    /// Whether the shards are those of `other`.
    pub fn same_shards(&self, other: &Self) -> bool {
        self.rows == other.rows && self.weights == other.weights
    }

    /// These shards with other forms.
    pub fn with_forms(&self, forms: Vec<Vec<f64>>) -> Self {
        Self { rows: self.rows.clone(), weights: self.weights.clone(), forms }
    }

    /// For each group of vectors, the sum of their forms.
    pub fn sums(&self, groups: &[Vec<usize>]) -> Self {
        let sum = |forms: &Vec<f64>, group: &Vec<usize>| group.iter().map(|&i| forms[i]).sum();
        let forms = self.forms.iter().map(|forms| groups.iter().map(|group| sum(forms, group)).collect()).collect();
        self.with_forms(forms)
    }

    /// The forms of vectors number `which`, in that order.
    pub fn select(&self, which: &[usize]) -> Self {
        let forms = self.forms.iter().map(|forms| which.iter().map(|&i| forms[i]).collect()).collect();
        self.with_forms(forms)
    }
}
