//! Spectral densities of a survey with its default steps against all eigenvalues.
//!
//! `cargo bench --bench density -- FOLDER...`: results of `flatness analyze --method dense`, whose eigenvalues are read.
//! A survey's start vectors are uniform on the sphere, so the diagonal matrix of these eigenvalues gives what the network's
//! matrix would. Prints the table of `RESULTS-density.md`; everything is seeded.

use std::path::Path;

use candle_core::DType;
use flatness::operator::DenseOperator;
use flatness::random::{Purpose, substream};
use flatness::report::tables::{Column, read_table};
use flatness::spectral::{Axis, DensityParams, DensityReport, SlqReport, SurveyParams, density, distribution, survey};
use nalgebra::{DMatrix, DVector};

const SEEDS: u64 = 10;
const AXES: [Axis; 3] = [Axis::Linear, Axis::SignedLog, Axis::LogAbs];

fn main() -> flatness::Result<()> {
    let folders: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if folders.is_empty() {
        eprintln!("give results of `flatness analyze --method dense` as arguments");
        return Ok(());
    }
    println!(
        "| network | n | largest | located from | products | linear % | signed log % | log % | distribution % | widest range |"
    );
    println!("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |");
    for folder in &folders {
        let Some(values) = eigenvalues(Path::new(folder)) else {
            eprintln!("{folder}: no eigenvalues in density_nodes.parquet");
            continue;
        };
        println!("{}", row(folder, &values)?);
    }
    Ok(())
}

fn eigenvalues(folder: &Path) -> Option<Vec<f64>> {
    let table = read_table(&folder.join("density_nodes.parquet")).ok()?;
    match (table.column("method"), table.column("node")) {
        (Some(Column::Text(methods)), Some(Column::Number(nodes))) if methods.iter().all(|name| name == "dense") => {
            Some(nodes.clone())
        }
        _ => None,
    }
}

/// Sums over the seeds, as a row of the table.
fn row(name: &str, values: &[f64]) -> flatness::Result<String> {
    let operator = DenseOperator::new(DMatrix::from_diagonal(&DVector::from_column_slice(values)), DType::F64);
    let scale = values.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()));
    let (mut inside, mut places, mut located, mut products) = ([0; 4], [0; 4], 0.0, 0);
    let mut widest: f64 = 0.0;
    for seed in 0..SEEDS {
        let mut rng = substream(seed, Purpose::Survey, 0);
        let params = SurveyParams { top: 5, bottom: 3, ..SurveyParams::default() };
        let found = survey(&operator, &params, &mut rng, &mut (), &mut ())?;
        products += found.outcome.num_matvecs;
        for (index, axis) in AXES.into_iter().enumerate() {
            let curve = density(&found.slq, &DensityParams { axis, ..DensityParams::default() });
            let (held, count) = compare(&curve, values);
            inside[index] += held;
            places[index] += count;
            located += curve.linear_threshold / scale / 3.0;
        }
        let (held, count, width) = compare_distribution(&found.slq, values);
        inside[3] += held;
        places[3] += count;
        widest = widest.max(width);
    }
    let share = |index: usize| 100.0 * f64::from(inside[index]) / f64::from(places[index]);
    Ok(format!(
        "| {} | {} | {scale:.3} | {:.2} % | {} | {:.1} | {:.1} | {:.1} | {:.1} | {widest:.3} |",
        name.rsplit('/').next().unwrap_or(name),
        values.len(),
        100.0 * located / SEEDS as f64,
        products / SEEDS as usize,
        share(0),
        share(1),
        share(2),
        share(3),
    ))
}

/// Places of the curve where the same kernels make of all eigenvalues what lies in its interval; and places looked at,
/// those with a tenth of an eigenvalue's peak.
fn compare(curve: &DensityReport, values: &[f64]) -> (i32, i32) {
    let coordinate = |value: f64| match curve.axis {
        Axis::Linear => value,
        Axis::SignedLog => value.signum() * (1.0 + value.abs() / curve.linear_threshold).log10(),
        Axis::LogAbs => value.abs().log10(),
    };
    let (mut held, mut count) = (0, 0);
    for ((&at, &sigma), [low, high]) in curve.values.iter().zip(&curve.sigma).zip(&curve.range) {
        let peak = 1.0 / (sigma * std::f64::consts::TAU.sqrt() * values.len() as f64);
        let side = |value: &&f64| curve.axis != Axis::LogAbs || **value * at > 0.0;
        let kernel = |value: &f64| (-0.5 * ((coordinate(*value) - coordinate(at)) / sigma).powi(2)).exp();
        let truth = peak * values.iter().filter(side).map(kernel).sum::<f64>();
        if truth > 0.1 * peak {
            count += 1;
            // Pairs count as converged with a residual of 1e-4 of the largest.
            held += i32::from(0.999 * low <= truth && truth <= 1.001 * high);
        }
    }
    (held, count)
}

/// Places where the share of all eigenvalues lies in the range, places looked at, and the widest range.
fn compare_distribution(slq: &SlqReport, values: &[f64]) -> (i32, i32, f64) {
    let scale = values.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()));
    let places: Vec<f64> = (-40..=40)
        .filter(|i| *i != 0)
        .map(|i| f64::from(i).signum() * scale * 10f64.powf(-4.0 + f64::from(i32::abs(i)) / 10.0))
        .collect();
    let report = distribution(slq, &places);
    let truth = |place: f64| values.iter().filter(|value| **value <= place).count() as f64 / values.len() as f64;
    let held = places.iter().zip(&report.range).filter(|(place, [low, high])| {
        // A known eigenvalue next to a place may lie on its other side.
        let slack = 1.5 / values.len() as f64;
        low - slack <= truth(**place) && truth(**place) <= high + slack
    });
    let widest = report.range.iter().map(|[low, high]| high - low).fold(0.0, f64::max);
    (held.count() as i32, places.len() as i32, widest)
}
