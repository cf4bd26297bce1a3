//! The tables of `flatness compare`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Columns, column, count, flag, number, text, write_table};
use crate::analysis::compare::{Comparison, GroupDifference, GroupNumbers, Member, MemberNumber};
use crate::report::ReportError;
use crate::vocabulary::Quantity;

/// Writes the tables of `comparison` into `folder`, which exists; returns their paths.
///
/// | table | one row per | notes |
/// |---|---|---|
/// | `members` | member and quantity | every number compared, with its own errors |
/// | `comparison` | group and quantity | over the seeds: `mean`, `std_dev`, the 95 % `t` interval `mean ± half_width`, bootstrap interval; `std_err_numeric` of the mean (it averages down) and `std_err_data` (it does not, since all members saw the same rows) |
/// | `differences` | pair of groups and quantity | whether it is `primary`, `difference ± half_width` (95 %), `p_t`, `p_holm` over the primary or over the exploratory quantities, `p_exact` and the smallest value that it can have, `effect` (Hedges' g), `relative` to the baseline's mean |
///
/// # Errors
/// [`ReportError`] for the first table that fails.
pub fn write_comparison(
    comparison: &Comparison,
    configuration: &Value,
    folder: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let tables = [
        ("members", members(&comparison.members)),
        ("comparison", groups(comparison)),
        ("differences", differences(&comparison.differences)),
    ];
    let write = |(name, columns): (&str, Columns)| {
        let path = folder.join(format!("{name}.parquet"));
        write_table(&path, &columns, configuration).map(|()| path)
    };
    tables.into_iter().map(write).collect()
}

fn members(members: &[Member]) -> Columns {
    let rows: Vec<(&Member, &MemberNumber)> =
        members.iter().flat_map(|member| member.numbers.iter().map(move |number| (member, number))).collect();
    vec![
        (column::GROUP, text(&rows, |(member, _)| &member.group)),
        (column::SEED, count(&rows, |(member, _)| member.seed as usize)),
        (column::MEMBER, text(&rows, |(member, _)| &member.folder)),
        (column::CHECKPOINT_SHA256, text(&rows, |(member, _)| &member.checkpoint_sha256)),
        (column::QUANTITY, text(&rows, |(_, number)| &number.quantity)),
        (column::VALUE, number(&rows, |(_, number)| number.value)),
        (column::STD_ERR_NUMERIC, number(&rows, |(_, number)| number.std_err_numeric)),
        (column::STD_ERR_DATA, number(&rows, |(_, number)| number.std_err_data)),
        (column::CONVERGED, flag(&rows, |(_, number)| number.converged)),
    ]
}

fn groups(comparison: &Comparison) -> Columns {
    let rows: Vec<(&str, &Quantity, &GroupNumbers)> = comparison
        .quantities
        .iter()
        .flat_map(|row| {
            let groups = comparison.groups.iter().zip(&row.groups);
            groups.map(move |(name, group)| (name.as_str(), &row.quantity, group))
        })
        .filter(|(.., group)| group.sample.count > 0)
        .collect();
    vec![
        (column::GROUP, text(&rows, |(name, ..)| name)),
        (column::QUANTITY, text(&rows, |(_, quantity, _)| quantity)),
        ("num_seeds", count(&rows, |(.., group)| group.sample.count)),
        ("mean", number(&rows, |(.., group)| group.sample.mean)),
        ("std_dev", number(&rows, |(.., group)| group.sample.std_dev)),
        ("half_width", number(&rows, |(.., group)| group.half_width)),
        ("bootstrap_low", number(&rows, |(.., group)| group.bootstrap.low)),
        ("bootstrap_high", number(&rows, |(.., group)| group.bootstrap.high)),
        (column::STD_ERR_NUMERIC, number(&rows, |(.., group)| group.std_err_numeric)),
        (column::STD_ERR_DATA, number(&rows, |(.., group)| group.std_err_data)),
        ("num_unconverged", count(&rows, |(.., group)| group.num_unconverged)),
    ]
}

fn differences(rows: &[GroupDifference]) -> Columns {
    vec![
        (column::GROUP, text(rows, |row| &row.group)),
        ("baseline", text(rows, |row| &row.baseline)),
        (column::QUANTITY, text(rows, |row| &row.quantity)),
        ("primary", flag(rows, |row| row.is_primary)),
        ("paired", flag(rows, |row| row.is_paired)),
        ("num_seeds", count(rows, |row| row.difference.count)),
        ("difference", number(rows, |row| row.difference.difference)),
        ("half_width", number(rows, |row| row.difference.half_width)),
        ("relative", number(rows, |row| row.relative)),
        ("relative_half_width", number(rows, |row| row.relative_half_width)),
        ("p_t", number(rows, |row| row.difference.p_t)),
        ("p_holm", number(rows, |row| row.p_holm)),
        ("p_exact", number(rows, |row| row.difference.exact.p)),
        ("p_exact_least", number(rows, |row| row.difference.exact.least)),
        ("effect", number(rows, |row| row.difference.effect)),
    ]
}
