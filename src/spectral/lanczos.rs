//! Lanczos tridiagonalisation of several start vectors in lock-step: one block product per step.

use candle_core::Tensor;
use nalgebra::DMatrix;

use super::SpectralError;
use super::basis::Basis;
use super::vectors::{epsilon, norms, scale_rows};
use crate::observer::{Observer, Step};
use crate::operator::{LinearOperator, Product, ShardForms};
use crate::{Error, Result};

const METHOD: &str = "lanczos";

/// A direction left over from a product counts as rounding below this many units `ε‖T‖`.
const BREAKDOWN_UNITS: f64 = 16.0;

/// How far to go, and with how much memory.
pub(super) struct Reach {
    /// Lanczos steps, at most the dimension.
    pub(super) num_steps: usize,
    /// Basis vectors kept per start vector, at least 2. With fewer than `num_steps` the oldest are forgotten and
    /// orthogonality is only local.
    pub(super) window: usize,
    /// Products made before this run, so that errors name the right one.
    pub(super) matvecs_before: usize,
}

/// The Krylov space of one start vector: `A Qᵀ = Qᵀ T + r eᵀ` with the rows `q₁ … q_m` of `Q`.
pub(super) struct Krylov {
    /// Diagonal of `T`, one entry per step.
    pub(super) alphas: Vec<f64>,
    /// Beside the diagonal: `betas[j]` is the norm of what step `j` left over; the last belongs to `r`.
    pub(super) betas: Vec<f64>,
    /// The last left-over was rounding: the space is invariant.
    pub(super) closed: bool,
    /// `q₁ … q_m`, or the last of them.
    pub(super) basis: Basis,
    /// The unit vector along `r`, `[1, n]`.
    next: Tensor,
}

/// What a run of [`lanczos`] leaves.
pub(super) struct LanczosRun {
    /// One per start vector.
    pub(super) spaces: Vec<Krylov>,
    /// `qᵀA_s q` of the unit start vectors, from the first product.
    pub(super) first_forms: Option<ShardForms>,
    /// Products made, one per vector.
    pub(super) num_matvecs: usize,
    /// The observer asked to stop, perhaps at the very last step.
    pub(super) interrupted: bool,
}

/// Builds the Krylov space of each row of `start`, `[p, n]` (Lanczos 1950; full re-orthogonalisation: Paige 1971).
///
/// Each step orthogonalises twice against the whole basis, sums in f64, and shares one product of up to `p` vectors.
/// A space that closes leaves the lock-step. Cost: `p · num_steps` matvecs, `2 · num_steps² · n` multiplications per
/// start vector, and `p · window` vectors of memory.
///
/// # Errors
/// [`SpectralError::NonFinite`] with the number of the product; [`Error::Interrupted`] before the first step is done.
/// Later the steps made so far are kept.
pub(super) fn lanczos(
    operator: &dyn LinearOperator,
    start: &Tensor,
    reach: &Reach,
    observer: &mut dyn Observer,
) -> Result<LanczosRun> {
    let lengths = norms(start)?;
    let start = scale_rows(start, &lengths.iter().map(|length| 1.0 / length).collect::<Vec<_>>())?;
    let new_space = |row| {
        let next = start.narrow(0, row, 1)?;
        Ok(Krylov { alphas: vec![], betas: vec![], closed: false, basis: Basis::default(), next })
    };
    let spaces = (0..lengths.len()).map(new_space).collect::<Result<Vec<_>>>()?;
    let mut run = LanczosRun { spaces, first_forms: None, num_matvecs: 0, interrupted: false };
    for step in 1..=reach.num_steps {
        let mut open: Vec<&mut Krylov> = run.spaces.iter_mut().filter(|space| !space.closed).collect();
        if open.is_empty() {
            break;
        }
        let block = Tensor::cat(&open.iter().map(|space| &space.next).collect::<Vec<_>>(), 0)?;
        // Trace samples come from the start vectors alone, and so do their forms.
        let product = match step {
            1 => operator.apply(&block, observer),
            _ => operator.multiply(&block, observer).map(|block| Product { block, shards: None }),
        };
        let product = match product {
            Err(Error::Interrupted) if step > 1 => {
                run.interrupted = true;
                break;
            }
            result => result?,
        };
        for (row, space) in open.iter_mut().enumerate() {
            run.num_matvecs += 1;
            // The basis holds views of the block, so its vectors exist once.
            space.next = block.narrow(0, row, 1)?;
            space.advance(product.block.narrow(0, row, 1)?, reach.window)?;
            if !(space.alphas[step - 1] + space.betas[step - 1]).is_finite() {
                let matvec = reach.matvecs_before + run.num_matvecs;
                return Err(SpectralError::NonFinite { method: METHOD, matvec }.into());
            }
        }
        if step == 1 {
            run.first_forms = product.shards;
        }
        let seen = Step { task: METHOD, done: step, total: reach.num_steps, message: String::new() };
        if observer.on_step(&seen).is_break() {
            run.interrupted = true;
            break;
        }
    }
    Ok(run)
}

impl Krylov {
    /// Number of steps made.
    pub(super) fn steps(&self) -> usize {
        self.alphas.len()
    }

    /// `T`, `[m, m]`.
    pub(super) fn tridiagonal(&self) -> DMatrix<f64> {
        let steps = self.steps();
        DMatrix::from_fn(steps, steps, |i, j| match i.abs_diff(j) {
            0 => self.alphas[i],
            1 => self.betas[i.min(j)],
            _ => 0.0,
        })
    }

    /// Takes in `product = A q` of the pending vector `q`.
    fn advance(&mut self, product: Tensor, window: usize) -> Result<()> {
        let dim = product.dims()[1];
        self.basis.push(self.next.clone())?;
        if self.basis.rows() > window.max(2) {
            self.basis.drop_oldest();
        }
        // The second pass stays: after one, orthogonality is lost as soon as a Ritz value converges, and the
        // spectrum then shows that eigenvalue twice (Paige 1971).
        let columns = self.basis.columns(dim);
        let product = columns.part(&product)?;
        let first = self.basis.coefficients(&product)?;
        let once = self.basis.subtract(&product, &first)?;
        let second = self.basis.coefficients(&once)?;
        let rest = self.basis.subtract(&once, &second)?;
        let last = self.basis.rows() - 1;
        let alpha = first[(0, last)] + second[(0, last)];
        let beta = columns.products(&rest, std::slice::from_ref(&rest))?[(0, 0)].sqrt();
        let epsilon = epsilon(rest.dtype());
        self.alphas.push(alpha);
        self.betas.push(beta);
        let size = self.alphas.iter().zip(&self.betas).map(|(alpha, beta)| alpha.abs() + beta).fold(0.0, f64::max);
        self.closed = self.steps() == dim || beta <= BREAKDOWN_UNITS * epsilon * size;
        if !self.closed && beta.is_finite() {
            self.next = columns.whole(scale_rows(&rest, &[1.0 / beta])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectral::testing::{Breaking, clustered_spectrum, with_spectrum};
    use crate::spectral::vectors::{normal_block, row_dots};
    use candle_core::{DType, Device};

    fn run(operator: &dyn LinearOperator, probes: usize, num_steps: usize) -> LanczosRun {
        let mut rng = crate::random::stream(2, crate::random::Purpose::Probes);
        let start = normal_block((probes, operator.dim()), operator.dtype(), &Device::Cpu, &mut rng).unwrap();
        lanczos(operator, &start, &Reach { num_steps, window: num_steps, matvecs_before: 0 }, &mut ()).unwrap()
    }

    fn wide(rows: &Tensor) -> DMatrix<f64> {
        let rows = rows.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
        DMatrix::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
    }

    #[test]
    fn the_lanczos_relation_and_orthogonality_hold() {
        // Converged outliers and a cluster: where one pass of orthogonalisation fails.
        for (dtype, epsilon) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
            let operator = with_spectrum(&clustered_spectrum(60), dtype, 1);
            for space in run(&operator, 2, 55).spaces {
                let steps = space.steps();
                let q = wide(&space.basis.combine(&DMatrix::identity(steps, steps)).unwrap());
                // Entries of QᵀQ: two rounded unit vectors, a few ε.
                assert!((&q * q.transpose() - DMatrix::identity(steps, steps)).amax() < 10.0 * epsilon);
                let mut rest = &q * operator.matrix() - space.tridiagonal() * &q;
                let mut last = rest.row_mut(steps - 1);
                last -= wide(&space.next).row(0) * space.betas[steps - 1];
                // ‖A‖ = 100; each column of the relation sums a handful of rounded vectors of that size.
                assert!(rest.amax() < 10.0 * epsilon * 100.0, "{}", rest.amax());
            }
        }
    }

    #[test]
    fn an_invariant_space_closes_and_leaves_the_lock_step() {
        let mut spectrum = vec![0.0; 30];
        spectrum[..3].copy_from_slice(&[5.0, -2.0, 1.0]);
        let run = run(&with_spectrum(&spectrum, DType::F64, 4), 3, 20);
        // Four distinct eigenvalues: four steps close every space.
        assert!(run.spaces.iter().all(|space| space.closed && space.steps() == 4));
        assert_eq!(run.num_matvecs, 12);
    }

    #[test]
    fn a_narrow_window_still_keeps_the_recurrence() {
        let spectrum: Vec<f64> = (0..40).map(f64::from).collect();
        let operator = with_spectrum(&spectrum, DType::F64, 1);
        let start = Tensor::ones((1, 40), DType::F64, &Device::Cpu).unwrap();
        let with =
            |window| lanczos(&operator, &start, &Reach { num_steps: 8, window, matvecs_before: 0 }, &mut ()).unwrap();
        let (local, full) = (with(2), with(8));
        assert_eq!(local.spaces[0].basis.rows(), 2);
        // No Ritz value converges in eight steps, so rounding n·ε·‖A‖ per step grows by a modest factor only.
        for (a, b) in local.spaces[0].alphas.iter().zip(&full.spaces[0].alphas) {
            assert!((a - b).abs() < 100.0 * 40.0 * f64::EPSILON * 39.0);
        }
    }

    #[test]
    fn a_break_keeps_the_steps_made() {
        let operator = with_spectrum(&clustered_spectrum(20), DType::F64, 1);
        let start = Tensor::ones((2, 20), DType::F64, &Device::Cpu).unwrap();
        let reach = Reach { num_steps: 9, window: 9, matvecs_before: 0 };
        let run = lanczos(&operator, &start, &reach, &mut Breaking::after(3)).unwrap();
        assert!(run.interrupted);
        assert_eq!((run.spaces[1].steps(), run.num_matvecs), (3, 6));
        assert!(row_dots(&start, &start).unwrap()[0] == 20.0);
    }
}
