//! Matrices of known spectrum, and operators and observers that misbehave, for the tests of this folder.

use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use nalgebra::{DMatrix, DVector};
use rand_distr::{Distribution, StandardNormal};

use super::{EigenpairsReport, End, Store, SurveyState};
use crate::observer::{Observer, Step};
use crate::operator::DenseOperator;
use crate::operator::{LinearOperator, Product};
use crate::random::{Purpose, stream};
use crate::{Error, Result};

/// `U diag(spectrum) Uᵀ` with a random orthogonal `U`.
pub(crate) fn with_spectrum(spectrum: &[f64], dtype: DType, seed: u64) -> DenseOperator {
    let dim = spectrum.len();
    let mut rng = stream(seed, Purpose::Check);
    let random: DMatrix<f64> = DMatrix::from_fn(dim, dim, |_, _| StandardNormal.sample(&mut rng));
    let basis = random.qr().q();
    let matrix = &basis * DMatrix::from_diagonal(&DVector::from_column_slice(spectrum)) * basis.transpose();
    DenseOperator::new((&matrix + matrix.transpose()) * 0.5, dtype)
}

/// Two outliers at 100 and 90, one at −30, and a dense cluster in [0, 1e-3].
pub(crate) fn clustered_spectrum(dim: usize) -> Vec<f64> {
    let mut spectrum: Vec<f64> = (0..dim).map(|i| 1e-3 * i as f64 / dim as f64).collect();
    spectrum[..3].copy_from_slice(&[100.0, 90.0, -30.0]);
    spectrum
}

/// Ends a computation after some steps.
pub(crate) struct Breaking {
    left: usize,
}

impl Breaking {
    /// Breaks at step `steps`.
    pub(crate) fn after(steps: usize) -> Self {
        Self { left: steps }
    }
}

impl Observer for Breaking {
    fn on_step(&mut self, _step: &Step) -> ControlFlow<()> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Keeps the state at the end of a run.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) Option<SurveyState>);

impl Store for Kept {
    fn load(&mut self) -> Result<Option<SurveyState>> {
        Ok(self.0.clone())
    }
    fn wants(&mut self, _bytes: usize, last: bool) -> bool {
        last
    }
    fn save(&mut self, state: &SurveyState) {
        self.0 = Some(detached(state));
    }
}

/// The same state in memory of its own: a search goes on in that of the states it gives.
pub(crate) fn detached(state: &SurveyState) -> SurveyState {
    let mut state = state.clone();
    state.tensors.values_mut().for_each(|tensor| *tensor = tensor.copy().unwrap());
    state.basis = state.basis.detached();
    state
}

/// `diag(λ)` whose product number `fails_at` (from 1) holds a NaN, or reports an interruption.
pub(crate) struct Failing {
    pub(crate) diagonal: Vec<f64>,
    pub(crate) fails_at: usize,
    pub(crate) interrupts: bool,
    pub(crate) matvecs: std::cell::Cell<usize>,
}

impl Failing {
    pub(crate) fn new(dim: usize, fails_at: usize, interrupts: bool) -> Self {
        let diagonal = (0..dim).map(|i| (i as f64 + 1.0).sqrt()).collect();
        Self { diagonal, fails_at, interrupts, matvecs: std::cell::Cell::new(0) }
    }
}

impl LinearOperator for Failing {
    fn dim(&self) -> usize {
        self.diagonal.len()
    }
    fn dtype(&self) -> DType {
        DType::F64
    }
    fn device(&self) -> &Device {
        &Device::Cpu
    }
    fn apply(&self, block: &Tensor, _observer: &mut dyn Observer) -> Result<Product> {
        let mut rows = block.to_vec2::<f64>()?;
        for row in &mut rows {
            self.matvecs.set(self.matvecs.get() + 1);
            row.iter_mut().zip(&self.diagonal).for_each(|(entry, value)| *entry *= value);
            if self.matvecs.get() == self.fails_at {
                if self.interrupts {
                    return Err(Error::Interrupted);
                }
                row[0] = f64::NAN;
            }
        }
        Ok(Product { block: Tensor::new(rows, &Device::Cpu)?, shards: None })
    }
    fn block_size(&self) -> usize {
        4
    }
}

/// Checks a report against the known spectrum: values, true residuals, flags, orthonormal vectors, signs.
pub(crate) fn assert_pairs(operator: &DenseOperator, spectrum: &[f64], report: &EigenpairsReport, tolerance: f64) {
    let (dim, dtype) = (spectrum.len() as f64, operator.dtype());
    let epsilon = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let mut sorted = spectrum.to_vec();
    sorted.sort_by(f64::total_cmp);
    let norm = sorted[0].abs().max(sorted[sorted.len() - 1].abs());
    // Rounding of vectors and products of length n, in units of ‖A‖.
    let rounding = 10.0 * dim.sqrt() * epsilon * norm;
    for end in [&report.top, &report.bottom] {
        let vectors = end.vectors.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
        for (i, value) in end.ritz_values.iter().enumerate() {
            let exact = if end.end == End::Top { sorted[sorted.len() - 1 - i] } else { sorted[i] };
            assert!(end.converged[i], "{:?} {i}: residual {:e}", end.end, end.residual_norms[i]);
            assert!(end.residual_norms[i] <= tolerance * norm * (1.0 + 1e-6));
            // Bauer & Fike: within the residual of an eigenvalue, here the one of the same rank.
            assert!((value - exact).abs() <= end.residual_norms[i] + rounding, "{:?} {i}: {value} {exact}", end.end);
            let vector = DVector::from_column_slice(&vectors[i]);
            let residual = (operator.matrix() * &vector - &vector * *value).norm();
            assert!((residual - end.residual_norms[i]).abs() <= rounding + dim * f64::EPSILON * norm);
            assert!(vector[vector.iamax()] > 0.0);
            for (j, other) in vectors.iter().enumerate() {
                let dot = vector.dot(&DVector::from_column_slice(other));
                assert!((dot - f64::from(u8::from(i == j))).abs() <= 20.0 * dim.sqrt() * epsilon, "{i} {j}: {dot:e}");
            }
        }
    }
}
