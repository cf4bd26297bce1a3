//! Groups beside each other: every seed with the mean, and differences with their intervals.

use std::path::{Path, PathBuf};

use super::canvas::{Align, Canvas, Marker, Pen, SMALL, shorten, text_width};
use super::number::{power_of_ten, significant};
use super::palette::{GREY, PALE, optimizer, series};
use super::panel::{Area, Axis, level_axis};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use crate::analysis::compare::{Comparison, GroupDifference, GroupNumbers, QuantityNumbers};
use crate::report::ReportError;

/// More quantities than these do not fit on a page; the tables have all.
const MAX_PANELS: usize = 28;
/// Panels side by side across both columns of a paper.
const ACROSS: usize = 4;
const MAX_ROWS: usize = 24;

/// Writes `groups.*`: a small panel per quantity, a row per group, every seed as a ring and the mean with its 95 % interval;
/// and `differences.*`: relative differences with intervals, a row per quantity, a series per pair.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_groups(comparison: &Comparison, statement: &str, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut paths = groups(comparison, statement, folder)?;
    paths.extend(differences(comparison, statement, folder)?);
    Ok(paths)
}

/// The place of a group among the series: an optimiser's own where all are optimisers.
fn style(groups: &[String], name: &str) -> usize {
    let order = groups.iter().position(|group| group == name).unwrap_or(0);
    let all = groups.iter().all(|group| optimizer(group).is_some());
    if all { optimizer(name).unwrap_or(order) } else { order }
}

fn groups(comparison: &Comparison, statement: &str, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let shown: Vec<&QuantityNumbers> = comparison.quantities.iter().take(MAX_PANELS).collect();
    if shown.is_empty() {
        return Ok(Vec::new());
    }
    let legend = vec![
        (Sample::Mark(Marker::Circle, GREY, true), "a seed".to_owned()),
        (Sample::Mark(Marker::Circle, GREY, false), "mean".into()),
        (Sample::Bar(Pen::solid(GREY, 0.8)), "95 % interval of the mean (t)".into()),
    ];
    let height = 30.0 + 10.0 * comparison.groups.len() as f64;
    let rows = shown.len().div_ceil(ACROSS);
    let sheet = Sheet { legend, body_height: height * rows as f64, statement: statement.to_owned() };
    sheet.write_wide(folder, "groups", |canvas, body| {
        let widest = comparison.groups.iter().map(|name| text_width(name, SMALL)).fold(0.0, f64::max).min(70.0);
        let width = (body.right - body.left - widest - 4.0) / ACROSS as f64;
        for (index, row) in shown.iter().enumerate() {
            let left = body.left + widest + 4.0 + (index % ACROSS) as f64 * width;
            let top = body.top + (index / ACROSS) as f64 * height;
            let area = Area { left, top, right: left + width, bottom: top + height };
            draw_groups(canvas, area, &comparison.groups, row);
            if index % ACROSS == 0 {
                for (place, name) in comparison.groups.iter().enumerate() {
                    let at = (left - 1.0, row_center(area, comparison.groups.len(), place));
                    canvas.text(&shorten(name, SMALL, widest), at, SMALL, Align::Right);
                }
            }
        }
    })
}

/// Space above the first row, for the title, and below the last, for the ticks.
const HEAD: f64 = 12.0;
const FOOT: f64 = 16.0;

fn row_center(area: Area, rows: usize, place: usize) -> f64 {
    let height = (area.bottom - area.top - HEAD - FOOT) / rows.max(1) as f64;
    area.top + HEAD + height * (place as f64 + 0.5)
}

fn draw_groups(canvas: &mut Canvas, area: Area, names: &[String], row: &QuantityNumbers) {
    let reach = row.groups.iter().flat_map(|group| {
        let half = if group.half_width.is_finite() { group.half_width } else { 0.0 };
        let ends = [group.sample.mean - half, group.sample.mean + half];
        group.values.iter().map(|(_, value)| *value).chain(ends).collect::<Vec<_>>()
    });
    let x = Scale::linear(reach.filter(|value| value.is_finite()));
    let inner =
        Area { left: area.left + 5.0, top: area.top + HEAD, right: area.right - 8.5, bottom: area.bottom - FOOT };
    let place = |value: f64| inner.left + x.position(value).clamp(0.0, 1.0) * (inner.right - inner.left);
    for (index, (name, group)) in names.iter().zip(&row.groups).enumerate() {
        let y = row_center(area, names.len(), index);
        canvas.line(&[(inner.left, y), (inner.right, y)], Pen::solid(PALE, 0.3));
        if group.sample.count > 0 {
            draw_group(canvas, group, (style(names, name), y), &place);
        }
    }
    let title = match level_axis(canvas, inner, &Axis::new(x, "")) {
        0 => row.quantity.label.clone(),
        exponent => format!("{} (×{})", row.quantity.label, power_of_ten(exponent)),
    };
    let center = 0.5 * (inner.left + inner.right);
    let title = shorten(&title, SMALL, area.right - area.left);
    canvas.text(&title, (center, area.top + 6.0), SMALL, Align::Center);
}

fn draw_group(canvas: &mut Canvas, group: &GroupNumbers, (index, y): (usize, f64), place: &dyn Fn(f64) -> f64) {
    let color = series(index);
    for (_, value) in &group.values {
        canvas.marker((place(*value), y), Marker::Circle, color, true);
        canvas.hints.add((place(*value), y), color, format!("a seed: {}", significant(*value, 4)));
    }
    if group.half_width.is_finite() {
        let ends = [group.sample.mean - group.half_width, group.sample.mean + group.half_width].map(place);
        canvas.line(&[(ends[0], y), (ends[1], y)], Pen::solid(color, 0.8));
        for end in ends {
            canvas.line(&[(end, y - 2.5), (end, y + 2.5)], Pen::solid(color, 0.8));
        }
        canvas.marker((place(group.sample.mean), y), Marker::series(index), color, false);
        let [mean, half] = [group.sample.mean, group.half_width].map(|value| significant(value, 4));
        canvas.hints.add((place(group.sample.mean), y), color, format!("mean: {mean} ± {half}"));
    }
}

fn differences(comparison: &Comparison, statement: &str, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for row in &comparison.differences {
        if !pairs.contains(&(&row.group, &row.baseline)) {
            pairs.push((&row.group, &row.baseline));
        }
    }
    let quantities: Vec<&QuantityNumbers> = comparison
        .quantities
        .iter()
        .filter(|row| comparison.differences.iter().any(|difference| difference.quantity == row.quantity))
        .take(MAX_ROWS)
        .collect();
    if quantities.is_empty() {
        return Ok(Vec::new());
    }
    let same = pairs.iter().all(|(_, baseline)| *baseline == pairs[0].1);
    let name =
        |(group, baseline): &(&str, &str)| if same { (*group).to_owned() } else { format!("{group} − {baseline}") };
    let look = |index: usize, pair: &(&str, &str)| if same { style(&comparison.groups, pair.0) } else { index };
    let mut legend: Vec<(Sample, String)> = pairs
        .iter()
        .enumerate()
        .map(|(i, pair)| (Sample::Mark(Marker::series(look(i, pair)), series(look(i, pair)), false), name(pair)))
        .collect();
    legend.push((Sample::Mark(Marker::Circle, GREY, true), "not significant (Holm)".into()));
    let row_height = 6.0 + 4.6 * pairs.len() as f64;
    let sheet =
        Sheet { legend, body_height: 28.0 + row_height * quantities.len() as f64, statement: statement.to_owned() };
    sheet.write(folder, "differences", |canvas, body| {
        let widest = quantities.iter().map(|row| text_width(&row.quantity.label, SMALL)).fold(0.0, f64::max).min(116.0);
        let inner =
            Area { left: body.left + widest + 6.0, top: body.top, right: body.right - 8.5, bottom: body.bottom - 26.0 };
        let x = Scale::linear(reach(&comparison.differences).into_iter());
        let place = |value: f64| inner.left + x.position(value).clamp(0.0, 1.0) * (inner.right - inner.left);
        canvas.line(&[(place(0.0), inner.top), (place(0.0), inner.bottom)], Pen::solid(GREY, 0.5));
        for (index, row) in quantities.iter().enumerate() {
            let top = inner.top + row_height * index as f64;
            let words = shorten(&row.quantity.label, SMALL, widest);
            canvas.text(&words, (inner.left - 4.0, top + 0.5 * row_height), SMALL, Align::Right);
            canvas.line(&[(inner.left, top + row_height), (inner.right, top + row_height)], Pen::solid(PALE, 0.3));
            for (order, pair) in pairs.iter().enumerate() {
                let y = top + 3.0 + 4.6 * (order as f64 + 0.5);
                if let Some(found) = comparison.difference(&row.quantity.name, pair.0, pair.1) {
                    draw_difference(canvas, found, (look(order, pair), y), &place);
                }
            }
        }
        let base = if same { pairs[0].1 } else { "the second" };
        level_axis(canvas, inner, &Axis::new(x, format!("difference from {base}, % of its mean")));
    })
}

/// Ends of the intervals in percent, without the few that would leave no room for the others.
fn reach(differences: &[GroupDifference]) -> Vec<f64> {
    let ends = |row: &GroupDifference| [-1.0, 1.0].map(|sign| 100.0 * (row.relative + sign * row.relative_half_width));
    let mut ends: Vec<f64> = differences.iter().flat_map(ends).filter(|end| end.is_finite()).collect();
    ends.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let typical = ends.get(ends.len() * 9 / 10).map_or(1.0, |end| end.abs());
    ends.into_iter().filter(|end| end.abs() <= 2.0 * typical).chain([0.0]).collect()
}

fn draw_difference(canvas: &mut Canvas, row: &GroupDifference, (index, y): (usize, f64), place: &dyn Fn(f64) -> f64) {
    let (value, half) = (100.0 * row.relative, 100.0 * row.relative_half_width);
    if !value.is_finite() {
        return;
    }
    let color = series(index);
    if half.is_finite() {
        canvas.line(&[(place(value - half), y), (place(value + half), y)], Pen::solid(color, 0.7));
    }
    canvas.marker((place(value), y), Marker::series(index), color, !row.is_significant());
    let [words, half] = [value, half].map(|value| significant(value, 3));
    canvas.hints.add((place(value), y), color, format!("{}: {words} ± {half} %", row.quantity.label));
}
