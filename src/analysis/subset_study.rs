//! How curvature depends on the number of rows it is taken over.

use candle_core::Tensor;

use crate::autodiff::Scope;
use crate::curvature::{CurvatureOperator, ExactParams};
use crate::objective::Objective;
use crate::operator::{LinearOperator, Restricted};
use crate::plan::AnalysisOptions;
use crate::random::{Purpose, substream};
use crate::spectral::{EigenParams, EigenReport, eigenpairs};
use crate::vocabulary::{Curvature, Quantity};
use crate::{Observer, Result};

/// One number at one size of subset.
#[derive(Debug, Clone, PartialEq)]
pub struct SubsetRow {
    /// Rows in a subset.
    pub num_rows: usize,
    /// Which number: the largest eigenvalue, whose mean over subsets lies above that of all rows; the same cross-fitted,
    /// whose mean lies below; or the trace, which is unbiased.
    pub quantity: Quantity,
    /// Its mean over the subsets of that size.
    pub value: f64,
    /// Standard error of one subset's value: the standard deviation over eight subsets or more; over fewer, which say too
    /// little, the error of all rows from their shards, times the root of the ratio of rows; NaN where unknown.
    pub std_err: f64,
    /// Subsets of that size, without common rows.
    pub num_subsets: usize,
}

/// Curvature over subsets of growing size.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubsetStudy {
    /// One entry per size and quantity, in any order.
    pub rows: Vec<SubsetRow>,
    /// Of which operator; `None` where there is no study.
    pub operator: Option<Curvature>,
    /// On which parameters.
    pub scope: Scope,
    /// How loss and data were defined, in one line for captions.
    pub statement: String,
}

/// A spread over fewer subsets says too little.
const FEWEST_SUBSETS: usize = 8;
/// Relative residual of a subset's eigenvector: its square is all that the eigenvalue loses.
const TOLERANCE: f64 = 1e-3;
/// Errors that the verdict asks rows for.
const WANTED: f64 = 0.05;

/// One subset: its operator's largest eigenvalue with the vector, and its trace.
struct Subset {
    top: EigenReport,
    trace: Option<(f64, f64)>,
}

/// Largest eigenvalue, plain and cross-fitted, and exact trace, over halves, quarters, eighths … of the shards and over all
/// rows. Subsets of one size share no row; a cross-fitted value measures each one's vector on the next.
///
/// Cost: for each size some 20 products with all rows, and an exact trace where the operator has one.
pub(super) fn subset_study(
    objective: &Objective<'_>,
    theta: &Tensor,
    (kind, options): (Curvature, &AnalysisOptions),
    observer: &mut dyn Observer,
) -> Result<SubsetStudy> {
    let mut study = SubsetStudy { operator: Some(kind), scope: options.scope.clone(), ..SubsetStudy::default() };
    let num_shards = objective.num_shards();
    let most = if objective.couples_rows() { 0 } else { num_shards };
    let sizes = std::iter::successors(Some(1), |count| Some(2 * count)).take_while(|count| *count <= most);
    // All rows first: their errors serve the larger subsets too.
    let mut alone = [f64::NAN; 2];
    for count in sizes {
        let parts = (0..count)
            .map(|part| objective.part(part * num_shards / count..(part + 1) * num_shards / count))
            .collect::<Result<Vec<_>>>()?;
        let on = |index: usize| -> Result<CurvatureOperator<'_>> {
            Ok(CurvatureOperator::new(&parts[index % count], theta, kind)?.with_label_seed(options.seed))
        };
        let ranges = options.scope.resolve(objective.network().space())?;
        let (mut subsets, mut crossed) = (Vec::new(), Vec::new());
        for (index, part) in parts.iter().enumerate() {
            let own = on(index)?;
            let own = Restricted::new(&own, ranges.clone())?;
            let subset = one_subset(&own, (part, theta), (kind, options, index), observer)?;
            if count > 1 {
                let other = on(index + 1)?;
                let other = Restricted::new(&other, ranges.clone())?;
                let product = other.multiply(&subset.top.vectors, observer)?;
                let wide = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::F64);
                crossed.push((wide(&subset.top.vectors)? * wide(&product)?)?.sum_all()?.to_scalar::<f64>()?);
            }
            subsets.push(subset);
        }
        let num_rows = objective.num_rows() / count;
        let mut add = |quantity, values: &[f64], alone: f64| {
            if !values.is_empty() {
                let (value, spread) = mean_and_deviation(values);
                let std_err = if count < FEWEST_SUBSETS { alone * (count as f64).sqrt() } else { spread };
                study.rows.push(SubsetRow { num_rows, quantity, value, std_err, num_subsets: count });
            }
        };
        let traces: Vec<(f64, f64)> = subsets.iter().filter_map(|subset| subset.trace).collect();
        if count == 1 {
            alone = [subsets[0].top.std_err_data[0], traces.first().map_or(f64::NAN, |trace| trace.1)];
        }
        let tops: Vec<f64> = subsets.iter().map(|subset| subset.top.ritz_values[0]).collect();
        add(Quantity::LambdaMax, &tops, alone[0]);
        add(Quantity::LambdaMaxCrossFitted, &crossed, alone[0]);
        add(Quantity::Trace, &traces.iter().map(|trace| trace.0).collect::<Vec<_>>(), alone[1]);
    }
    study.rows.sort_by_key(|row| row.num_rows);
    Ok(study)
}

fn one_subset(
    operator: &dyn LinearOperator,
    (objective, theta): (&Objective<'_>, &Tensor),
    (kind, options, index): (Curvature, &AnalysisOptions, usize),
    observer: &mut dyn Observer,
) -> Result<Subset> {
    let params = EigenParams {
        top: 1,
        bottom: 0,
        tolerance: TOLERANCE,
        max_matvecs: options.budget(),
        ..EigenParams::default()
    };
    let mut rng = substream(options.seed, Purpose::Eigenpairs, index as u64);
    let top = eigenpairs(operator, &params, &mut rng, observer)?.top;
    let exact = kind == Curvature::Ggn || kind == Curvature::Hessian && objective.diagonal_is_hessian();
    let trace = if exact {
        let groups = [options.scope.tensors(objective.network().space())?];
        let params = ExactParams { seed: options.seed, ..ExactParams::default() };
        let total = objective.exact_trace(theta, &groups, &params, observer)?.total;
        Some((total.trace, total.std_err_data))
    } else {
        None
    };
    Ok(Subset { top, trace })
}

/// Mean and standard deviation; that of one value is NaN.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0)).sqrt())
}

impl SubsetStudy {
    /// In words: how far all rows determine each number, and how many rows 5 % would take.
    pub fn verdict(&self) -> Vec<String> {
        let of = |quantity: &Quantity, rank: usize| {
            let mut rows: Vec<&SubsetRow> = self.rows.iter().filter(|row| row.quantity == *quantity).collect();
            rows.sort_by_key(|row| std::cmp::Reverse(row.num_rows));
            rows.get(rank).copied()
        };
        let words = |quantity: Quantity, bias: f64| {
            let all = of(&quantity, 0)?;
            let error = all.std_err / all.value.abs();
            let needed = (all.num_rows as f64 * (error / WANTED).powi(2)).ceil();
            let high =
                if bias > 0.0 { format!(", and by about {:.1} % too high", 100.0 * bias) } else { String::new() };
            let enough = if error <= WANTED {
                format!("{} rows are enough for {:.0} %", all.num_rows, 100.0 * WANTED)
            } else {
                format!("{:.0} % takes about {needed:.0} rows", 100.0 * WANTED)
            };
            let rows = all.num_rows;
            Some(format!(
                "{quantity}: known to {:.1} % from {rows} rows (one standard error){high}; {enough}",
                100.0 * error
            ))
        };
        // A bias that falls like 1/N still has as much left as the last doubling took away.
        let bias = match (of(&Quantity::LambdaMax, 0), of(&Quantity::LambdaMax, 1)) {
            (Some(all), Some(half)) => (half.value - all.value) / all.value.abs(),
            _ => 0.0,
        };
        [words(Quantity::LambdaMax, bias), words(Quantity::Trace, 0.0)].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_names_error_bias_and_rows() {
        let row = |num_rows, quantity, value, std_err| SubsetRow { num_rows, quantity, value, std_err, num_subsets: 2 };
        let study = SubsetStudy {
            rows: vec![
                row(50, Quantity::LambdaMax, 12.0, 3.0),
                row(100, Quantity::LambdaMax, 10.0, 1.0),
                row(100, Quantity::Trace, 200.0, 2.0),
            ],
            ..SubsetStudy::default()
        };
        // 10 % from 100 rows: 5 % takes four times as many; halving the rows added 2 of 10.
        let expected = [
            "lambda_max: known to 10.0 % from 100 rows (one standard error), and by about 20.0 % too high; 5 % takes about 400 rows",
            "trace: known to 1.0 % from 100 rows (one standard error); 100 rows are enough for 5 %",
        ];
        assert_eq!(study.verdict(), expected);
        assert!(SubsetStudy::default().verdict().is_empty());
    }
}
