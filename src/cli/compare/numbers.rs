//! The numbers of one network, read from its tables.

use std::path::Path;

use crate::analysis::compare::MemberNumber;
use crate::report::tables::{Table, column, read_table};
use crate::vocabulary::{Curvature, End, Quantity};

/// Without errors.
fn plain(quantity: Quantity, value: f64) -> MemberNumber {
    MemberNumber { quantity, value, std_err_numeric: f64::NAN, std_err_data: f64::NAN, converged: true }
}

/// A row of a long table, as a number of `quantity`.
pub(super) fn in_row(table: &Table, row: usize, quantity: Quantity) -> MemberNumber {
    MemberNumber {
        quantity,
        value: table.number(column::VALUE, row),
        std_err_numeric: table.number(column::STD_ERR_NUMERIC, row),
        std_err_data: table.number(column::STD_ERR_DATA, row),
        converged: table.flag(column::CONVERGED, row),
    }
}

/// The last row of the metrics.
pub(super) fn trained(folder: &Path) -> Vec<MemberNumber> {
    let Ok(table) = read_table(&folder.join("metrics.parquet")) else { return Vec::new() };
    let last =
        |quantity: Quantity| table.numbers(&quantity.to_string()).last().copied().filter(|value| value.is_finite());
    // Loss and NLL are the same for cross-entropy without smoothing.
    let nll = last(Quantity::TestNll).or(last(Quantity::TestLoss));
    let own = |quantity: Quantity| (quantity.clone(), last(quantity));
    let numbers = [
        own(Quantity::TestAccuracy),
        (Quantity::TestNll, nll),
        own(Quantity::TrainLoss),
        own(Quantity::TrainWrongFitted),
    ];
    numbers.into_iter().filter_map(|(quantity, value)| Some(plain(quantity, value?))).collect()
}

/// What an analysis says of the Hessian on its whole scope, and the largest eigenvalue of the preconditioned one.
pub(super) fn analyzed(summary: &Table, eigenvalues: &Table) -> Vec<MemberNumber> {
    let scope = summary.configuration["analysis"]["scope"].as_str().unwrap_or("all");
    let find = |operator: Option<Curvature>, quantity: Quantity| {
        let (operator, name) = (operator.map_or("", Curvature::name), quantity.to_string());
        let row = (0..summary.num_rows()).find(|row| {
            let whole = summary.text(column::SCOPE, *row) == scope || operator.is_empty();
            whole && summary.text(column::OPERATOR, *row) == operator && summary.text(column::QUANTITY, *row) == name
        })?;
        Some(in_row(summary, row, quantity))
    };
    let mut numbers: Vec<MemberNumber> = find(None, Quantity::ParameterNorm).into_iter().collect();
    let of_hessian = [
        Quantity::LambdaMax,
        Quantity::LambdaMin,
        Quantity::Trace,
        Quantity::NegativeMass,
        Quantity::EffectiveDimension,
    ];
    numbers.extend(of_hessian.into_iter().filter_map(|quantity| find(Some(Curvature::Hessian), quantity)));
    let preconditioned = find(Some(Curvature::PreconditionedHessian), Quantity::LambdaMax);
    numbers.extend(preconditioned.map(|found| MemberNumber { quantity: Quantity::LambdaMaxPreconditioned, ..found }));
    // The traces of Hessian and GGN agree exactly on ReLU networks; their Frobenius norms tell what the residual adds.
    let norm = |operator| find(Some(operator), Quantity::FrobeniusNorm);
    if let (Some(ggn), Some(hessian)) = (norm(Curvature::Ggn), norm(Curvature::Hessian)) {
        let value = ggn.value / hessian.value;
        let std_err_numeric = value * (ggn.std_err_numeric / ggn.value).hypot(hessian.std_err_numeric / hessian.value);
        let converged = ggn.converged && hessian.converged;
        numbers.push(MemberNumber { std_err_numeric, converged, ..plain(Quantity::GgnShare, value) });
    }
    numbers.extend(eigenvalue_ratio(eigenvalues, scope));
    numbers
}

/// `λ₁/λ₅` of the Hessian.
fn eigenvalue_ratio(eigenvalues: &Table, scope: &str) -> Option<MemberNumber> {
    let at = |place: usize| {
        (0..eigenvalues.num_rows()).find(|row| {
            eigenvalues.text(column::OPERATOR, *row) == Curvature::Hessian.name()
                && eigenvalues.text(column::SCOPE, *row) == scope
                && eigenvalues.text(column::END, *row) == End::Top.name()
                && eigenvalues.counts(column::INDEX).get(*row) == Some(&place)
        })
    };
    let (first, fifth) = (at(0)?, at(4)?);
    let value = |row| eigenvalues.number(column::EIGENVALUE, row);
    let relative = |row| eigenvalues.number(column::RESIDUAL_NORM, row) / value(row);
    let ratio = value(first) / value(fifth);
    Some(MemberNumber {
        std_err_numeric: ratio * relative(first).hypot(relative(fifth)),
        converged: eigenvalues.flag(column::CONVERGED, first) && eigenvalues.flag(column::CONVERGED, fifth),
        ..plain(Quantity::LambdaRatio, ratio)
    })
}

/// The rows that comparisons take.
pub(super) fn headline_rows(table: &Table) -> impl Iterator<Item = usize> + '_ {
    (0..table.num_rows()).filter(|row| table.flag(column::HEADLINE, *row))
}

/// The numbers in them.
pub(super) fn headlines(table: &Table) -> Vec<MemberNumber> {
    headline_rows(table).map(|row| in_row(table, row, table.text(column::QUANTITY, row).into())).collect()
}

/// The numbers of an evaluation that are defined.
pub(super) fn evaluated(table: &Table) -> Vec<MemberNumber> {
    let known = (0..table.num_rows()).filter(|row| table.number(column::VALUE, *row).is_finite());
    known.map(|row| in_row(table, row, table.text(column::QUANTITY, row).into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tables::{Column, write_table};
    use crate::train::EpochMetrics;

    #[test]
    fn the_preconditioned_hessian_gives_a_quantity_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let words = |words: [&str; 3]| Column::Text(words.map(str::to_owned).to_vec());
        let numbers = |numbers: [f64; 3]| Column::Number(numbers.to_vec());
        let columns = [
            (column::OPERATOR, words(["hessian", "preconditioned_hessian", "preconditioned_hessian"])),
            (column::SCOPE, words(["all"; 3])),
            (column::QUANTITY, words(["lambda_max", "lambda_max", "trace"])),
            (column::VALUE, numbers([3.0, 70.0, 90.0])),
            (column::STD_ERR_NUMERIC, numbers([0.0; 3])),
            (column::STD_ERR_DATA, numbers([0.5, 4.0, 5.0])),
            (column::CONVERGED, Column::Flag(vec![true; 3])),
        ];
        let path = folder.path().join("summary.parquet");
        write_table(&path, &columns, &serde_json::json!({"analysis": {"scope": "all"}})).unwrap();
        let table = read_table(&path).unwrap();
        let found: Vec<_> = analyzed(&table, &table)
            .into_iter()
            .map(|number| (number.quantity, number.value, number.std_err_data))
            .collect();
        assert_eq!(found, [(Quantity::LambdaMax, 3.0, 0.5), (Quantity::LambdaMaxPreconditioned, 70.0, 4.0)]);
    }

    #[test]
    fn numbers_of_training_are_columns_of_its_metrics() {
        for quantity in [
            Quantity::TestAccuracy,
            Quantity::TestNll,
            Quantity::TestLoss,
            Quantity::TrainAccuracy,
            Quantity::TrainLoss,
            Quantity::TrainWrongFitted,
        ] {
            assert!(EpochMetrics::COLUMNS.contains(&quantity.to_string().as_str()), "{quantity}");
        }
    }
}
