//! A comparison in words.

use super::{Comparison, GroupDifference, QuantityNumbers};
use crate::vocabulary::{Quantity, QuantityKind};

/// Weights whose norms differ by more than this share count as differently scaled.
const SAME_SCALE: f64 = 0.02;

/// What may be said of `group` against `baseline`: a sentence for each primary quantity, the weight norms, and what the
/// exploratory tests found.
pub(super) fn words(comparison: &Comparison, group: &str, baseline: &str) -> Vec<String> {
    let rows: Vec<&GroupDifference> =
        comparison.differences.iter().filter(|row| row.group == group && row.baseline == baseline).collect();
    if rows.is_empty() {
        let is_resolved = |name: &str| {
            let place = comparison.groups.iter().position(|own| own == name);
            place.is_some_and(|place| comparison.quantities.iter().any(|row| row.groups[place].is_resolved()))
        };
        let why = match is_resolved(group) && is_resolved(baseline) {
            true => "a group has only one seed; a difference between single runs shows nothing",
            false => "a group has no number that converged",
        };
        return vec![format!("{group} against {baseline}: not tested, since {why}")];
    }
    let (primary, others): (Vec<&GroupDifference>, Vec<_>) = rows.iter().copied().partition(|row| row.is_primary);
    let mut words: Vec<String> = primary.iter().map(|row| sentence(row)).collect();
    let scale = scale(&rows);
    if let Some((text, true)) = &scale {
        // A measure that does not change when layers are rescaled is put beside them.
        let scaled = others.iter().filter(|row| row.quantity.kind() == QuantityKind::ScaledSharpness);
        words.extend(scaled.take(1).map(|row| sentence(row)));
        words.push(format!("{group} against {baseline}: {text}"));
    } else {
        words.extend(scale.map(|(text, _)| format!("{group} against {baseline}: {text}")));
    }
    words.extend(reached(&rows).map(|text| format!("{group} against {baseline}: {text}")));
    let (flatter, sharper) = sorted(&others);
    let found = [("flatter in", flatter), ("sharper in", sharper)].into_iter().filter(|(_, labels)| !labels.is_empty());
    let found: Vec<String> = found.map(|(what, labels)| format!("{what} {}", list(&labels))).collect();
    if !found.is_empty() {
        let kind = "exploratory, corrected among themselves";
        words.push(format!("{group} against {baseline}, {kind}: {}", found.join("; ")));
    }
    words
}

/// One quantity in a sentence that can be quoted by itself: means, difference, its unadjusted 95 % interval, `p` after
/// correction, and the exact `p` with the smallest value that it can have.
fn sentence(row: &GroupDifference) -> String {
    let is_share = row.quantity.is_share_of_rows();
    let (factor, percent, points) = if is_share { (100.0, " %", " points") } else { (1.0, "", "") };
    let GroupDifference { difference, group, baseline, .. } = row;
    let label = row.quantity.label();
    let relation = match (row.is_significant(), difference.difference < 0.0) {
        (false, _) => "is not distinguishable from",
        (true, true) => "is lower than",
        (true, false) => "is higher than",
    };
    // Two digits of the half-width.
    let half = factor * difference.half_width;
    let decimals =
        if half > 0.0 && half.is_finite() { (1.0 - half.log10().floor()).clamp(0.0, 12.0) as usize } else { 3 };
    let number = |value: f64| format!("{value:.decimals$}").replace('-', "−");
    let signed = |value: f64| format!("{value:+.decimals$}").replace('-', "−");
    let (own, other) = (factor * row.mean, factor * row.baseline_mean);
    let middle = factor * difference.difference;
    let count = difference.count;
    let members =
        if row.is_paired { format!("{count} pairs") } else { format!("Welch's test, at least {count} seeds each") };
    format!(
        "{group}'s {label} {relation} {baseline}'s: {}{percent} against {}{percent}, difference {}{points} (95 % {} to {}, adjusted {}, \
         {members}; exact p {:.4}, smallest possible {:.4})",
        number(own),
        number(other),
        signed(middle),
        signed(middle - half),
        signed(middle + half),
        p(row.p_holm),
        difference.exact.p,
        difference.exact.least,
    )
}

fn p(p: f64) -> String {
    if p < 0.001 { "p < 0.001".into() } else { format!("p {p:.3}") }
}

/// Which quantities did not converge and are not tested, with the groups where these are not all.
pub(super) fn not_resolved(comparison: &Comparison) -> Option<String> {
    let open = |row: &QuantityNumbers| {
        let known = || comparison.groups.iter().zip(&row.groups).filter(|(_, group)| group.sample.count > 0);
        let open: Vec<String> =
            known().filter(|(_, group)| !group.is_resolved()).map(|(name, _)| name.clone()).collect();
        let of = if open.len() == known().count() { String::new() } else { format!(" of {}", list(&open)) };
        let unconverged: usize = known().map(|(_, group)| group.num_unconverged).sum();
        let networks: usize = known().map(|(_, group)| group.sample.count).sum();
        (!open.is_empty()).then(|| format!("{}{of} ({unconverged} of {networks} networks)", row.quantity.label()))
    };
    let open: Vec<String> = comparison.quantities.iter().filter_map(open).collect();
    (!open.is_empty()).then(|| format!("not resolved, so not compared: {}", open.join("; ")))
}

/// A warning if there are too few seeds for the exact tests.
pub(super) fn least(comparison: &Comparison) -> Option<String> {
    let least = comparison.differences.iter().map(|row| row.difference.exact.least).fold(0.0, f64::max);
    let words = "with so few seeds, exact p values, which do not assume normality, cannot fall below";
    (least > 0.05).then(|| format!("{words} {least:.4}: verdicts assume normally distributed differences"))
}

/// Labels of the measures of flatness in which the group is flatter, and sharper.
fn sorted(rows: &[&GroupDifference]) -> (Vec<String>, Vec<String>) {
    let (mut flatter, mut sharper) = (Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| row.is_significant()) {
        let Some(less) = row.quantity.less_is_flatter() else { continue };
        let list = if (row.difference.difference < 0.0) == less { &mut flatter } else { &mut sharper };
        list.push(row.quantity.label());
    }
    (flatter, sharper)
}

/// Whether raw curvature may be compared at all, in words, and whether the norms differ.
fn scale(rows: &[&GroupDifference]) -> Option<(String, bool)> {
    let row = rows.iter().find(|row| row.quantity.kind() == QuantityKind::Scale)?;
    let (relative, half) = (100.0 * row.relative, 100.0 * row.relative_half_width);
    if !row.is_significant() && row.relative.abs() <= SAME_SCALE {
        return Some((format!("weight norms agree ({relative:+.1} ± {half:.1} %)"), false));
    }
    let scaled = rows.iter().any(|row| row.quantity.kind() == QuantityKind::ScaledSharpness);
    let advice = if scaled { "rely on the scaled measures" } else { "run `flatness sharpness` too" };
    let words = format!(
        "weight norms differ by {relative:+.1} ± {half:.1} %, so raw curvature is not comparable without normalisation: {advice}"
    );
    Some((words, true))
}

/// Where the trainings ended, if that differs: how closely a network fits its data changes its curvature by itself.
fn reached(rows: &[&GroupDifference]) -> Option<String> {
    const REACHED: [Quantity; 2] = [Quantity::TrainLoss, Quantity::TrainWrongFitted];
    let differing = rows.iter().filter(|row| row.is_significant() && REACHED.contains(&row.quantity));
    let words =
        differing.map(|row| format!("{} {:.3} against {:.3}", row.quantity.label(), row.mean, row.baseline_mean));
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| {
        format!("training ended at a different point ({}), which may explain part of the difference", list(&words))
    })
}

/// `a, b and c`.
fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
