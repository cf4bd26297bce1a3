//! Eigenpairs at both ends of a spectrum: what is asked for, and what was found.

use candle_core::Tensor;

use super::SpectralError;
use crate::Result;
use crate::operator::ShardForms;
use crate::vocabulary::{End, Method};

/// Which eigenpairs, how well, and at what cost at most.
#[derive(Debug, Clone, PartialEq)]
pub struct EigenParams {
    /// Number of largest algebraic eigenvalues.
    pub top: usize,
    /// Number of smallest algebraic eigenvalues.
    pub bottom: usize,
    /// A pair has converged when `‖A y − θ y‖` is at most this times the largest `|θ|` found.
    pub tolerance: f64,
    /// Products to spend at most, the closing ones included; never fewer than it takes to hold `top + bottom` vectors.
    pub max_matvecs: usize,
    /// Vectors per product. A value repeated more often than this is found only through rounding or a closed space.
    /// Where the memory holds few vectors beyond the wanted ones it is lowered, to a tenth of those.
    pub block: usize,
    /// Bound on the basis, a block and the vectors at the end; never less than `top + bottom` and a few vectors need.
    pub memory_bytes: usize,
}

impl Default for EigenParams {
    /// What `flatness analyze` takes. A tolerance of 1e-5, about ten times what rounding allows in f32, costs 3 to 8 % more
    /// products, and in f64 1e-9 costs another 12 to 23 %. The block of 2 is a measurement: on spectra like those of networks (15
    /// outliers from 2100 to 300, a negative tail to −50, a bulk near zero) top 10 and bottom 5 took 59 to 86 products
    /// one by one, 65 to 105 by twos, 75 to 135 by fours and 95 to 175 by eights, while a product of 1, 2, 4, 8
    /// vectors costs about 1.45, 1.19, 1.06, 1 per vector. Twos cost no more than ones and see pairs.
    fn default() -> Self {
        Self { top: 5, bottom: 3, tolerance: 1e-4, max_matvecs: 1_000, block: 2, memory_bytes: 1 << 30 }
    }
}

/// The two ends of one run.
#[derive(Debug, Clone)]
pub struct EigenpairsReport {
    /// Largest algebraic eigenvalues.
    pub top: EigenReport,
    /// Smallest algebraic eigenvalues.
    pub bottom: EigenReport,
}

/// Eigenpairs at one end of the spectrum.
#[derive(Debug, Clone)]
pub struct EigenReport {
    /// Which end.
    pub end: End,
    /// Largest first for [`End::Top`], smallest first for [`End::Bottom`].
    pub ritz_values: Vec<f64>,
    /// `‖A y − θ y‖` of unit `y`, recomputed from a closing product; same order and length. It bounds the distance
    /// of `θ` to some eigenvalue of `A`.
    pub residual_norms: Vec<f64>,
    /// Whether each residual is within the tolerance; same order and length.
    pub converged: Vec<bool>,
    /// Unit Ritz vectors as rows, `[k, n]`, in the operator's dtype.
    pub vectors: Tensor,
    /// Standard error of each eigenvalue from the choice of data rows (first order: spread of `yᵀA_s y` over the
    /// shards `s`); NaN where the operator has no shards.
    pub std_err_data: Vec<f64>,
    /// `yᵀA_s y` of each shard and vector, where the operator has shards.
    pub shard_forms: Option<ShardForms>,
    /// `lanczos`, `power`, `dense` or `gram`.
    pub method: Method,
    /// Products with the operator, shared by both ends of one run.
    pub num_matvecs: usize,
    /// The observer ended the run early. Residual norms are then those of the recurrence, or the rounding of a product
    /// where that is more, without a closing product, and the data errors are NaN.
    pub interrupted: bool,
}

/// Fails where more pairs are asked for than there are.
pub(super) fn check_counts(method: &'static str, top: usize, bottom: usize, dim: usize) -> Result<()> {
    for (what, got) in [("top", top), ("bottom", bottom), ("top + bottom", top + bottom)] {
        if got > dim {
            return Err(SpectralError::TooMany { method, what, got, dim }.into());
        }
    }
    Ok(())
}
