//! Thick-restart block Lanczos in Krylov–Schur form: the state that [`super::eigenpairs`] drives.

use candle_core::{DType, Tensor};
use nalgebra::DMatrix;
use rand::Rng;

use super::SpectralError;
use super::basis::Basis;
use super::state::{SurveyState, damaged};
use super::vectors::{combine, epsilon, normal_block, norms};
use crate::Result;
use crate::observer::Observer;
use crate::operator::symmetric_eigen;
use crate::operator::{LinearOperator, ShardForms};

/// A direction left over from a product counts as rounding below this many units `ε‖A‖`.
const BREAKDOWN_UNITS: f64 = 16.0;
/// Smallest ratio of squared lengths that one f64 Gram matrix of a block resolves.
const GRAM_RESOLUTION: f64 = 1e-14;
/// Orthogonalisation passes: two as a rule, more only while directions of very different length unfold.
const MAX_PASSES: usize = 6;

/// `A V = V T + F B`: an orthonormal basis `V` (`m` rows), `T = Vᵀ A V`, and a pending orthonormal block `F`.
pub(super) struct KrylovSchur<'a> {
    operator: &'a dyn LinearOperator,
    method: &'static str,
    basis: Basis,
    /// `T`, `[m, m]`.
    projected: DMatrix<f64>,
    /// `F`; `None` once the basis spans the whole space.
    pending: Option<Tensor>,
    /// Row `i` holds what `A vᵢ` leaves in the directions of `F`: `[m, b]`.
    coupling: DMatrix<f64>,
    block: usize,
    /// Largest `‖A v‖` of a unit `v` so far.
    norm: f64,
    /// `vᵀA_s v` of the start block, from the first product.
    pub(super) first_forms: Option<ShardForms>,
    /// Products made.
    pub(super) num_matvecs: usize,
    /// How many directions the last product lost: as many Krylov spaces have closed, and random directions filled up.
    pub(super) closed: usize,
}

/// Ritz pairs of the current basis, ascending.
pub(super) struct Ritz {
    pub(super) values: Vec<f64>,
    /// Coefficients on the basis, as columns.
    pub(super) vectors: DMatrix<f64>,
    /// `‖A y − θ y‖` as the recurrence has it.
    pub(super) residuals: Vec<f64>,
}

/// `W = C V + R Q` with orthonormal rows `Q`, orthogonal to `V`.
struct Split {
    along: DMatrix<f64>,
    within: DMatrix<f64>,
    rest: Option<Tensor>,
}

impl<'a> KrylovSchur<'a> {
    /// Starts from the rows of `start`, `[k, n]`, and random normal vectors up to `block`, orthonormalised: without `start`
    /// each is uniform on the sphere.
    pub(super) fn new(
        operator: &'a dyn LinearOperator,
        block: usize,
        method: &'static str,
        start: Option<&Tensor>,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let mut state = Self {
            operator,
            method,
            basis: Basis::default(),
            projected: DMatrix::zeros(0, 0),
            pending: None,
            coupling: DMatrix::zeros(0, 0),
            block,
            norm: 0.0,
            first_forms: None,
            num_matvecs: 0,
            closed: 0,
        };
        let start = start.map(orthonormal_rows).transpose()?.flatten();
        state.pending = state.fill_up(start, rng)?;
        Ok(state)
    }

    /// Vectors in the basis.
    pub(super) fn rows(&self) -> usize {
        self.basis.rows()
    }

    /// `T = VᵀAV`, `[m, m]`. Until the first restart the start block leads the basis.
    pub(super) fn projected(&self) -> &DMatrix<f64> {
        &self.projected
    }

    /// What basis and pending block occupy.
    pub(super) fn bytes(&self) -> usize {
        (self.rows() + self.pending_rows()) * self.operator.dim() * self.operator.dtype().size_in_bytes()
    }

    /// Whether the basis spans the whole space: Ritz pairs are then eigenpairs.
    pub(super) fn is_complete(&self) -> bool {
        self.pending.is_none()
    }

    /// Vectors that the next [`Self::step`] adds.
    pub(super) fn pending_rows(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.dims()[0])
    }

    /// Takes the pending block into the basis: one block product, at least two passes of orthogonalisation.
    pub(super) fn step(&mut self, rng: &mut impl Rng, observer: &mut dyn Observer) -> Result<()> {
        let Some(pending) = self.pending.clone() else { return Ok(()) };
        let product = if self.basis.rows() == 0 {
            let product = self.operator.apply(&pending, observer)?;
            self.first_forms = product.shards;
            product.block
        } else {
            self.operator.multiply(&pending, observer)?
        };
        let lengths = norms(&product)?;
        if let Some(row) = lengths.iter().position(|length| !length.is_finite()) {
            let matvec = self.num_matvecs + row + 1;
            return Err(SpectralError::NonFinite { method: self.method, matvec }.into());
        }
        self.num_matvecs += lengths.len();
        self.norm = lengths.iter().copied().fold(self.norm, f64::max);
        self.pending = None;
        self.basis.push(pending)?;

        let old = self.projected.nrows();
        let total = self.basis.rows();
        let split = self.orthonormalize(product)?;
        self.check_symmetry(&split.along)?;
        let mut projected = DMatrix::zeros(total, total);
        projected.view_mut((0, 0), (old, old)).copy_from(&self.projected);
        projected.view_mut((old, 0), (total - old, total)).copy_from(&split.along);
        let upper = split.along.columns(0, old).transpose();
        projected.view_mut((0, old), (old, total - old)).copy_from(&upper);
        self.projected = (&projected + projected.transpose()) * 0.5;

        let kept = split.within.ncols();
        self.closed = if total < self.operator.dim() { lengths.len() - kept } else { 0 };
        self.pending = self.fill_up(split.rest, rng)?;
        self.coupling = DMatrix::zeros(total, self.pending_rows());
        self.coupling.view_mut((old, 0), (total - old, kept)).copy_from(&split.within);
        Ok(())
    }

    /// Fails where `FᵀAV` and `(VᵀAF)ᵀ` differ by more than rounding.
    fn check_symmetry(&self, along: &DMatrix<f64>) -> Result<()> {
        let old = self.projected.nrows();
        let new = along.columns(old, along.ncols() - old);
        let within = (new - new.transpose()).amax();
        let before = if self.coupling.shape() == (old, along.nrows()) {
            (along.columns(0, old) - self.coupling.transpose()).amax()
        } else {
            0.0
        };
        let asymmetry = within.max(before) / self.norm.max(f64::MIN_POSITIVE);
        let tolerance = asymmetry_allowed(self.operator.dtype());
        if asymmetry > tolerance {
            return Err(SpectralError::NotSymmetric { method: self.method, asymmetry, tolerance }.into());
        }
        Ok(())
    }

    /// Puts everything into `state` that [`Self::restore`] needs; the blocks are shared, and change at the next restart.
    pub(super) fn keep(&self, state: &mut SurveyState) -> Result<()> {
        state.basis = self.basis.clone();
        if let Some(pending) = &self.pending {
            state.tensors.insert("pending".into(), pending.clone());
        }
        state.put_matrix("projected", &self.projected)?;
        state.put_matrix("coupling", &self.coupling)?;
        state.put_numbers("krylov", &[self.norm, self.num_matvecs as f64, self.closed as f64])
    }

    /// Goes on from a kept state; the blocks stay cut as they were, so that every sum is the same.
    pub(super) fn restore(&mut self, state: &SurveyState) -> Result<()> {
        let fits = |dtype: DType, dims: &[usize]| {
            dims.len() == 2 && dims[1] == self.operator.dim() && dtype == self.operator.dtype()
        };
        if !state.basis.layout().all(|(dtype, dims)| fits(dtype, &dims)) {
            return Err(damaged("basis"));
        }
        let basis = state.basis.to_device(self.operator.device())?;
        let pending = match state.tensors.get("pending") {
            Some(pending) if fits(pending.dtype(), pending.dims()) => Some(pending.to_device(self.operator.device())?),
            None => None,
            _ => return Err(damaged("pending")),
        };
        let (projected, coupling) = (state.matrix("projected")?, state.matrix("coupling")?);
        let pending_rows = pending.as_ref().map_or(0, |pending| pending.dims()[0]);
        if projected.shape() != (basis.rows(), basis.rows()) || coupling.shape() != (basis.rows(), pending_rows) {
            return Err(damaged("projected"));
        }
        let &[norm, num_matvecs, closed] = state.numbers("krylov")?.as_slice() else { return Err(damaged("krylov")) };
        (self.basis, self.pending, self.projected, self.coupling) = (basis, pending, projected, coupling);
        (self.norm, self.num_matvecs, self.closed) = (norm, num_matvecs as usize, closed as usize);
        Ok(())
    }

    /// Rayleigh–Ritz on the basis. Cost: `O(m³)`, no products.
    pub(super) fn ritz(&self) -> Ritz {
        let (values, vectors) = symmetric_eigen(self.projected.clone());
        let rest = self.coupling.transpose() * &vectors;
        let residuals = rest.column_iter().map(|column| column.norm()).collect();
        Ritz { values, vectors, residuals }
    }

    /// Ritz vectors number `which`, `[k, n]`.
    pub(super) fn vectors(&self, ritz: &Ritz, which: &[usize]) -> Result<Tensor> {
        self.basis.combine(&ritz.vectors.select_columns(which).transpose())
    }

    /// Shrinks the basis, in its own memory, to the Ritz vectors `keep`; the pending block stays (Wu & Simon 2000).
    pub(super) fn restart(&mut self, ritz: &Ritz, keep: &[usize]) -> Result<()> {
        self.basis.shrink(&ritz.vectors.select_columns(keep).transpose())?;
        let values = keep.iter().map(|&i| ritz.values[i]);
        self.projected = DMatrix::from_diagonal(&nalgebra::DVector::from_iterator(keep.len(), values));
        self.coupling = ritz.vectors.select_columns(keep).transpose() * &self.coupling;
        Ok(())
    }

    /// `rest` with random directions appended until it has `block` rows or the whole space is spanned.
    fn fill_up(&self, rest: Option<Tensor>, rng: &mut impl Rng) -> Result<Option<Tensor>> {
        let dim = self.operator.dim();
        let mut known = self.basis.clone();
        let mut rows: Vec<Tensor> = rest.into_iter().collect();
        rows.iter().try_for_each(|rows| known.push(rows.clone()))?;
        let have: usize = rows.iter().map(|rows| rows.dims()[0]).sum();
        let missing = self.block.saturating_sub(have).min(dim - known.rows());
        if missing > 0 {
            let fresh = normal_block((missing, dim), self.operator.dtype(), self.operator.device(), rng)?;
            rows.extend(orthonormalize(&known, fresh, 0.0)?.rest);
        }
        Ok(if rows.is_empty() { None } else { Some(Tensor::cat(&rows, 0)?) })
    }

    fn orthonormalize(&self, block: Tensor) -> Result<Split> {
        if self.basis.rows() == self.operator.dim() {
            // Nothing can be left; what is, is rounding.
            let along = self.basis.coefficients(&self.basis.columns(self.basis.dim()).part(&block)?)?;
            return Ok(Split { within: DMatrix::zeros(along.nrows(), 0), along, rest: None });
        }
        let negligible = BREAKDOWN_UNITS * epsilon(block.dtype()) * self.norm;
        orthonormalize(&self.basis, block, negligible)
    }
}

/// `|uᵀAv − vᵀAu|` over `‖A‖` beyond which an operator does not pass as symmetric: far above the rounding of products,
/// far below any fault.
pub(super) fn asymmetry_allowed(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-6 } else { 1e-3 }
}

/// An orthonormal basis of the span of the rows of `block`, `[r, n]`, without directions that are rounding; `None` if
/// nothing else is there.
pub(super) fn orthonormal_rows(block: &Tensor) -> Result<Option<Tensor>> {
    let longest = norms(block)?.into_iter().fold(0.0, f64::max);
    let negligible = BREAKDOWN_UNITS * epsilon(block.dtype()) * longest;
    Ok(orthonormalize(&Basis::default(), block.clone(), negligible)?.rest)
}

/// Splits `block` into its part along `basis` and an orthonormal rest; directions of the rest whose share of `block`
/// is `negligible` or less are dropped.
fn orthonormalize(basis: &Basis, block: Tensor, negligible: f64) -> Result<Split> {
    let mut along = DMatrix::zeros(block.dims()[0], basis.rows());
    let mut within = DMatrix::identity(block.dims()[0], block.dims()[0]);
    // Ranks share the columns of what is between the passes.
    let columns = basis.columns(block.dims()[1]);
    let mut rows = columns.part(&block)?;
    for pass in 1..=MAX_PASSES {
        if basis.rows() > 0 {
            let coefficients = basis.coefficients(&rows)?;
            rows = basis.subtract(&rows, &coefficients)?;
            along += &within * coefficients;
        }
        let (squares, directions) = symmetric_eigen(columns.products(&rows, std::slice::from_ref(&rows))?);
        let largest = squares.last().copied().unwrap_or(0.0);
        // Shorter directions than one Gram matrix resolves keep a length below 1 and unfold in the next pass.
        let lengths: Vec<f64> = squares.iter().map(|&square| square.max(GRAM_RESOLUTION * largest).sqrt()).collect();
        let unfolded = &within * &directions * DMatrix::from_diagonal(&lengths.clone().into());
        let kept: Vec<usize> = (0..lengths.len()).filter(|&i| unfolded.column(i).norm() > negligible).collect();
        within = unfolded.select_columns(&kept);
        if kept.is_empty() {
            return Ok(Split { along, within, rest: None });
        }
        let mut inverse = directions.select_columns(&kept).transpose();
        kept.iter().enumerate().for_each(|(row, &i)| inverse.row_mut(row).scale_mut(1.0 / lengths[i]));
        rows = combine(&inverse, &rows)?;
        // "Twice is enough" as long as the second pass takes little away (Kahan, in Parlett 1980).
        if pass > 1 && kept.iter().all(|&i| lengths[i] > 0.5) {
            break;
        }
    }
    Ok(Split { along, within, rest: Some(columns.whole(rows)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{clustered_spectrum, with_spectrum};

    fn wide(rows: &Tensor) -> DMatrix<f64> {
        let rows = rows.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
        DMatrix::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
    }

    #[test]
    fn the_block_relation_holds_through_restarts() {
        for (dtype, epsilon) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
            let operator = with_spectrum(&clustered_spectrum(50), dtype, 7);
            let mut rng = stream(1, Purpose::Eigenpairs);
            let mut state = KrylovSchur::new(&operator, 3, "test", None, &mut rng).unwrap();
            for _ in 0..3 {
                while state.rows() < 24 {
                    state.step(&mut rng, &mut ()).unwrap();
                }
                let ritz = state.ritz();
                let keep: Vec<usize> = (0..5).chain(16..24).collect();
                state.restart(&ritz, &keep).unwrap();
                let rows = state.rows();
                let v = wide(&state.basis.combine(&DMatrix::identity(rows, rows)).unwrap());
                let f = wide(state.pending.as_ref().unwrap());
                // ‖A‖ = 100; a few roundings of vectors of that size per step and per restart.
                let rest = &v * operator.matrix() - &state.projected * &v - &state.coupling * &f;
                assert!(rest.amax() < 30.0 * epsilon * 100.0, "{}", rest.amax());
                assert!((&v * v.transpose() - DMatrix::identity(rows, rows)).amax() < 20.0 * epsilon);
                assert!((&v * f.transpose()).amax() < 20.0 * epsilon);
                assert!((&f * f.transpose() - DMatrix::identity(3, 3)).amax() < 20.0 * epsilon);
            }
        }
    }

    #[test]
    fn nearly_dependent_blocks_are_split_into_orthonormal_rows() {
        let mut rng = stream(2, Purpose::Check);
        let base = normal_block((3, 40), DType::F64, &candle_core::Device::Cpu, &mut rng).unwrap();
        // Singular values about 1, 1e-6, 1e-12 times the first row's length.
        let mix = DMatrix::from_row_slice(3, 3, &[1.0, 0.0, 0.0, 1.0, 1e-6, 0.0, 1.0, 1e-6, 1e-12]);
        let block = combine(&mix, &base).unwrap();
        let split = orthonormalize(&Basis::default(), block.clone(), 1e-14).unwrap();
        let q = split.rest.unwrap();
        assert_eq!(q.dims(), [3, 40]);
        assert!((wide(&q) * wide(&q).transpose() - DMatrix::identity(3, 3)).amax() < 1e-14);
        assert!((wide(&block) - split.within * wide(&q)).amax() < 1e-14);
    }
}
