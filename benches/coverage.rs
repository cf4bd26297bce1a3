//! How often the 95 % intervals hold the truth, on operators small enough for thousands of repetitions.
//!
//! `cargo bench --bench coverage`; prints the table of `RESULTS-coverage.md`. Everything is seeded: equal tables, always.

use candle_core::{DType, Device, Tensor};
use flatness::kernels::KeepingAllocator;
use flatness::operator::{DenseOperator, LinearOperator};
use flatness::random::{Purpose, substream};
use flatness::spectral::{
    CrossFitParams, DeflatedTraceParams, Deflation, EigenParams, SpectralMeasure, SurveyParams, cross_fit,
    deflated_trace, eigenpairs, survey,
};
use flatness::statistics::student_quantile;
use nalgebra::{DMatrix, DVector};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

#[global_allocator]
static ALLOCATOR: KeepingAllocator = KeepingAllocator::new();

const REPEATS: u64 = 2_000;
/// Seeds: the operators are drawn once, rows and probes anew in each repetition.
const SEED: u64 = 11;
const SHARDS: usize = 16;
/// Gap to the next eigenvalue, in data standard errors, from which the plain interval of an eigenvalue is offered.
const CLEAR_GAP: f64 = 5.0;

fn main() -> flatness::Result<()> {
    println!("| what | case | interval | coverage % | too low % | too high % | mean half width, % of truth |");
    println!("| --- | --- | --- | --: | --: | --: | --: |");
    probes()?;
    norms()?;
    shards()?;
    top_eigenvalue()
}

/// How often intervals held the truth, and on which side they missed.
#[derive(Default)]
struct Tally {
    held: usize,
    below: usize,
    above: usize,
    half_widths: f64,
}

impl Tally {
    fn add(&mut self, [low, high]: [f64; 2], truth: f64) {
        self.held += usize::from(low <= truth && truth <= high);
        self.below += usize::from(high < truth);
        self.above += usize::from(low > truth);
        self.half_widths += 0.5 * (high - low) / truth.abs();
    }

    fn print(&self, what: &str, case: &str, interval: &str) {
        let count = self.held + self.below + self.above;
        let share = |part: usize| 100.0 * part as f64 / count.max(1) as f64;
        println!(
            "| {what} | {case} | {interval} | {:.1} | {:.1} | {:.1} | {:.2} |",
            share(self.held),
            share(self.below),
            share(self.above),
            100.0 * self.half_widths / count.max(1) as f64
        );
    }
}

fn around(value: f64, half_width: f64) -> [f64; 2] {
    [value - half_width, value + half_width]
}

/// `U diag(spectrum) Uᵀ` with a random orthogonal `U`.
fn with_spectrum(spectrum: &[f64]) -> DMatrix<f64> {
    let dim = spectrum.len();
    let mut rng = substream(SEED, Purpose::Check, 0);
    let basis = normal_matrix(dim, dim, &mut rng).qr().q();
    let matrix = &basis * DMatrix::from_diagonal(&DVector::from_column_slice(spectrum)) * basis.transpose();
    (&matrix + matrix.transpose()) * 0.5
}

fn normal_matrix(rows: usize, columns: usize, rng: &mut impl Rng) -> DMatrix<f64> {
    DMatrix::from_fn(rows, columns, |_, _| StandardNormal.sample(rng))
}

/// Standard normal quantile of a 95 % interval.
const NORMAL: f64 = 1.959_963_984_540_054;

/// Trace intervals from the random probes, at a fixed operator.
fn probes() -> flatness::Result<()> {
    let spectra: [(&str, Vec<f64>); 4] = [
        ("flat, n = 60", (0..60).map(|i| 1.0 + 0.5 * (f64::from(i) * 0.7).sin()).collect()),
        ("power law i^-1, n = 60", (1..=60).map(|i| 1.0 / f64::from(i)).collect()),
        ("one outlier of 20, n = 60", (0..60).map(|i| if i == 0 { 20.0 } else { 0.5 }).collect()),
        ("three outliers, negative tail, n = 40", outliers(40)),
    ];
    for (name, spectrum) in &spectra {
        let operator = DenseOperator::new(with_spectrum(spectrum), DType::F64);
        traces("trace, probes", name, &operator, None)?;
    }
    for (name, spectrum) in &spectra[2..] {
        let operator = DenseOperator::new(with_spectrum(spectrum), DType::F64);
        let params = EigenParams { top: 3, bottom: 0, ..EigenParams::default() };
        let pairs = eigenpairs(&operator, &params, &mut substream(SEED, Purpose::Eigenpairs, 0), &mut ())?.top;
        traces("trace, deflated", name, &operator, Some((&pairs.vectors, &pairs.ritz_values)))?;
    }
    Ok(())
}

fn outliers(dim: usize) -> Vec<f64> {
    (0..dim).map(|i| [10.0, 6.0, 4.0, -3.0, -1.0].get(i).copied().unwrap_or(0.02 * i as f64)).collect()
}

/// With the first round of the program, and with its stopping rule.
fn traces(what: &str, name: &str, operator: &DenseOperator, known: Option<(&Tensor, &[f64])>) -> flatness::Result<()> {
    let truth = operator.matrix().trace();
    let nothing = Tensor::zeros((0, operator.dim()), DType::F64, &Device::Cpu)?;
    let (vectors, values) = known.unwrap_or((&nothing, &[]));
    let deflation = Deflation { vectors, values, forms: None };
    let fixed = DeflatedTraceParams { num_probes: 8, trace_tol: 0.0, known: 0.0, max_matvecs: 8 };
    let stopping = DeflatedTraceParams { num_probes: 8, trace_tol: 0.02, known: 0.0, max_matvecs: 128 };
    for (rule, params) in [("8 probes", fixed), ("doubled from 8 until SE is 2 %", stopping)] {
        let (mut spread, mut student) = (Tally::default(), Tally::default());
        for repeat in 0..REPEATS {
            let mut rng = substream(SEED, Purpose::Probes, repeat);
            let report = deflated_trace(operator, &deflation, &params, &mut rng, &mut ())?;
            // Where a multiple of the identity is left, nothing but rounding is.
            let rounding = 1e-12 * truth.abs();
            spread.add(around(report.trace, NORMAL * report.std_err_numeric + rounding), truth);
            let count = report.samples.len() as f64;
            let mean = report.samples.iter().sum::<f64>() / count;
            let squares: f64 = report.samples.iter().map(|sample| (sample - mean).powi(2)).sum();
            let std_err = (squares / (count * (count - 1.0))).sqrt();
            student.add(around(report.trace, student_quantile(0.975, count - 1.0) * std_err + rounding), truth);
        }
        spread.print(what, &format!("{name}, {rule}"), "1.96 SE");
        if params.trace_tol == 0.0 {
            student.print(what, &format!("{name}, {rule}"), "t from the samples, for comparison");
        }
    }
    Ok(())
}

/// Norms read off a survey with its default steps and start vectors; all that converges is known.
fn norms() -> flatness::Result<()> {
    // Outliers, a bulk over four decades, a negative tail, a third zero.
    let bulk = |i: usize| 10f64.powf(-4.0 * (0.618 * i as f64).fract());
    let value = |i: usize| match i {
        0..8 => 40.0 * 0.7f64.powi(i as i32),
        8..200 => 2.0 * bulk(i),
        200..260 => -0.5 * bulk(i),
        _ => 0.0,
    };
    let spectrum: Vec<f64> = (0..400).map(value).collect();
    // As good as any other matrix: the start vectors of a survey are uniform on the sphere.
    let operator = DenseOperator::new(DMatrix::from_diagonal(&spectrum.clone().into()), DType::F64);
    let truths = [spectrum.iter().map(|v| v.abs()).sum(), spectrum.iter().map(|v| v * v).sum::<f64>().sqrt()];
    let mut tallies = [Tally::default(), Tally::default()];
    for repeat in 0..REPEATS / 4 {
        let mut rng = substream(SEED, Purpose::Survey, repeat);
        let params = SurveyParams { top: 5, bottom: 3, ..SurveyParams::default() };
        let found = survey(&operator, &params, &mut rng, &mut (), &mut ())?;
        let measure = SpectralMeasure::of(&found.slq);
        for (index, estimate) in [measure.nuclear_norm(), measure.frobenius_norm()].into_iter().enumerate() {
            tallies[index].add(around(estimate.value, NORMAL * estimate.std_err_numeric), truths[index]);
        }
    }
    for (name, tally) in ["nuclear norm", "Frobenius norm"].iter().zip(&tallies) {
        tally.print(name, "as of a network, n = 400, default survey", "1.96 SE (probes)");
    }
    Ok(())
}

/// Rows `x` with independent entries of variance `variances`, times a random scale of each row; `A` is the mean of `x xᵀ`.
struct Population {
    variances: Vec<f64>,
    /// Log-normal spread of the rows' scales; 0 for normal rows.
    spread: f64,
}

impl Population {
    /// Second moments of `shards` times `rows` rows.
    fn draw(&self, shards: usize, rows: usize, rng: &mut impl Rng) -> Vec<(usize, DMatrix<f64>)> {
        let shard = |_| {
            let mut sample = normal_matrix(self.variances.len(), rows, rng);
            for mut row in sample.column_iter_mut() {
                let normal: f64 = StandardNormal.sample(rng);
                // E exp(2sZ − 2s²) = 1.
                let scale = (self.spread * normal - self.spread * self.spread).exp();
                row.iter_mut().zip(&self.variances).for_each(|(entry, variance)| *entry *= scale * variance.sqrt());
            }
            (rows, &sample * sample.transpose() / rows as f64)
        };
        (0..shards).map(shard).collect()
    }

    fn top(&self) -> f64 {
        self.variances.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Trace intervals from the data shards: no probe error, since the whole basis is the declared set.
fn shards() -> flatness::Result<()> {
    for (name, variances, rows, spread) in [
        ("normal rows", outlier_variances(20), 8, 0.0),
        ("normal rows", outlier_variances(20), 64, 0.0),
        ("heavy rows (log-normal scale, s = 0.5)", outlier_variances(20), 8, 0.5),
        ("heavy rows (log-normal scale, s = 0.5)", outlier_variances(20), 64, 0.5),
    ] {
        let population = Population { variances, spread };
        let truth: f64 = population.variances.iter().sum();
        let quantile = student_quantile(0.975, SHARDS as f64 - 1.0);
        let mut tally = Tally::default();
        for repeat in 0..REPEATS {
            let mut rng = substream(SEED, Purpose::Shards, repeat);
            let operator = DenseOperator::from_shards(population.draw(SHARDS, rows, &mut rng), DType::F64);
            let report = exact_trace(&operator, &mut rng)?;
            tally.add(around(report.0, quantile * report.1), truth);
        }
        let case = format!("{name}, {SHARDS} shards of {rows}, n = 20");
        tally.print("trace, data", &case, "t, 15 degrees");
    }
    Ok(())
}

fn outlier_variances(dim: usize) -> Vec<f64> {
    (0..dim).map(|i| [5.0, 3.0].get(i).copied().unwrap_or(0.5)).collect()
}

/// Trace and its data error, with every unit vector in the declared set.
fn exact_trace(operator: &DenseOperator, rng: &mut impl Rng) -> flatness::Result<(f64, f64)> {
    let dim = operator.dim();
    let identity: Vec<f64> = DMatrix::<f64>::identity(dim, dim).as_slice().to_vec();
    let vectors = Tensor::from_vec(identity, (dim, dim), &Device::Cpu)?;
    let forms = operator.apply(&vectors, &mut ())?.shards;
    let values: Vec<f64> = operator.matrix().diagonal().iter().copied().collect();
    let deflation = Deflation { vectors: &vectors, values: &values, forms: forms.as_ref() };
    let params = DeflatedTraceParams { num_probes: 2, trace_tol: 0.0, known: 0.0, max_matvecs: 2 };
    let report = deflated_trace(operator, &deflation, &params, rng, &mut ())?;
    Ok((report.trace, report.std_err_data))
}

/// The largest eigenvalue: its interval where the gap is clear, else the bracket of cross-fitted and in-sample value.
fn top_eigenvalue() -> flatness::Result<()> {
    for (name, variances, rows) in [
        ("clear gap (20 over 1), n = 20", vec_of(20, &[20.0], 1.0), 64),
        ("clear gap (20 over 1), n = 20", vec_of(20, &[20.0], 1.0), 16),
        ("gap 5 over 3, n = 20", vec_of(20, &[5.0, 3.0], 0.5), 64),
        ("gap 5 over 4.5, n = 20", vec_of(20, &[5.0, 4.5], 0.5), 16),
        ("no gap (all 1), n = 20", vec_of(20, &[], 1.0), 16),
        ("few rows (8 over 1), n = 40", vec_of(40, &[8.0], 1.0), 4),
    ] {
        let population = Population { variances, spread: 0.0 };
        let truth = population.top();
        let (mut plain, mut ruled, mut clear) = (Tally::default(), Tally::default(), 0);
        let quantile = student_quantile(0.975, SHARDS as f64 - 1.0);
        for repeat in 0..REPEATS {
            let mut rng = substream(SEED, Purpose::Shards, repeat);
            let shards = population.draw(SHARDS, rows, &mut rng);
            let all = Top::of(&DenseOperator::from_shards(shards.clone(), DType::F64), &mut rng)?;
            let interval = around(all.value, quantile * all.std_err);
            plain.add(interval, truth);
            let is_clear = all.gap > CLEAR_GAP * all.std_err;
            clear += usize::from(is_clear);
            ruled.add(if is_clear { interval } else { all.bracket(shards, &mut rng)? }, truth);
        }
        let case = format!("{name}, {SHARDS} shards of {rows}");
        plain.print("top eigenvalue", &case, "t, for comparison");
        let bracketed = 100.0 - 100.0 * clear as f64 / REPEATS as f64;
        ruled.print("top eigenvalue", &case, &format!("t or bracket (in {bracketed:.0} % of samples)"));
    }
    Ok(())
}

fn vec_of(dim: usize, first: &[f64], rest: f64) -> Vec<f64> {
    (0..dim).map(|i| first.get(i).copied().unwrap_or(rest)).collect()
}

/// The top eigenvalue of all rows.
struct Top {
    value: f64,
    std_err: f64,
    gap: f64,
    vector: Tensor,
}

impl Top {
    fn of(operator: &DenseOperator, rng: &mut impl Rng) -> flatness::Result<Self> {
        let params = EigenParams { top: 2, bottom: 0, ..EigenParams::default() };
        let pairs = eigenpairs(operator, &params, rng, &mut ())?.top;
        let [value, next] = [pairs.ritz_values[0], pairs.ritz_values[1]];
        let (std_err, vector) = (pairs.std_err_data[0], pairs.vectors.narrow(0, 0, 1)?);
        Ok(Self { value, std_err, gap: value - next, vector })
    }

    /// From the cross-fitted value less `t SE` (14 degrees: 7 of each half) to that of all rows plus `t SE` (15).
    fn bracket(&self, mut shards: Vec<(usize, DMatrix<f64>)>, rng: &mut impl Rng) -> flatness::Result<[f64; 2]> {
        let second = DenseOperator::from_shards(shards.split_off(SHARDS / 2), DType::F64);
        let first = DenseOperator::from_shards(shards, DType::F64);
        let params = CrossFitParams::default();
        let report = cross_fit([&first, &second], &params, Some(&self.vector), rng, &mut ())?;
        let degrees = SHARDS as f64;
        let low = report.cross_fitted[0] - student_quantile(0.975, degrees - 2.0) * report.cross_fitted_std_err[0];
        Ok([low, self.value + student_quantile(0.975, degrees - 1.0) * self.std_err])
    }
}
