//! A comparison in words.

use super::{Comparison, GroupDifference, QuantityKind};

/// Weights whose norms differ by more than this share are of different scale.
const SAME_SCALE: f64 = 0.02;

/// What may be said of `group` against `baseline`, and under which conditions.
pub(super) fn words(comparison: &Comparison, group: &str, baseline: &str) -> String {
    let rows: Vec<&GroupDifference> =
        comparison.differences.iter().filter(|row| row.group == group && row.baseline == baseline).collect();
    let head = format!("{group} against {baseline}");
    if rows.is_empty() {
        return format!("{head}: no tests, since a group has one seed; differences between single runs say nothing");
    }
    let mut parts = Vec::new();
    let (flatter, sharper, open) = sorted(&rows);
    if !flatter.is_empty() {
        parts.push(format!("flatter in {}", list(&flatter)));
    }
    if !sharper.is_empty() {
        parts.push(format!("sharper in {}", list(&sharper)));
    }
    if !open.is_empty() {
        parts.push(format!("not distinguishable in {}", list(&open)));
    }
    parts.extend(performance(&rows));
    parts.extend(scale(&rows));
    let pairs = rows.iter().map(|row| row.difference.count).min().unwrap_or(0);
    let kind = if rows.iter().all(|row| row.is_paired) { "paired t" } else { "Welch t" };
    format!("{head}: {} (95 %, {kind}, Holm, {pairs} seeds)", parts.join("; "))
}

/// Which tests so few seeds leave powerless; `None` where there are enough.
pub(super) fn least(comparison: &Comparison) -> Option<String> {
    let least = comparison.differences.iter().map(|row| row.difference.exact.least).fold(0.0, f64::max);
    let words = "exact p values, which need no normality, can reach";
    (least > 0.05).then(|| format!("{words} {least:.4} at best with so few seeds: verdicts rest on normal differences"))
}

/// Labels of the measures of flatness in which the group is flatter, sharper, or neither.
fn sorted(rows: &[&GroupDifference]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (mut flatter, mut sharper, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let Some(less) = row.quantity.less_is_flatter else { continue };
        let list = match (row.is_significant(), (row.difference.difference < 0.0) == less) {
            (false, _) => &mut open,
            (true, true) => &mut flatter,
            (true, false) => &mut sharper,
        };
        list.push(row.quantity.label.clone());
    }
    (flatter, sharper, open)
}

fn performance(rows: &[&GroupDifference]) -> Option<String> {
    let row = rows.iter().find(|row| row.quantity.name == "test_accuracy")?;
    let points = 100.0 * row.difference.difference;
    let half = 100.0 * row.difference.half_width;
    let words = if row.is_significant() { "differs" } else { "is not distinguishable" };
    Some(format!("test accuracy {words} ({points:+.2} ± {half:.2} points)"))
}

/// Whether raw curvature may be compared at all.
fn scale(rows: &[&GroupDifference]) -> Option<String> {
    let row = rows.iter().find(|row| row.quantity.kind == QuantityKind::Scale)?;
    let (relative, half) = (100.0 * row.relative, 100.0 * row.relative_half_width);
    if !row.is_significant() && row.relative.abs() <= SAME_SCALE {
        return Some(format!("weight norms agree ({relative:+.1} ± {half:.1} %)"));
    }
    let scaled = rows.iter().any(|row| row.quantity.kind == QuantityKind::ScaledSharpness);
    let advice = if scaled { "the scaled measures decide" } else { "measure `flatness sharpness` too" };
    Some(format!(
        "weight norms differ by {relative:+.1} ± {half:.1} %, so raw curvature is not comparable without normalisation: {advice}"
    ))
}

/// `a, b and c`.
fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
