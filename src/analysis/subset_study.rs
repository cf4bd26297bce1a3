//! How curvature depends on the number of rows it is taken over.

use candle_core::Tensor;

use super::task::Task;
use crate::curvature::{ExactParams, ExactPart};
use crate::operator::{LinearOperator, Restricted};
use crate::random::{Purpose, substream};
use crate::spectral::{EigenParams, EigenReport, eigenpairs};
use crate::statistics::Sample;
use crate::vocabulary::{Curvature, Quantity, Scope};
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
    /// Standard error of the value of one subset: the standard deviation over the subsets if there are eight or more,
    /// otherwise the error of all rows from their shards, times the root of the ratio of rows; NaN if unknown.
    pub std_err: f64,
    /// Number of subsets of that size, which have no rows in common.
    pub num_subsets: usize,
}

/// Curvature over subsets of growing size.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubsetStudy {
    /// One entry per size and quantity, in any order.
    pub rows: Vec<SubsetRow>,
    /// The operator; `None` if there is no study.
    pub operator: Option<Curvature>,
    /// The parameters.
    pub scope: Scope,
    /// How loss and data were defined, in one line for captions.
    pub statement: String,
}

/// Minimum number of subsets for a standard deviation over them.
const FEWEST_SUBSETS: usize = 8;
/// Relative residual of a subset's eigenvector; the error of the eigenvalue is its square.
const TOLERANCE: f64 = 1e-3;
/// Relative standard error that the verdict gives a number of rows for.
const WANTED: f64 = 0.05;

/// Results of one subset: the largest eigenvalue with its vector, and the trace.
struct Subset {
    top: EigenReport,
    trace: Option<ExactPart>,
}

/// Largest eigenvalue, plain and cross-fitted, and exact trace, over all rows and over halves, quarters, eighths … of the
/// shards. Subsets of one size have no rows in common; a cross-fitted value evaluates the vector of one on the next.
///
/// Cost: for each size about 20 products with all rows, and an exact trace if the operator has one.
pub(super) fn subset_study(task: Task<'_>, observer: &mut dyn Observer) -> Result<SubsetStudy> {
    let Task { objective, curvature, options, .. } = task;
    let mut study = SubsetStudy { operator: Some(curvature), scope: options.scope.clone(), ..SubsetStudy::default() };
    let num_shards = objective.num_shards();
    let most = if objective.couples_rows() { 0 } else { num_shards };
    let sizes = std::iter::successors(Some(1), |count| Some(2 * count)).take_while(|count| *count <= most);
    // All rows first: their errors serve the larger subsets too.
    let mut alone = [f64::NAN; 2];
    for count in sizes {
        let parts = (0..count)
            .map(|part| objective.part(part * num_shards / count..(part + 1) * num_shards / count))
            .collect::<Result<Vec<_>>>()?;
        let ranges = task.ranges()?;
        let (mut subsets, mut crossed) = (Vec::new(), Vec::new());
        for (index, part) in parts.iter().enumerate() {
            let own = task.operator_of(part)?;
            let own = Restricted::new(&own, ranges.clone())?;
            let subset = one_subset(&own, Task { objective: part, ..task }, index, observer)?;
            if count > 1 {
                let other = task.operator_of(&parts[(index + 1) % count])?;
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
                let sample = Sample::of(values);
                let std_err = if count < FEWEST_SUBSETS { alone * (count as f64).sqrt() } else { sample.std_dev };
                study.rows.push(SubsetRow { num_rows, quantity, value: sample.mean, std_err, num_subsets: count });
            }
        };
        let traces: Vec<&ExactPart> = subsets.iter().filter_map(|subset| subset.trace.as_ref()).collect();
        if count == 1 {
            alone = [subsets[0].top.std_err_data[0], traces.first().map_or(f64::NAN, |trace| trace.std_err_data)];
        }
        let tops: Vec<f64> = subsets.iter().map(|subset| subset.top.ritz_values[0]).collect();
        add(Quantity::LambdaMax, &tops, alone[0]);
        add(Quantity::LambdaMaxCrossFitted, &crossed, alone[0]);
        add(Quantity::Trace, &traces.iter().map(|trace| trace.trace).collect::<Vec<_>>(), alone[1]);
    }
    study.rows.sort_by_key(|row| row.num_rows);
    Ok(study)
}

fn one_subset(
    operator: &dyn LinearOperator,
    task: Task<'_>,
    index: usize,
    observer: &mut dyn Observer,
) -> Result<Subset> {
    let Task { objective, theta, curvature, options, .. } = task;
    let params = EigenParams {
        top: 1,
        bottom: 0,
        tolerance: TOLERANCE,
        max_matvecs: options.budget(),
        ..EigenParams::default()
    };
    let mut rng = substream(options.seed, Purpose::Eigenpairs, index as u64);
    let top = eigenpairs(operator, &params, &mut rng, observer)?.top;
    let exact = curvature == Curvature::Ggn || curvature == Curvature::Hessian && objective.diagonal_is_hessian();
    let trace = if exact {
        let groups = [options.scope.tensors(task.space())?];
        let params = ExactParams { seed: options.seed, ..ExactParams::default() };
        let total = objective.exact_trace(theta, &groups, &params, observer)?.total;
        Some(total)
    } else {
        None
    };
    Ok(Subset { top, trace })
}

impl SubsetStudy {
    /// In words: how precisely all rows determine each number, and how many rows a precision of 5 % would take.
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
                if bias > 0.0 { format!(", biased upwards by about {:.1} %", 100.0 * bias) } else { String::new() };
            let enough = if error <= WANTED {
                format!("{} rows are enough for {:.0} %", all.num_rows, 100.0 * WANTED)
            } else {
                format!("{:.0} % would take about {needed:.0} rows", 100.0 * WANTED)
            };
            let rows = all.num_rows;
            Some(format!("{quantity}: relative standard error {:.1} % with {rows} rows{high}; {enough}", 100.0 * error))
        };
        // A bias that falls like 1/N is as large as its change with the last doubling.
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
            "lambda_max: relative standard error 10.0 % with 100 rows, biased upwards by about 20.0 %; 5 % would take about 400 rows",
            "trace: relative standard error 1.0 % with 100 rows; 100 rows are enough for 5 %",
        ];
        assert_eq!(study.verdict(), expected);
        assert!(SubsetStudy::default().verdict().is_empty());
    }
}
