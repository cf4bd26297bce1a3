//! The whole spectrum of a sum of few outer products from the Gram matrix of its rows.

mod blocks;
#[cfg(test)]
mod tests;

use candle_core::{DType, Device, Tensor};
use nalgebra::DVector;
use rand::Rng;

pub use self::blocks::RowBlocks;
use self::blocks::{Gram, METHOD, Rows};
use super::closing::{Accepted, Whole};
use super::dense::rows_of;
use super::guard::guard;
use super::householder::Reduced;
use super::pairs::check_counts;
use super::state::Store;
use super::vectors::{epsilon, normal_block};
use super::{Quadrature, RuleSource, SurveyReport, TraceReport};
use crate::Result;
use crate::observer::Observer;
use crate::operator::{LinearOperator, OuterProducts};
use crate::vocabulary::Method;

/// A matrix that is a sum of outer products, `A = FᵀF + c I`.
#[derive(Clone, Copy)]
pub struct Factored<'a> {
    /// `A` itself.
    pub operator: &'a dyn LinearOperator,
    /// The rows of `F`, and `c`.
    pub factor: &'a dyn OuterProducts,
}

/// Which eigenpairs are wanted beside all eigenvalues, and how much memory there is.
#[derive(Debug, Clone, PartialEq)]
pub struct GramParams {
    /// Largest ones.
    pub top: usize,
    /// Smallest ones.
    pub bottom: usize,
    /// As in [`super::SurveyParams`]: what the residual of a pair is held against.
    pub eigen_tolerance: f64,
    /// Lengths of consecutive spans of columns whose parts of the trace are wanted; they add up to `n`.
    pub spans: Vec<usize>,
    /// As many rows as fit are held at a time.
    pub blocks: RowBlocks,
}

/// All eigenvalues, some pairs, and the parts of the trace.
#[derive(Debug, Clone)]
pub struct GramReport {
    /// In the form of a survey: the nodes of the one rule of its density are the eigenvalues of the Gram matrix, and one for
    /// all others, which are equal.
    pub survey: SurveyReport,
    /// `Σ f²` of each row of `F`, by span of columns.
    pub squares: Vec<Vec<f64>>,
}

/// All eigenvalues of `A = FᵀF + c I`: those of `F Fᵀ` and zeros, plus `c`. The rows of `F` are computed in blocks, those of
/// later blocks once more for each block, and multiplied in f64; the Gram matrix is decomposed as in [`super::dense`].
///
/// An eigenvector is `Fᵀq/√λ`; one of an eigenvalue that is zero but for rounding is a random vector `z` less what lies in
/// the span of the rows, `z − Fᵀ(F Fᵀ + δ I)⁻¹ F z` with a `δ` of the size of rounding. `operator` applies `A` itself: twice
/// to one vector before anything, and to each vector found, which measures residuals and data errors.
///
/// The Gram matrix so far goes to `store` when it wants it, and a run that finds some there goes on from it. Cost: 2 products
/// and one per pair; of `m` rows, [`RowBlocks::passing`] for the matrix and at most `2m` more for the vectors; `m² n/2 + 2 m³`
/// multiplications, and memory for `2 m²` numbers beside the rows.
///
/// # Errors
/// [`SpectralError::TooMany`](super::SpectralError::TooMany) for more pairs than dimensions;
/// [`SpectralError::NonFinite`](super::SpectralError::NonFinite) or
/// [`SpectralError::NotDeterministic`](super::SpectralError::NotDeterministic) where products or rows are; an interruption,
/// unless all that is left are the closing products.
pub fn gram(
    Factored { operator, factor }: Factored<'_>,
    params: &GramParams,
    rng: &mut impl Rng,
    store: &mut dyn Store,
    observer: &mut dyn Observer,
) -> Result<GramReport> {
    let (dim, shift) = (operator.dim(), factor.shift());
    let &GramParams { top, bottom, .. } = params;
    check_counts(METHOD, top, bottom, dim)?;
    let num_matvecs = guard(METHOD, operator, rng, observer)?;
    let mut rows = Rows::new(factor, params.blocks);
    let (entries, squares) = Gram::of(&mut rows, &params.spans, store, observer)?.finish()?;
    let reduced = Reduced::of(entries, rows.count());
    let spectrum = Spectrum::new(reduced.tridiagonal.eigenvalues(), dim);
    let ends: Vec<usize> = (0..bottom).chain((dim - top..dim).rev()).collect();
    let ends: Vec<f64> = ends.into_iter().map(|index| spectrum.value(index)).collect();
    let vectors = if ends.is_empty() {
        None
    } else {
        let found = eigenvectors(&rows, &reduced, Wanted { values: &ends, floor: spectrum.floor }, rng, observer)?;
        Some(rows_of(found, operator)?)
    };
    // Rows and matrix go before the closing products take their memory.
    drop((rows, reduced));
    let residual = epsilon(operator.dtype()) * (spectrum.largest() + shift.abs());
    let values: Vec<f64> = ends.iter().map(|value| value + shift).collect();
    let mut accepted = Accepted::new(Method::Gram, vectors, values, vec![residual; ends.len()], num_matvecs)?;
    accepted.measure(operator, observer)?;
    let trace = TraceReport {
        trace: squares.iter().flatten().sum::<f64>() + shift * dim as f64,
        std_err_numeric: 0.0,
        std_err_data: f64::NAN,
        samples: Vec::new(),
        num_matvecs,
    };
    let whole = Whole { source: RuleSource::Gram, rule: spectrum.rule(shift), trace, dim };
    let survey = whole.survey(&accepted, operator, bottom, params.eigen_tolerance)?;
    Ok(GramReport { survey, squares })
}

/// The eigenvalues of `FᵀF`.
struct Spectrum {
    /// Those that `F Fᵀ` has too, ascending, at most `n`.
    shared: Vec<f64>,
    /// How many others there are: all zero.
    zeros: usize,
    /// What rounding makes of a zero, at most.
    floor: f64,
}

impl Spectrum {
    /// Of the eigenvalues of `F Fᵀ`, ascending; in dimension `dim`.
    fn new(values: Vec<f64>, dim: usize) -> Self {
        let skipped = values.len().saturating_sub(dim);
        // Squares of singular values: negative by rounding alone.
        let shared: Vec<f64> = values[skipped..].iter().map(|value| value.max(0.0)).collect();
        let floor = 64.0 * values.len() as f64 * f64::EPSILON * shared.last().copied().unwrap_or(0.0);
        Self { zeros: dim - shared.len(), shared, floor }
    }

    fn largest(&self) -> f64 {
        self.shared.last().copied().unwrap_or(0.0)
    }

    /// Number `index` of all in ascending order.
    fn value(&self, index: usize) -> f64 {
        index.checked_sub(self.zeros).map_or(0.0, |index| self.shared[index])
    }

    fn rule(&self, shift: f64) -> Quadrature {
        let each = 1.0 / (self.zeros + self.shared.len()) as f64;
        let zeros = (self.zeros > 0).then_some((shift, each * self.zeros as f64));
        let shared = self.shared.iter().map(|value| (value + shift, each));
        let (nodes, weights) = zeros.into_iter().chain(shared).unzip();
        Quadrature { nodes, weights, exact: true }
    }
}

/// Eigenvalues of `FᵀF` whose vectors are wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    values: &'a [f64],
    /// As in [`Spectrum`].
    floor: f64,
}

/// Unit vectors of the wanted eigenvalues, orthogonal but for rounding.
fn eigenvectors(
    rows: &Rows<'_>,
    reduced: &Reduced,
    Wanted { values: ends, floor }: Wanted<'_>,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<Vec<DVector<f64>>> {
    let (count, dim) = (rows.count(), rows.dim());
    let is_null = |value: &f64| *value <= floor;
    let values: Vec<f64> = ends.iter().copied().filter(|value| !is_null(value)).collect();
    let found = reduced.tridiagonal.eigenvectors(&values, rng).into_iter().map(|vector| reduced.turn(vector));
    let mut found = found.zip(&values).map(|(vector, value)| vector / value.sqrt());
    let mut free = free_vectors(rows, reduced, Null { delta: floor, count: ends.len() - values.len() }, rng, observer)?
        .into_iter();
    let mut base: Vec<f64> = Vec::with_capacity(ends.len() * dim);
    let mut coefficients: Vec<f64> = Vec::with_capacity(ends.len() * count);
    for value in ends {
        let (start, along) = if is_null(value) { free.next().unzip() } else { (None, found.next()) };
        base.extend(start.unwrap_or_else(|| vec![0.0; dim]));
        coefficients.extend(along.iter().flatten());
    }
    let base = Tensor::from_vec(base, (ends.len(), dim), &Device::Cpu)?;
    let coefficients = Tensor::from_vec(coefficients, (ends.len(), count), &Device::Cpu)?;
    let combined = rows.combine(&base, &coefficients, observer)?.to_vec2::<f64>()?;
    let mut vectors: Vec<DVector<f64>> = combined.into_iter().map(DVector::from_vec).collect();
    orthonormalise(&mut vectors, ends.iter().map(is_null));
    Ok(vectors)
}

/// How many vectors of the null space are wanted, and the `δ` that tells it from the rest.
struct Null {
    delta: f64,
    count: usize,
}

/// Random vectors `z`, and what of the rows of `F` to add to each so that it leaves their span: `−(F Fᵀ + δ I)⁻¹ F z`.
fn free_vectors(
    rows: &Rows<'_>,
    reduced: &Reduced,
    Null { delta, count }: Null,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<Vec<(Vec<f64>, DVector<f64>)>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let starts = normal_block((count, rows.dim()), DType::F64, &Device::Cpu, rng)?;
    let images = rows.images(&starts, observer)?.to_vec2::<f64>()?;
    let solved = |image: Vec<f64>| {
        if delta == 0.0 {
            return DVector::zeros(rows.count());
        }
        // `δ (T + δ I)⁻¹` shrinks: nothing overflows.
        let image = reduced.turn_back(DVector::from_vec(image)) * delta;
        reduced.turn(DVector::from_vec(reduced.tridiagonal.solve(-delta, image.data.into()))) / -delta
    };
    Ok(starts.to_vec2()?.into_iter().zip(images.into_iter().map(solved)).collect())
}

/// Makes vectors orthonormal that are nearly orthogonal: those that are known less well, marked in `last`, to the others.
fn orthonormalise(vectors: &mut [DVector<f64>], last: impl Iterator<Item = bool>) {
    let (well, less): (Vec<_>, Vec<_>) = last.enumerate().partition(|(_, last)| !last);
    let order: Vec<usize> = well.into_iter().chain(less).map(|(index, _)| index).collect();
    for (place, &index) in order.iter().enumerate() {
        let mut vector = std::mem::replace(&mut vectors[index], DVector::zeros(0)).normalize();
        // Twice, since what is left of a vector near the others is mostly rounding.
        for &other in order[..place].iter().chain(&order[..place]) {
            let along = vectors[other].dot(&vector);
            vector.axpy(-along, &vectors[other], 1.0);
        }
        vectors[index] = vector.normalize();
    }
}
