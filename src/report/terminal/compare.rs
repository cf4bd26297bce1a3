//! A comparison for people.

use super::{NOT_RESOLVED, aligned, measured, side_by_side, with_error};
use crate::analysis::compare::{Comparison, GroupDifference};

/// Means over the seeds of each group, `± standard deviation`.
pub fn group_means(comparison: &Comparison) -> String {
    let group = |(index, name): (usize, &String)| {
        let cells = comparison.quantities.iter().filter_map(|row| {
            let group = row.groups.get(index).filter(|group| group.sample.count > 0)?;
            let cell = match group.is_resolved() {
                true => with_error(group.sample.mean, group.sample.std_dev),
                false => NOT_RESOLVED.to_owned(),
            };
            Some((row.quantity.label(), cell))
        });
        let count = comparison.members.iter().filter(|member| member.group == *name).count();
        (format!("{name} n={count}"), cells.collect())
    };
    side_by_side(&comparison.groups.iter().enumerate().map(group).collect::<Vec<_>>())
}

/// Differences of one pair of groups, a line per quantity: of those that decide, or of the others.
pub fn pair_differences(comparison: &Comparison, group: &str, baseline: &str, primary: bool) -> String {
    let header = ["", "difference", "± 95 %", "relative", "p (t)", "Holm", "p exact", "g"].map(str::to_owned);
    let own = comparison.differences.iter();
    let own = own.filter(|row| row.group == group && row.baseline == baseline && row.is_primary == primary);
    let lines: Vec<Vec<String>> = std::iter::once(header.to_vec()).chain(own.map(line)).collect();
    if lines.len() == 1 { String::new() } else { aligned(&lines, 1) }
}

fn line(row: &GroupDifference) -> Vec<String> {
    let difference = &row.difference;
    let [value, half_width, _] = measured(difference.difference, [difference.half_width, f64::NAN]);
    let star = if row.is_significant() { "*" } else { " " };
    let relative = if row.relative.is_finite() { format!("{:+.1} %", 100.0 * row.relative) } else { String::new() };
    vec![
        row.quantity.label(),
        value,
        half_width,
        relative,
        p_value(difference.p_t),
        p_value(row.p_holm) + star,
        p_value(difference.exact.p),
        effect(difference.effect),
    ]
}

/// With four digits.
pub(in crate::report) fn p_value(p: f64) -> String {
    if p < 5e-5 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}

/// Hedges' `g`, or a dash where it is not defined.
pub(in crate::report) fn effect(effect: f64) -> String {
    if effect.is_nan() { "–".into() } else { format!("{effect:+.2}") }
}
