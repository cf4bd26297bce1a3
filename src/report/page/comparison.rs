//! Sections that show a comparison.

use std::path::Path;

use super::Section;
use crate::analysis::compare::{Comparison, GroupDifference, GroupNumbers};
use crate::report::terminal::{effect, measured, p_value, rounded};

/// Verdict, means, differences and figures of `comparison`, whose figures lie in `figures`.
pub fn comparison_sections(comparison: &Comparison, figures: &Path) -> Vec<Section> {
    let paragraphs = comparison.verdicts.iter().chain(&comparison.notes).cloned().collect();
    let mut sections = vec![Section::Text { title: "Verdict".into(), paragraphs }];
    sections.extend(Section::figure(
        "Differences",
        figures,
        &[(
            "differences",
            "differences",
            "Relative differences from the baseline with 95 % intervals, a row per quantity",
        )],
        "",
    ));
    sections.extend(Section::figure(
        "Groups",
        figures,
        &[("groups", "groups", "Every seed of every group, means with 95 % intervals, a panel per quantity")],
        "",
    ));
    sections.push(means(comparison));
    for (title, is_primary) in [("Tests of the primary quantities", true), ("Exploratory tests", false)] {
        let rows: Vec<&GroupDifference> =
            comparison.differences.iter().filter(|row| row.is_primary == is_primary).collect();
        if !rows.is_empty() {
            sections.push(differences(title, &rows));
        }
    }
    sections
}

fn means(comparison: &Comparison) -> Section {
    let cell = |group: &GroupNumbers| {
        if group.sample.count == 0 {
            return String::new();
        }
        let (value, spread) = rounded(group.sample.mean, group.sample.std_dev);
        let star = if group.num_unconverged > 0 { "*" } else { "" };
        format!("{value}{}{star}", spread.map_or(String::new(), |spread| format!(" ± {spread}")))
    };
    let row = |row: &crate::analysis::compare::QuantityNumbers| {
        std::iter::once(row.quantity.label.clone()).chain(row.groups.iter().map(cell)).collect()
    };
    let columns = std::iter::once(("quantity".to_owned(), false));
    Section::Table {
        title: "Means over the seeds".into(),
        columns: columns.chain(comparison.groups.iter().map(|group| (group.clone(), true))).collect(),
        rows: comparison.quantities.iter().map(row).collect(),
        caption: "± is the standard deviation over the seeds; * some numbers did not converge.".into(),
    }
}

fn differences(title: &str, rows: &[&GroupDifference]) -> Section {
    let row = |row: &&GroupDifference| {
        let difference = &row.difference;
        let [value, half_width, _] = measured(difference.difference, [difference.half_width, f64::NAN]);
        vec![
            format!("{} − {}", row.group, row.baseline),
            row.quantity.label.clone(),
            value,
            half_width.trim_start_matches("± ").to_owned(),
            format!("{:+.1}", 100.0 * row.relative),
            p_value(difference.p_t),
            p_value(row.p_holm),
            p_value(difference.exact.p),
            effect(difference.effect),
        ]
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
    Section::Table {
        title: title.into(),
        columns: columns.map(|(name, number)| (name.to_owned(), number)).to_vec(),
        rows: rows.iter().map(row).collect(),
        caption: format!(
            "{}; Holm's correction is over this table, if not over each quantity; the exact p can reach {least:.4} at best with so few \
             seeds.",
            if paired { "t tests of pairs with equal seeds" } else { "Welch's t tests where seeds differ" }
        ),
    }
}
