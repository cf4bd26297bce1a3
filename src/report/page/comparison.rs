//! Sections that show a comparison.

use std::path::Path;

use super::{Figure, Part, Row, Section, Table};
use crate::analysis::compare::{Comparison, GroupDifference, GroupNumbers, QuantityNumbers};
use crate::report::terminal::{self, effect, measured, p_value, rounded};
use crate::vocabulary::{Curvature, Quantity, SummaryRow};

/// First the verdict, the figure of all differences and the tests of the primary quantities; then, folded, means, exploratory
/// tests and all seeds. The figures of `comparison` are in the folder `figures`.
pub fn comparison_sections(comparison: &Comparison, figures: &Path) -> Vec<Section> {
    let paragraphs = comparison.verdicts.iter().chain(&comparison.notes).cloned().collect();
    let differences = Figure::one(
        figures,
        "differences",
        "Differences",
        "Relative differences from the baseline with 95 % intervals, one row per quantity. Filled: significant (p ≤ 0.05) \
         after Holm's correction.",
    );
    let seeds = Figure::one(
        figures,
        "groups",
        "Seeds",
        "All seeds of all groups, with means and their 95 % intervals; one panel per quantity.",
    );
    let sections = [
        Section::new("Verdict", [Part::text(paragraphs), differences, tests(comparison, true)]),
        Section::folded("Means over the seeds", [means(comparison)]),
        Section::folded("Exploratory tests", [tests(comparison, false)]),
        Section::folded("All seeds", [seeds]),
    ];
    sections.into_iter().flatten().collect()
}

fn means(comparison: &Comparison) -> Option<Part> {
    let cell = |group: &GroupNumbers| {
        if group.sample.count == 0 {
            return String::new();
        }
        if !group.is_resolved() {
            return terminal::NOT_RESOLVED.to_owned();
        }
        let (value, spread) = rounded(group.sample.mean, group.sample.std_dev);
        format!("{value}{}", spread.map_or(String::new(), |spread| format!(" ± {spread}")))
    };
    let row =
        |row: &QuantityNumbers| Row::new(std::iter::once(row.quantity.label()).chain(row.groups.iter().map(cell)));
    let columns: Vec<(&str, bool)> = std::iter::once(("quantity", false))
        .chain(comparison.groups.iter().map(|group| (group.as_str(), true)))
        .collect();
    let caption = "Means; ±: standard deviation over the seeds.";
    Table::new(&columns, comparison.quantities.iter().map(row).collect(), caption).part()
}

/// Tests of the primary quantities, or of all others.
fn tests(comparison: &Comparison, is_primary: bool) -> Option<Part> {
    let rows: Vec<&GroupDifference> =
        comparison.differences.iter().filter(|row| row.is_primary == is_primary).collect();
    let row = |row: &&GroupDifference| {
        let difference = &row.difference;
        let [value, half_width, _] = measured(difference.difference, [difference.half_width, f64::NAN]);
        Row::new([
            format!("{} − {}", row.group, row.baseline),
            row.quantity.label(),
            value,
            super::table::plain(&half_width),
            format!("{:+.1}", 100.0 * row.relative),
            p_value(difference.p_t),
            p_value(row.p_holm),
            p_value(difference.exact.p),
            effect(difference.effect),
        ])
    };
    let columns = [
        ("pair", false),
        ("quantity", false),
        ("difference", true),
        ("± 95 %", true),
        ("relative in %", true),
        ("p (t)", true),
        ("p (Holm)", true),
        ("p (exact)", true),
        ("Hedges' g", true),
    ];
    let paired = rows.iter().all(|row| row.is_paired);
    let least = rows.iter().map(|row| row.difference.exact.least).fold(0.0, f64::max);
    let caption = format!(
        "{}: {}. Holm's correction is applied over this table (or over each quantity, with --by-quantity). With so few seeds \
         the exact p cannot be below {least:.4}.",
        if is_primary { "The primary quantities" } else { "All other quantities" },
        if paired { "t tests paired by seed" } else { "Welch's t tests, as seeds differ" }
    );
    Table::new(&columns, rows.iter().map(row).collect(), &caption).part()
}

/// The summaries of several runs side by side: one row per quantity, as `value ± error` with both errors combined.
pub fn runs_table(runs: &[(String, Vec<SummaryRow>)]) -> Option<Part> {
    let mut keys: Vec<(&Quantity, Option<Curvature>)> = Vec::new();
    for row in runs.iter().flat_map(|(_, rows)| rows) {
        if !keys.contains(&(&row.quantity, row.operator)) {
            keys.push((&row.quantity, row.operator));
        }
    }
    let row = |key: &(&Quantity, Option<Curvature>)| {
        let cells = runs.iter().map(|(_, rows)| {
            let own = rows.iter().find(|row| (&row.quantity, row.operator) == *key);
            own.map_or(String::new(), |row| terminal::cell(row).trim_end().to_owned())
        });
        let label = match key {
            (quantity, None) => quantity.label(),
            (quantity, Some(operator)) => format!("{}, {}", quantity.label(), operator.title()),
        };
        Row::new([label].into_iter().chain(cells))
    };
    let columns: Vec<(&str, bool)> =
        std::iter::once(("quantity", false)).chain(runs.iter().map(|(name, _)| (name.as_str(), true))).collect();
    let caption = "Numbers of each run; ±: combined error of computation and data rows; *: not converged.";
    Table::new(&columns, keys.iter().map(row).collect(), caption).part()
}
