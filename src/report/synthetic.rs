//! Reports for tests with the shape that real ones have: a few outliers, a bulk near zero, a small negative tail.

use candle_core::{DType, Device, Tensor};

use crate::analysis::{AnalysisReport, SpectrumReport, SubsetStudy, TraceSummary};
use crate::landscape::{SliceKind, SliceReport};
use crate::spectral::{
    Axis, DensityParams, EigenReport, End, Quadrature, RuleSource, SlqReport, Stop, SurveyOutcome, TraceReport,
    density as smoothed, distribution,
};
use crate::vocabulary::{Curvature, Method, Quantity, Scope, SummaryRow};

const DIM: usize = 272_474;

/// A Hessian and a GGN, lines, a plane, a summary.
pub fn report() -> AnalysisReport {
    let spectra = vec![
        spectrum(Curvature::Hessian, &outliers(2100.0), &[-38.0, -21.5, -14.2, -9.9, -7.1]),
        spectrum(Curvature::Ggn, &outliers(2064.0), &[0.0, 0.0, 1e-9, 3e-9, 8e-9]),
    ];
    let mut slices: Vec<SliceReport> = (0..5).map(|i| eigenvector_line(i, outliers(2100.0)[i])).collect();
    slices.extend((0..3).map(random_line));
    slices.push(plane(41));
    let statement = "cross-entropy, mean over 50 000 rows (train, no augmentation), batch norm in eval mode, f32";
    let configuration = serde_json::json!({"checkpoint": "9f2c…", "seed": 0, "num_probes": 10});
    let name = "resnet20-sgd".to_owned();
    AnalysisReport {
        name,
        spectra,
        eigenvectors: Vec::new(),
        subset_study: SubsetStudy::default(),
        slices,
        summary: summary(1.0),
        statement: statement.into(),
        configuration,
    }
}

/// Nothing was asked for.
pub fn empty() -> AnalysisReport {
    AnalysisReport { spectra: Vec::new(), slices: Vec::new(), summary: Vec::new(), ..report() }
}

/// Headline numbers, curvatures multiplied by `sharpness`.
pub fn summary(sharpness: f64) -> Vec<SummaryRow> {
    let row = |operator: Option<Curvature>, quantity, value, std_err_numeric, std_err_data| SummaryRow {
        operator,
        scope: Scope::All,
        converged: quantity != Quantity::LambdaMin,
        quantity,
        value,
        std_err_numeric,
        std_err_data,
        method: if operator.is_none() { Method::Exact } else { Method::Lanczos },
        num_matvecs: if operator.is_none() { 0 } else { 120 },
    };
    let [hessian, ggn] = [Curvature::Hessian, Curvature::Ggn].map(Some);
    let s = sharpness;
    vec![
        row(None, Quantity::Loss, 0.01234 / s.sqrt(), f64::NAN, 0.00041),
        row(None, Quantity::Accuracy, 0.99871, f64::NAN, 0.00016),
        row(None, Quantity::GradientNorm, 0.0521 * s, f64::NAN, f64::NAN),
        row(hessian, Quantity::LambdaMax, 2100.0 * s, 0.012, 41.0 * s),
        row(hessian, Quantity::LambdaMin, -38.0 * s, 4.7, 3.0 * s),
        row(hessian, Quantity::Trace, 14_210.0 * s, 187.0, 260.0 * s),
        row(ggn, Quantity::LambdaMax, 2064.0 * s, 2e-11, 40.0 * s),
        row(ggn, Quantity::Trace, 14_402.0 * s, 150.0, 255.0 * s),
    ]
}

fn outliers(largest: f64) -> Vec<f64> {
    (0..10).map(|i| largest * (300.0f64 / 2100.0).powf(i as f64 / 9.0)).collect()
}

fn eigen(end: End, values: &[f64]) -> EigenReport {
    let size = |i: usize| 1e-3 * values[i].abs() * (1.0 + i as f64);
    EigenReport {
        end,
        ritz_values: values.to_vec(),
        residual_norms: (0..values.len())
            .map(|i| if i + 2 < values.len() { size(i) } else { 80.0 * size(i) })
            .collect(),
        converged: (0..values.len()).map(|i| i + 2 < values.len()).collect(),
        vectors: Tensor::zeros((values.len(), 4), DType::F64, &Device::Cpu).unwrap(),
        std_err_data: values.iter().map(|value| 0.03 * value.abs() + 0.1).collect(),
        shard_forms: None,
        method: Method::Lanczos,
        num_matvecs: 120,
        interrupted: false,
    }
}

fn spectrum(operator: Curvature, top: &[f64], bottom: &[f64]) -> SpectrumReport {
    let samples: Vec<f64> = (0..10).map(|i| 14_210.0 + 590.0 * (1.7 * i as f64).sin()).collect();
    let trace = TraceReport { trace: 14_210.0, std_err_numeric: 187.0, std_err_data: 260.0, samples, num_matvecs: 10 };
    let probes: Vec<Quadrature> = (0..10).map(|probe| quadrature(top, bottom, probe)).collect();
    let slq = SlqReport {
        probes,
        shorter: Vec::new(),
        known: [0, 0],
        dim: DIM,
        num_steps: 80,
        num_matvecs: 800,
        trace: trace.clone(),
        source: RuleSource::Lanczos,
        interrupted: false,
    };
    let density = |axis| smoothed(&slq, &DensityParams { axis, ..DensityParams::default() });
    let places: Vec<f64> = (-8..=8).map(|i| f64::from(i) * 250.0).collect();
    SpectrumReport {
        operator,
        scope: Scope::All,
        top: eigen(End::Top, top),
        bottom: eigen(End::Bottom, bottom),
        densities: [Axis::Linear, Axis::SignedLog, Axis::LogAbs].map(density).into(),
        distribution: distribution(&slq, &places),
        outcome: SurveyOutcome {
            stop: Stop::Converged,
            density_converged: true,
            num_steps: 80,
            basis_rows: 158,
            memory_bound: false,
            num_restarts: 0,
            num_matvecs: 122,
        },
        positive: operator == Curvature::Ggn,
        interrupted: false,
        trace: TraceSummary {
            trace: trace.trace,
            std_err_numeric: trace.std_err_numeric,
            std_err_data: trace.std_err_data,
            samples: trace.samples.clone(),
            method: Method::HutchinsonDeflated,
            converged: false,
            num_matvecs: 10,
            layers: Vec::new(),
        },
        slq,
    }
}

fn quadrature(top: &[f64], bottom: &[f64], probe: usize) -> Quadrature {
    let wobble = |i: usize| (2.3 * probe as f64 + 1.1 * i as f64).sin();
    let bulk = |i: usize| 1e-4 * 10f64.powf(i as f64 / 6.0) * (1.0 + 0.2 * wobble(i));
    let mut outliers: Vec<(f64, f64)> = Vec::new();
    outliers.extend(top.iter().enumerate().map(|(i, v)| (*v, (1.0 + 0.5 * wobble(i)) / DIM as f64)));
    outliers.extend(bottom.iter().enumerate().map(|(i, v)| (*v, (1.0 + 0.5 * wobble(i)) / DIM as f64)));
    let mut pairs: Vec<(f64, f64)> = Vec::new();
    pairs.extend((0..36).map(|i| (bulk(i), (-(i as f64) / 4.0).exp() * (1.0 + 0.3 * wobble(i)))));
    if bottom[0] < 0.0 {
        pairs.extend((0..24).map(|i| (-bulk(i), 0.4 * (-(i as f64) / 3.0).exp() * (1.0 + 0.3 * wobble(i)))));
    }
    let mass = |pairs: &[(f64, f64)]| pairs.iter().map(|(_, weight)| weight).sum::<f64>();
    // The bulk has what the outliers leave.
    let share = (1.0 - mass(&outliers)) / mass(&pairs);
    pairs.iter_mut().for_each(|(_, weight)| *weight *= share);
    pairs.extend(outliers);
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (nodes, weights) = pairs.into_iter().unzip();
    Quadrature { nodes, weights, exact: false }
}

fn line(kind: SliceKind, direction: usize, reach: f64, loss: impl Fn(f64) -> f64) -> SliceReport {
    let x: Vec<f64> = (0..41).map(|i| reach * (i as f64 / 20.0 - 1.0)).collect();
    let loss: Vec<f64> = x.iter().map(|x| loss(*x)).collect();
    SliceReport { direction, slope: 0.1, ..slice(kind, x.clone(), vec![0.0; x.len()], loss) }
}

/// A slice with an accuracy and errors that go with its loss.
fn slice(kind: SliceKind, x: Vec<f64>, y: Vec<f64>, loss: Vec<f64>) -> SliceReport {
    let of_loss = |value: fn(&f64) -> f64| loss.iter().map(value).collect();
    let accuracy: Vec<f64> = of_loss(|loss| (-0.7 * loss).exp());
    let (std_err_data, accuracy_std_err_data) = (of_loss(|loss| 0.05 * loss), vec![0.01; loss.len()]);
    let (slope, curvature) = (f64::NAN, f64::NAN);
    SliceReport { kind, direction: 0, x, y, loss, std_err_data, accuracy, accuracy_std_err_data, slope, curvature }
}

fn eigenvector_line(direction: usize, curvature: f64) -> SliceReport {
    let loss = |x: f64| 0.0123 + (1.0 + 0.5 * curvature * x * x).ln() + 0.04 * curvature.sqrt() * x.powi(3).abs();
    SliceReport { curvature, ..line(SliceKind::Eigenvector, direction, 0.1, loss) }
}

fn random_line(direction: usize) -> SliceReport {
    let scale = 1.0 + 0.3 * direction as f64;
    line(SliceKind::RandomFilter, direction, 1.0, |x| 0.0123 + 1.9 * scale * x * x / (0.4 + x.abs()))
}

/// A quadratic bowl with a nonconvex ripple on `side × side` points of `[-1, 1]²`.
pub fn plane(side: usize) -> SliceReport {
    let at = |i: usize| if side > 1 { 2.0 * i as f64 / (side - 1) as f64 - 1.0 } else { 0.0 };
    let points = (0..side * side).map(|i| (at(i % side), at(i / side)));
    let (x, y): (Vec<f64>, Vec<f64>) = points.unzip();
    let value = |(x, y): (&f64, &f64)| {
        let bowl = 0.0123 + 9.0 * (x * x + 0.4 * y * y + 0.3 * x * y);
        bowl * (1.0 + 0.35 * (5.0 * x).sin() * (4.0 * y).cos() * (x * x + y * y).min(1.0))
    };
    let loss: Vec<f64> = x.iter().zip(&y).map(value).collect();
    slice(SliceKind::RandomPlane, x, y, loss)
}
