//! Headline numbers of several runs beside one another.

use super::brush::{Brush, brushes};
use super::canvas::{Align, COLUMN, Canvas, Pen, SMALL, Sign, shorten, text_width};
use super::number::{power_of_ten, significant};
use super::palette::{GREY, PALE, tint};
use super::panel::{Area, Axis, level_axis};
use super::scale::Scale;
use super::sheet::{Part, Sample, Sheet};
use super::style::{Drawn, Target};
use crate::report::ReportError;
use crate::vocabulary::{Curvature, Quantity, Scope, SummaryRow};

/// More quantities than these do not fit on a page; the table has all.
const MAX_PANELS: usize = 12;

/// Writes `comparison.*`: one small panel per quantity, one row per run, points with both errors. Shows the quantities
/// of the whole network (`scope` empty or `all`) that any run has, in the order of first appearance, at most twelve.
/// Nothing is written where there is no such quantity.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_comparison(
    runs: &[(String, Vec<SummaryRow>)],
    statement: &str,
    target: Target<'_>,
) -> Result<Drawn, ReportError> {
    let quantities = quantities(runs);
    if quantities.is_empty() {
        return Ok(Drawn::default());
    }
    let shown = || quantities.iter().flat_map(|quantity| runs.iter().filter_map(move |(_, rows)| find(rows, quantity)));
    let mut legend = Vec::new();
    if shown().any(|row| !row.converged) {
        legend.push((Sample::Mark(Sign::circle(GREY, true)), "not converged".to_owned()));
    }
    if shown().any(|row| row.std_err_data > 0.0) {
        legend.push((Sample::Bar(Pen::solid(GREY, 0.7)), "± 1 s.e. (data rows)".into()));
    }
    if shown().any(|row| row.std_err_numeric > 0.0) {
        legend.push((Sample::Patch(tint(GREY)), "± numeric error".into()));
    }
    let names: Vec<&str> = runs.iter().map(|(name, _)| name.as_str()).collect();
    let brushes = brushes(names.iter().copied());
    let widest = names.iter().map(|name| text_width(name, SMALL)).fold(0.0, f64::max).min(70.0);
    let across = ((target.style.width_or(COLUMN) / LEAST_WIDTH) as usize).max(1);
    let height = HEAD + FOOT + 2.0 + 11.0 * runs.len() as f64;
    let parts = quantities.iter().copied().enumerate().map(|(index, quantity)| {
        let (row, column) = (index / across, index % across);
        let (brushes, names) = (&brushes, &names);
        Part {
            name: format!("{} {}", quantity.0.map_or("", Curvature::name), quantity.2),
            area: Box::new(move |body| {
                let width = (body.right - body.left - widest + 2.0) / across as f64;
                let (left, top) = (body.left + widest - 2.0 + column as f64 * width, body.top + row as f64 * height);
                Area { left, top, right: left + width, bottom: top + height }
            }),
            height,
            draw: Box::new(move |canvas, area, alone| {
                let area = Area { left: if alone { area.left + widest - 2.0 } else { area.left }, ..area };
                draw_quantity(canvas, area, runs, brushes, &quantity);
                for (place, name) in names.iter().enumerate().filter(|_| alone || column == 0) {
                    let at = (area.left + 6.0, row_center(area, runs.len(), place));
                    canvas.text(&shorten(name, SMALL, widest), at, SMALL, Align::Right);
                }
            }),
        }
    });
    let parts: Vec<Part<'_>> = parts.collect();
    let body_height = height * quantities.len().div_ceil(across) as f64;
    let caption = format!("Main numbers of {}, with their errors.", names.join(", "));
    let sheet = Sheet { legend, body_height, caption, statement: statement.to_owned() };
    sheet.write_parts(target, "comparison", &parts)
}

/// Least width of a panel, in points.
const LEAST_WIDTH: f64 = 110.0;

/// Operator, scope and quantity.
type Key<'a> = (Option<Curvature>, &'a Scope, &'a Quantity);

fn key(row: &SummaryRow) -> Key<'_> {
    (row.operator, &row.scope, &row.quantity)
}

fn find<'a>(rows: &'a [SummaryRow], wanted: &Key) -> Option<&'a SummaryRow> {
    rows.iter().find(|row| key(row) == *wanted)
}

fn quantities(runs: &[(String, Vec<SummaryRow>)]) -> Vec<Key<'_>> {
    let mut found: Vec<Key> = Vec::new();
    for row in runs.iter().flat_map(|(_, rows)| rows) {
        if row.scope == Scope::All && row.value.is_finite() && !found.contains(&key(row)) && found.len() < MAX_PANELS {
            found.push(key(row));
        }
    }
    found
}

fn title((operator, _, quantity): Key) -> String {
    match operator {
        None => quantity.label(),
        Some(operator) => format!("{}, {}", quantity.label(), operator.title()),
    }
}

/// Space above the first row, for the title.
const HEAD: f64 = 12.0;
/// Space below the last row, for the ticks.
const FOOT: f64 = 16.0;

fn row_center(area: Area, runs: usize, place: usize) -> f64 {
    let height = (area.bottom - area.top - HEAD - FOOT) / runs.max(1) as f64;
    area.top + HEAD + height * (place as f64 + 0.5)
}

fn draw_quantity(
    canvas: &mut Canvas,
    area: Area,
    runs: &[(String, Vec<SummaryRow>)],
    brushes: &[Brush],
    quantity: &Key,
) {
    let rows: Vec<Option<&SummaryRow>> = runs.iter().map(|(_, rows)| find(rows, quantity)).collect();
    let reach = rows.iter().flatten().flat_map(|row| {
        let error = row.std_err_numeric.max(row.std_err_data).max(0.0);
        [row.value - error, row.value + error]
    });
    let x = Scale::linear(reach);
    let inner =
        Area { left: area.left + 11.0, top: area.top + HEAD, right: area.right - 8.5, bottom: area.bottom - FOOT };
    let center = 0.5 * (inner.left + inner.right);
    let place = |value: f64| inner.left + x.position(value).clamp(0.0, 1.0) * (inner.right - inner.left);
    for (index, (row, brush)) in rows.iter().zip(brushes).enumerate() {
        let y = row_center(area, runs.len(), index);
        canvas.line(&[(inner.left, y), (inner.right, y)], Pen::solid(PALE, 0.3));
        let Some(row) = row.filter(|row| row.value.is_finite()) else { continue };
        let color = brush.color;
        for (error, pen) in
            [(row.std_err_numeric, Pen::solid(tint(color), 4.0)), (row.std_err_data, Pen::solid(color, 0.7))]
        {
            if error > 0.0 {
                canvas.line(&[(place(row.value - error), y), (place(row.value + error), y)], pen);
            }
        }
        if row.std_err_data > 0.0 {
            for end in [row.value - row.std_err_data, row.value + row.std_err_data].map(place) {
                canvas.line(&[(end, y - 2.5), (end, y + 2.5)], Pen::solid(color, 0.7));
            }
        }
        canvas.marker((place(row.value), y), brush.sign(!row.converged));
        canvas.hints.add((place(row.value), y), color, format!("{}: {}", runs[index].0, significant(row.value, 4)));
    }
    let title = match level_axis(canvas, inner, &Axis::new(x, ""), 11.0) {
        0 => title(*quantity),
        exponent => format!("{} (×{})", title(*quantity), power_of_ten(exponent)),
    };
    canvas.text(&title, (center, area.top + 6.0), SMALL, Align::Center);
}
