//! Groups beside each other: every seed with the mean, and differences with their intervals.

use super::brush::{Brush, brushes};
use super::canvas::{Align, Canvas, PAGE, Pen, SMALL, Sign, shorten, text_width};
use super::number::{power_of_ten, significant};
use super::palette::{GREY, PALE};
use super::panel::{Area, Axis, level_axis};
use super::scale::Scale;
use super::sheet::{Part, Sample, Sheet};
use super::style::{Drawn, Target};
use crate::analysis::compare::{Comparison, GroupDifference, GroupNumbers, QuantityNumbers};
use crate::report::ReportError;

/// More quantities than these do not fit on a page; the tables have all.
const MAX_PANELS: usize = 28;
/// Least width of a panel, in points.
const LEAST_WIDTH: f64 = 110.0;
const MAX_ROWS: usize = 24;

/// Writes `groups.*`: a small panel per quantity, a row per group, every seed as a ring and the mean with its 95 % interval;
/// and `differences.*`: relative differences with intervals, a row per quantity, a series per pair.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_groups(comparison: &Comparison, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let mut drawn = groups(comparison, statement, target)?;
    drawn.extend(differences(comparison, statement, target)?);
    Ok(drawn)
}

fn groups(comparison: &Comparison, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let resolved = comparison.quantities.iter().filter(|row| row.groups.iter().any(GroupNumbers::is_resolved));
    let shown: Vec<&QuantityNumbers> = resolved.take(MAX_PANELS).collect();
    if shown.is_empty() {
        return Ok(Drawn::default());
    }
    let legend = vec![
        (Sample::Mark(Sign::circle(GREY, true)), "one seed".to_owned()),
        (Sample::Mark(Sign::circle(GREY, false)), "mean".into()),
        (Sample::Bar(Pen::solid(GREY, 0.8)), "95 % interval of the mean (t)".into()),
    ];
    let names = &comparison.groups;
    let brushes = brushes(names.iter().map(String::as_str));
    let widest = names.iter().map(|name| text_width(name, SMALL)).fold(0.0, f64::max).min(70.0);
    let across = ((target.style.width_or(PAGE) / LEAST_WIDTH) as usize).max(1);
    let height = HEAD + FOOT + 2.0 + 10.0 * names.len() as f64;
    let parts = shown.iter().copied().enumerate().map(|(index, row)| {
        let (line, column) = (index / across, index % across);
        let brushes = &brushes;
        Part {
            name: row.quantity.to_string(),
            area: Box::new(move |body| {
                let width = (body.right - body.left - widest - 4.0) / across as f64;
                let (left, top) = (body.left + widest + 4.0 + column as f64 * width, body.top + line as f64 * height);
                Area { left, top, right: left + width, bottom: top + height }
            }),
            height,
            draw: Box::new(move |canvas, area, alone| {
                let area = Area { left: if alone { area.left + widest + 4.0 } else { area.left }, ..area };
                draw_groups(canvas, area, brushes, row);
                for (place, name) in names.iter().enumerate().filter(|_| alone || column == 0) {
                    let at = (area.left - 1.0, row_center(area, names.len(), place));
                    canvas.text(&shorten(name, SMALL, widest), at, SMALL, Align::Right);
                }
            }),
        }
    });
    let parts: Vec<Part<'_>> = parts.collect();
    let body_height = height * shown.len().div_ceil(across) as f64;
    let caption =
        format!("All seeds of {}, with the mean and its 95 % interval (t); one panel per quantity.", names.join(", "));
    let sheet = Sheet { legend, body_height, caption, statement: statement.to_owned() };
    sheet.write_wide_parts(target, "groups", &parts)
}

/// Space above the first row, for the title, and below the last, for the ticks.
const HEAD: f64 = 12.0;
const FOOT: f64 = 16.0;

fn row_center(area: Area, rows: usize, place: usize) -> f64 {
    let height = (area.bottom - area.top - HEAD - FOOT) / rows.max(1) as f64;
    area.top + HEAD + height * (place as f64 + 0.5)
}

fn draw_groups(canvas: &mut Canvas, area: Area, brushes: &[Brush], row: &QuantityNumbers) {
    let reach = row.groups.iter().filter(|group| group.is_resolved()).flat_map(|group| {
        let half = if group.half_width.is_finite() { group.half_width } else { 0.0 };
        let ends = [group.sample.mean - half, group.sample.mean + half];
        group.values.iter().map(|(_, value)| *value).chain(ends).collect::<Vec<_>>()
    });
    let x = Scale::linear(reach.filter(|value| value.is_finite()));
    let inner =
        Area { left: area.left + 5.0, top: area.top + HEAD, right: area.right - 8.5, bottom: area.bottom - FOOT };
    let place = |value: f64| inner.left + x.position(value).clamp(0.0, 1.0) * (inner.right - inner.left);
    for (index, (brush, group)) in brushes.iter().zip(&row.groups).enumerate() {
        let y = row_center(area, brushes.len(), index);
        canvas.line(&[(inner.left, y), (inner.right, y)], Pen::solid(PALE, 0.3));
        if group.is_resolved() {
            draw_group(canvas, group, *brush, y, &place);
        }
    }
    let title = match level_axis(canvas, inner, &Axis::new(x, ""), 8.0) {
        0 => row.quantity.label(),
        exponent => format!("{} (×{})", row.quantity.label(), power_of_ten(exponent)),
    };
    let center = 0.5 * (inner.left + inner.right);
    let title = shorten(&title, SMALL, area.right - area.left);
    canvas.text(&title, (center, area.top + 6.0), SMALL, Align::Center);
}

fn draw_group(canvas: &mut Canvas, group: &GroupNumbers, brush: Brush, y: f64, place: &dyn Fn(f64) -> f64) {
    let color = brush.color;
    for (_, value) in &group.values {
        canvas.marker((place(*value), y), Sign::circle(color, true));
        canvas.hints.add((place(*value), y), color, format!("one seed: {}", significant(*value, 4)));
    }
    if group.half_width.is_finite() {
        let ends = [group.sample.mean - group.half_width, group.sample.mean + group.half_width].map(place);
        canvas.line(&[(ends[0], y), (ends[1], y)], Pen::solid(color, 0.8));
        for end in ends {
            canvas.line(&[(end, y - 2.5), (end, y + 2.5)], Pen::solid(color, 0.8));
        }
        canvas.marker((place(group.sample.mean), y), brush.sign(false));
        let [mean, half] = [group.sample.mean, group.half_width].map(|value| significant(value, 4));
        canvas.hints.add((place(group.sample.mean), y), color, format!("mean: {mean} ± {half}"));
    }
}

fn differences(comparison: &Comparison, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
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
        return Ok(Drawn::default());
    }
    let same = pairs.iter().all(|(_, baseline)| *baseline == pairs[0].1);
    let name =
        |(group, baseline): &(&str, &str)| if same { (*group).to_owned() } else { format!("{group} − {baseline}") };
    // A group has its own look where all are compared with the same one, so that it is that of the other figures.
    let brushes: Vec<Brush> = if same {
        let all = brushes(comparison.groups.iter().map(String::as_str));
        let own = |(group, _): &(&str, &str)| comparison.groups.iter().position(|name| name == group);
        pairs.iter().map(|pair| own(pair).map_or(Brush::series(0), |at| all[at])).collect()
    } else {
        (0..pairs.len()).map(Brush::series).collect()
    };
    let mut legend: Vec<(Sample, String)> =
        brushes.iter().zip(&pairs).map(|(brush, pair)| (Sample::Mark(brush.sign(false)), name(pair))).collect();
    legend.push((Sample::Mark(Sign::circle(GREY, true)), "not significant (Holm)".into()));
    let row_height = 6.0 + 4.6 * pairs.len() as f64;
    let caption = format!(
        "Relative differences of {}, with 95 % intervals; filled: significant (p ≤ 0.05) after Holm's correction.",
        pairs.iter().map(|(group, baseline)| format!("{group} from {baseline}")).collect::<Vec<_>>().join(", ")
    );
    let body_height = 28.0 + row_height * quantities.len() as f64;
    let sheet = Sheet { legend, body_height, caption, statement: statement.to_owned() };
    sheet.write(target, "differences", |canvas, body| {
        let widest =
            quantities.iter().map(|row| text_width(&row.quantity.label(), SMALL)).fold(0.0, f64::max).min(132.0);
        let inner =
            Area { left: body.left + widest + 6.0, top: body.top, right: body.right - 8.5, bottom: body.bottom - 26.0 };
        let x = Scale::linear(reach(&comparison.differences).into_iter());
        let place = |value: f64| inner.left + x.position(value).clamp(0.0, 1.0) * (inner.right - inner.left);
        canvas.line(&[(place(0.0), inner.top), (place(0.0), inner.bottom)], Pen::solid(GREY, 0.5));
        for (index, row) in quantities.iter().enumerate() {
            let top = inner.top + row_height * index as f64;
            let words = shorten(&row.quantity.label(), SMALL, widest);
            canvas.text(&words, (inner.left - 4.0, top + 0.5 * row_height), SMALL, Align::Right);
            canvas.line(&[(inner.left, top + row_height), (inner.right, top + row_height)], Pen::solid(PALE, 0.3));
            for (order, pair) in pairs.iter().enumerate() {
                let y = top + 3.0 + 4.6 * (order as f64 + 0.5);
                if let Some(found) = comparison.difference(&row.quantity, pair.0, pair.1) {
                    draw_difference(canvas, found, brushes[order], y, &place);
                }
            }
        }
        let base = if same { pairs[0].1 } else { "the second" };
        let axis = Axis::new(x, format!("difference from {base}, % of its mean"));
        level_axis(canvas, inner, &axis, inner.left);
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

fn draw_difference(canvas: &mut Canvas, row: &GroupDifference, brush: Brush, y: f64, place: &dyn Fn(f64) -> f64) {
    let (value, half) = (100.0 * row.relative, 100.0 * row.relative_half_width);
    if !value.is_finite() {
        return;
    }
    let color = brush.color;
    if half.is_finite() {
        canvas.line(&[(place(value - half), y), (place(value + half), y)], Pen::solid(color, 0.7));
    }
    canvas.marker((place(value), y), brush.sign(!row.is_significant()));
    let [words, half] = [value, half].map(|value| significant(value, 3));
    canvas.hints.add((place(value), y), color, format!("{}: {words} ± {half} %", row.quantity.label()));
}
