//! Hard spectra for [`super::eigenpairs`]: clustered, repeated, indefinite, deficient, ill-conditioned, tiny, large.

use candle_core::{DType, Device, Tensor};
use nalgebra::DVector;
use rand_distr::{Distribution, StandardNormal};

use super::vectors::products;
use super::{EigenParams, EigenpairsReport, End, eigenpairs};
use crate::observer::Observer;
use crate::operator::{LinearOperator, Product};
use crate::random::{Purpose, stream};
use crate::{Error, Result};

/// `Q diag(λ) Qᵀ` with `Q` a product of three Householder reflections: dense, of known spectrum, `12 n` operations.
struct Reflected {
    spectrum: Vec<f64>,
    normals: Vec<DVector<f64>>,
    dtype: DType,
}

impl Reflected {
    fn new(spectrum: &[f64], dtype: DType) -> Self {
        let mut rng = stream(5, Purpose::Check);
        let mut normal = || DVector::from_fn(spectrum.len(), |_, _| StandardNormal.sample(&mut rng)).normalize();
        Self { spectrum: spectrum.to_vec(), normals: vec![normal(), normal(), normal()], dtype }
    }
}

fn reflect(vector: &mut DVector<f64>, normal: &DVector<f64>) {
    let twice = 2.0 * vector.dot(normal);
    vector.axpy(-twice, normal, 1.0);
}

impl LinearOperator for Reflected {
    fn dim(&self) -> usize {
        self.spectrum.len()
    }
    fn dtype(&self) -> DType {
        self.dtype
    }
    fn device(&self) -> &Device {
        &Device::Cpu
    }
    fn apply(&self, block: &Tensor, _observer: &mut dyn Observer) -> Result<Product> {
        let mut entries = Vec::new();
        for row in block.to_dtype(DType::F64)?.to_vec2::<f64>()? {
            let mut vector = DVector::from_vec(row);
            self.normals.iter().for_each(|normal| reflect(&mut vector, normal));
            vector.iter_mut().zip(&self.spectrum).for_each(|(entry, value)| *entry *= value);
            self.normals.iter().rev().for_each(|normal| reflect(&mut vector, normal));
            entries.extend_from_slice(vector.as_slice());
        }
        let product = Tensor::from_vec(entries, block.dims(), &Device::Cpu).map_err(Error::from)?;
        Ok(Product { block: product.to_dtype(self.dtype)?, shards: None })
    }
}

/// Each value within its reported residual of the exact one *of the same rank*: that counts multiplicities and lets no
/// ghost in. Vectors orthonormal, all converged.
fn check(spectrum: &[f64], dtype: DType, params: &EigenParams) -> EigenpairsReport {
    let operator = Reflected::new(spectrum, dtype);
    let report = eigenpairs(&operator, params, &mut stream(3, Purpose::Eigenpairs), &mut ()).unwrap();
    let mut sorted = spectrum.to_vec();
    sorted.sort_by(f64::total_cmp);
    let norm = spectrum.iter().fold(0.0, |norm: f64, value| norm.max(value.abs()));
    let epsilon = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    // Rounding of vectors and products of length n, in units of ‖A‖, as in the tests of small matrices.
    let unit = 10.0 * (spectrum.len() as f64).sqrt() * epsilon;
    let case = format!("n = {}, {dtype:?}, {params:?}", spectrum.len());
    for end in [&report.top, &report.bottom] {
        for (i, value) in end.ritz_values.iter().enumerate() {
            let exact = if end.end == End::Top { sorted[sorted.len() - 1 - i] } else { sorted[i] };
            assert!(end.converged[i], "{case}: {:?} {i} has residual {:e}", end.end, end.residual_norms[i]);
            let error = (value - exact).abs();
            assert!(error <= end.residual_norms[i] + unit * norm, "{case}: {:?} {i}: {value} {exact}", end.end);
        }
        let gram = products(&end.vectors, &end.vectors).unwrap();
        let worst = (&gram - nalgebra::DMatrix::identity(gram.nrows(), gram.nrows())).amax();
        assert!(worst <= 2.0 * unit, "{case}: {worst:e}");
    }
    assert_eq!((report.top.ritz_values.len(), report.bottom.ritz_values.len()), (params.top, params.bottom));
    report
}

const PRECISIONS: [(DType, f64); 2] = [(DType::F64, 1e-9), (DType::F32, 1e-5)];

fn ends(top: usize, bottom: usize, tolerance: f64) -> EigenParams {
    EigenParams { top, bottom, tolerance, max_matvecs: 4_000, ..EigenParams::default() }
}

/// Like a network's: outliers, a bulk at zero, a small negative tail.
fn network_like(dim: usize) -> Vec<f64> {
    let bulk = |i: usize| 0.01 * (i as f64 * 0.7).sin();
    let value = |i: usize| match i {
        0..10 => 100.0 / (1.0 + 0.5 * i as f64),
        10..15 => -3.0 / (i - 9) as f64,
        _ => bulk(i),
    };
    (0..dim).map(value).collect()
}

#[test]
fn every_dimension_from_one_to_two_thousand() {
    for dim in [1_usize, 2, 3, 17, 127, 128, 129, 130, 400, 2_000] {
        for (dtype, tolerance) in PRECISIONS {
            let (top, bottom) = (dim.div_ceil(2).min(6), (dim / 2).min(3));
            check(&network_like(dim), dtype, &ends(top, bottom, tolerance));
        }
    }
}

#[test]
fn clusters_a_thousandth_wide_are_told_apart() {
    // Six values 1e-3 apart at the top, four at the bottom, against a tolerance of 1e-5 at most.
    let mut spectrum: Vec<f64> = (0..600).map(|i| 0.5 * (i as f64 * 0.7).sin()).collect();
    (0..6).for_each(|i| spectrum[i] = 1.0 - 1e-3 * i as f64);
    (6..10).for_each(|i| spectrum[i] = -1.0 + 1e-3 * i as f64);
    for (dtype, tolerance) in PRECISIONS {
        check(&spectrum, dtype, &ends(6, 4, tolerance));
    }
}

#[test]
fn repeated_values_come_out_as_often_as_they_are_there() {
    // As often as the block is wide, on a bulk that is not.
    let mut spectrum: Vec<f64> = (0..500).map(|i| 0.3 * (i as f64 * 0.7).sin()).collect();
    spectrum[..4].fill(2.0);
    spectrum[4..7].fill(-1.0);
    for (dtype, tolerance) in PRECISIONS {
        check(&spectrum, dtype, &EigenParams { block: 4, ..ends(6, 4, tolerance) });
        // A few distinct values fill the whole space: Krylov spaces close, multiplicity far above the block.
        let few: Vec<f64> = (0..500).map(|i| [3.0, -2.0, 1.0, 0.0][i % 4]).collect();
        check(&few, dtype, &ends(5, 5, tolerance));
        check(&vec![-4.0; 300], dtype, &ends(3, 2, tolerance));
    }
}

#[test]
fn low_rank_and_a_condition_of_a_trillion() {
    for (dtype, tolerance) in PRECISIONS {
        let mut deficient = vec![0.0; 1_000];
        deficient[..7].copy_from_slice(&[50.0, 20.0, 20.0, 5.0, 1.0, -1.0, -30.0]);
        // Two zeros at the end of each list: the rank is seen.
        check(&deficient, dtype, &ends(7, 4, tolerance));
        let conditioned: Vec<f64> = (0..700).map(|i| 10.0_f64.powf(-12.0 * f64::from(i) / 699.0)).collect();
        check(&conditioned, dtype, &ends(5, 0, tolerance));
        let indefinite: Vec<f64> =
            conditioned.iter().enumerate().map(|(i, v)| if i % 2 == 0 { *v } else { -v }).collect();
        check(&indefinite, dtype, &ends(4, 4, tolerance));
    }
}

#[test]
fn a_scale_changes_no_relative_accuracy() {
    for (dtype, tolerance) in PRECISIONS {
        let params = ends(6, 3, tolerance);
        let one = check(&network_like(400), dtype, &params);
        for scale in [1e-7, 1e-10, 1e6] {
            // λ₁ of 1e-5, 1e-8 and 1e8. `check` itself measures in units of ‖A‖.
            let scaled: Vec<f64> = network_like(400).iter().map(|value| scale * value).collect();
            let report = check(&scaled, dtype, &params);
            // The same path up to rounding: two restarts more or less would be a threshold that is not relative.
            assert!(report.top.num_matvecs.abs_diff(one.top.num_matvecs) <= 10, "{scale}: {}", report.top.num_matvecs);
        }
    }
}
