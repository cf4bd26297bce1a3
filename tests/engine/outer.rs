//! Which matrices are sums of outer products, on which parameters, and their traces.

use candle_core::DType;
use flatness::curvature::{Curvature, CurvatureOperator, ExactParams, OuterRows};
use flatness::objective::Objective;
use flatness::operator::OuterProducts;
use flatness::program::Loss;
use flatness::vocabulary::Scope;

use crate::support::*;

const BATCH_NORM: &str = r#"[
    {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "weight": "a.w"},
    {"kind": "batch_norm2d", "channels": 2, "weight": "n.w", "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
    {"kind": "relu"}, {"kind": "global_avg_pool2d"},
    {"kind": "linear", "in": 2, "out": 3, "weight": "c.w", "bias": "c.b"}]"#;

const ROWS: usize = 13;
const DECAY: f64 = 0.3;

fn problem(train: bool) -> Problem {
    Problem { train, num_shards: 3, ..Problem::new(BATCH_NORM, &[1, 4, 4], ROWS, Loss::cross_entropy(), 91) }
}

fn decayed(problem: &Problem) -> Objective<'_> {
    let mut options = problem.options(DType::F64);
    options.weight_decay = DECAY;
    Objective::new(&problem.network, &problem.data, options).unwrap()
}

#[test]
fn only_sums_over_rows_of_their_own_have_rows() {
    let (apart, coupled) = (problem(false), problem(true));
    let (apart, coupled) = (decayed(&apart), decayed(&coupled));
    for (curvature, each) in [
        (Curvature::Ggn, Some(3)),
        (Curvature::EmpiricalFisher, Some(1)),
        (Curvature::McFisher, Some(1)),
        (Curvature::GradientCovariance, Some(1)),
        (Curvature::Hessian, None),
        (Curvature::Residual, None),
    ] {
        assert_eq!(apart.outer_rows(curvature).unwrap(), each.map(|each| vec![each; ROWS]), "{curvature:?}");
        assert_eq!(coupled.outer_rows(curvature).unwrap(), None, "{curvature:?}");
    }
}

/// On a part of the parameters the columns are those of the whole; squares of the rows add up to the traces, which have the
/// errors of means over the data rows.
#[test]
fn columns_and_traces_are_those_of_the_operator() {
    let problem = problem(false);
    let (objective, n) = (decayed(&problem), problem.dim());
    let theta = vector(&problem.theta);
    for curvature in [Curvature::Ggn, Curvature::EmpiricalFisher, Curvature::GradientCovariance] {
        let operator = CurvatureOperator::new(&objective, &theta, curvature).unwrap();
        let every = Scope::All.resolve(problem.network.space()).unwrap();
        let whole = OuterRows::new(&operator, every).unwrap().unwrap();
        let ranges = vec![2..5, 7..n - 1];
        let part = OuterRows::new(&operator, ranges.clone()).unwrap().unwrap();
        let count = whole.num_rows();
        let all = whole.rows(0..count, &mut ()).unwrap().to_vec2::<f64>().unwrap();
        let some = part.rows(0..count, &mut ()).unwrap().to_vec2::<f64>().unwrap();
        let columns = |row: &Vec<f64>| ranges.iter().cloned().flat_map(|range| row[range].to_vec()).collect::<Vec<_>>();
        assert_eq!(part.dim(), some[0].len());
        assert!(all.iter().map(columns).eq(some.iter().cloned()), "{curvature:?}");

        let shift = if curvature == Curvature::Ggn { DECAY } else { 0.0 };
        assert_eq!(whole.shift(), shift);
        // By tensor; the groups are the first one, and all.
        let lens: Vec<usize> = problem.network.space().tensors().iter().map(|tensor| tensor.len()).collect();
        let squares_of = |row: &Vec<f64>| {
            let mut rest = &row[..];
            let square = |len: &usize| {
                let (own, others) = rest.split_at(*len);
                rest = others;
                own.iter().map(|f| f * f).sum()
            };
            lens.iter().map(square).collect::<Vec<f64>>()
        };
        let squares: Vec<Vec<f64>> = all.iter().map(squares_of).collect();
        let groups = [vec![0], (0..lens.len()).collect()];
        let traces = whole.traces(&squares, &lens, &groups);
        let (values, errors): (Vec<f64>, Vec<f64>) = traces.into_iter().unzip();
        let matrix = dense(&objective, &problem.theta, curvature);
        let diagonal: Vec<f64> = (0..n).map(|i| matrix[i * n + i]).collect();
        let expected = [diagonal[..lens[0]].iter().sum(), diagonal.iter().sum()];
        // Sums of squares: no cancellation, some hundred roundings.
        assert_close(&format!("{curvature:?}"), &values, &expected, 4096.0 * f64::EPSILON * largest(&expected));
        if curvature == Curvature::Ggn {
            let exact = objective.exact_trace(&theta, &groups, &ExactParams::default(), &mut ()).unwrap();
            let expected: Vec<f64> = exact.groups.iter().map(|part| part.std_err_data).collect();
            assert_close("errors", &errors, &expected, 4096.0 * f64::EPSILON * largest(&expected));
            continue;
        }
        // One row each, of weight 1: the standard error of a mean.
        let each: Vec<f64> = squares.iter().map(|squares| ROWS as f64 * squares.iter().sum::<f64>()).collect();
        let mean = each.iter().sum::<f64>() / ROWS as f64;
        let variance = each.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (ROWS - 1) as f64;
        let expected = (variance / ROWS as f64).sqrt();
        assert_close("errors", &errors[1..], &[expected], 4096.0 * f64::EPSILON * expected);
    }
}
