//! Headline numbers of several runs beside one another.

use std::path::{Path, PathBuf};

use super::canvas::{Align, Canvas, Marker, Pen, SMALL, shorten, text_width};
use super::number::{power_of_ten, significant};
use super::palette::{GREY, PALE, series, tint};
use super::panel::{Area, Axis, level_axis};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use crate::analysis::SummaryRow;
use crate::report::ReportError;

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
    folder: &Path,
) -> Result<Vec<PathBuf>, ReportError> {
    let quantities = quantities(runs);
    if quantities.is_empty() {
        return Ok(Vec::new());
    }
    let shown = || quantities.iter().flat_map(|quantity| runs.iter().filter_map(move |(_, rows)| find(rows, quantity)));
    let mut legend = Vec::new();
    if shown().any(|row| !row.converged) {
        legend.push((Sample::Mark(Marker::Circle, GREY, true), "not converged".to_owned()));
    }
    if shown().any(|row| row.std_err_data > 0.0) {
        legend.push((Sample::Bar(Pen::solid(GREY, 0.7)), "± 1 s.e. (data rows)".into()));
    }
    if shown().any(|row| row.std_err_numeric > 0.0) {
        legend.push((Sample::Patch(tint(GREY)), "± numeric error".into()));
    }
    let rows = quantities.len().div_ceil(2);
    let height = 30.0 + 11.0 * runs.len() as f64;
    let sheet = Sheet { legend, body_height: height * rows as f64, statement: statement.to_owned() };
    sheet.write(folder, "comparison", |canvas, body| {
        let widest = runs.iter().map(|(name, _)| text_width(name, SMALL)).fold(0.0, f64::max).min(70.0);
        let names = widest - 2.0;
        let half = 0.5 * (body.right - body.left - names);
        for (index, quantity) in quantities.iter().enumerate() {
            let (row, column) = ((index / 2) as f64, (index % 2) as f64);
            let left = body.left + names + column * half;
            let top = body.top + row * height;
            let area = Area { left, top, right: left + half, bottom: top + height };
            draw_quantity(canvas, area, runs, quantity);
            if column == 0.0 {
                for (place, (name, _)) in runs.iter().enumerate() {
                    let at = (left + 6.0, row_center(area, runs.len(), place));
                    canvas.text(&shorten(name, SMALL, widest), at, SMALL, Align::Right);
                }
            }
        }
    })
}

/// Operator, scope and quantity.
type Key<'a> = (&'a str, &'a str, &'a str);

fn key(row: &SummaryRow) -> Key<'_> {
    (&row.operator, &row.scope, &row.quantity)
}

fn find<'a>(rows: &'a [SummaryRow], wanted: &Key) -> Option<&'a SummaryRow> {
    rows.iter().find(|row| key(row) == *wanted)
}

fn quantities(runs: &[(String, Vec<SummaryRow>)]) -> Vec<Key<'_>> {
    let mut found: Vec<Key> = Vec::new();
    for row in runs.iter().flat_map(|(_, rows)| rows) {
        let whole = row.scope.is_empty() || row.scope == "all";
        if whole && row.value.is_finite() && !found.contains(&key(row)) && found.len() < MAX_PANELS {
            found.push(key(row));
        }
    }
    found
}

fn title((operator, _, quantity): Key) -> String {
    let words = match quantity {
        "lambda_max" => "λ₁",
        "lambda_min" => "smallest λ",
        "gradient_norm" => "gradient norm",
        other => &other.replace('_', " "),
    };
    match operator {
        "" => words.to_owned(),
        "hessian" => format!("{words}, Hessian"),
        "ggn" => format!("{words}, GGN"),
        other => format!("{words}, {other}"),
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

fn draw_quantity(canvas: &mut Canvas, area: Area, runs: &[(String, Vec<SummaryRow>)], quantity: &Key) {
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
    for (index, row) in rows.iter().enumerate() {
        let y = row_center(area, runs.len(), index);
        canvas.line(&[(inner.left, y), (inner.right, y)], Pen::solid(PALE, 0.3));
        let Some(row) = row.filter(|row| row.value.is_finite()) else { continue };
        let color = series(index);
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
        canvas.marker((place(row.value), y), Marker::series(index), color, !row.converged);
        canvas.hints.add((place(row.value), y), color, format!("{}: {}", runs[index].0, significant(row.value, 4)));
    }
    let title = match level_axis(canvas, inner, &Axis::new(x, "")) {
        0 => title(*quantity),
        exponent => format!("{} (×{})", title(*quantity), power_of_ten(exponent)),
    };
    canvas.text(&title, (center, area.top + 6.0), SMALL, Align::Center);
}
