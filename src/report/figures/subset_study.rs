//! Curvature against the number of rows it is taken over.

use std::path::{Path, PathBuf};

use super::canvas::{Canvas, Marker, Pen, dash};
use super::palette::{series, tint};
use super::panel::{Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use crate::analysis::{SubsetQuantity, SubsetRow, SubsetStudy};
use crate::report::ReportError;

/// What shares an axis, with its title.
const PANELS: [(&[SubsetQuantity], &str); 2] = [
    (&[SubsetQuantity::LambdaMax, SubsetQuantity::LambdaMaxCrossFitted], "largest λ"),
    (&[SubsetQuantity::Trace], "trace"),
];

/// Writes `subset_study.*`: largest eigenvalue, plain and cross-fitted, above the trace, with bands of one standard
/// error, over a logarithmic axis of rows. Nothing is written where the study has no finite number.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_subset_study(study: &SubsetStudy, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let curve = |quantity: &SubsetQuantity| -> (SubsetQuantity, Vec<&SubsetRow>) {
        let known = |row: &&SubsetRow| row.quantity == *quantity && row.value.is_finite() && row.num_rows > 0;
        let mut rows: Vec<&SubsetRow> = study.rows.iter().filter(known).collect();
        rows.sort_by_key(|row| row.num_rows);
        (*quantity, rows)
    };
    let curves = |quantities: &[SubsetQuantity]| -> Vec<(SubsetQuantity, Vec<&SubsetRow>)> {
        quantities.iter().map(curve).filter(|(_, rows)| !rows.is_empty()).collect()
    };
    let panels: Vec<_> = PANELS.iter().map(|(quantities, title)| (curves(quantities), *title)).collect();
    let panels: Vec<_> = panels.into_iter().filter(|(curves, _)| !curves.is_empty()).collect();
    if panels.is_empty() {
        return Ok(Vec::new());
    }
    let all = || panels.iter().flat_map(|(curves, _)| curves);
    let legend = all().map(|(quantity, _)| (Sample::Band(pen(*quantity)), words(*quantity).to_owned())).collect();
    let statement = format!("± 1 s.e. of one subset. {}", study.statement);
    let sheet = Sheet { legend, body_height: 80.0 * panels.len() as f64 + 14.0, statement };
    sheet.write(folder, "subset_study", |canvas, body| {
        let x = Scale::log(all().flat_map(|(_, rows)| rows).map(|row| row.num_rows as f64));
        let reach = |row: &&SubsetRow| {
            let error = if row.std_err > 0.0 { row.std_err } else { 0.0 };
            [row.value - error, row.value + error]
        };
        let axis = |curves: &[(SubsetQuantity, Vec<&SubsetRow>)], title: &str| {
            Axis::new(Scale::linear(curves.iter().flat_map(|(_, rows)| rows).flat_map(reach)), title)
        };
        let axes: Vec<Axis> = panels.iter().map(|(curves, title)| axis(curves, title)).collect();
        let left = axes.iter().map(|axis| axis.room(72.0)).fold(0.0, f64::max);
        // The lower panel also holds the labels.
        let shares: &[(f64, f64)] = if panels.len() == 2 { &[(0.0, 0.46), (0.46, 1.0)] } else { &[(0.0, 1.0)] };
        for (((curves, _), y), (from, to)) in panels.iter().zip(axes).zip(shares) {
            let across = if *to == 1.0 { Axis::new(x, "rows") } else { Axis::bare(x) };
            let panel = Panel::new(body.rows(*from, *to), left, across, y);
            for (quantity, rows) in curves {
                draw_curve(canvas, &panel, *quantity, rows);
            }
            panel.draw_axes(canvas);
        }
    })
}

fn draw_curve(canvas: &mut Canvas, panel: &Panel, quantity: SubsetQuantity, rows: &[&SubsetRow]) {
    let pen = pen(quantity);
    let points = || rows.iter().map(|row| (row.num_rows as f64, row.value));
    let bounds = |row: &&SubsetRow| (row.num_rows as f64, row.value - row.std_err, row.value + row.std_err);
    panel.band(canvas, &rows.iter().map(bounds).collect::<Vec<_>>(), tint(pen.color));
    panel.curve(canvas, points(), pen);
    for point in points() {
        panel.mark(canvas, point, (Marker::series(index(quantity)), pen.color, false));
    }
}

fn index(quantity: SubsetQuantity) -> usize {
    match quantity {
        SubsetQuantity::LambdaMax => 0,
        SubsetQuantity::LambdaMaxCrossFitted => 1,
        SubsetQuantity::Trace => 2,
    }
}

fn pen(quantity: SubsetQuantity) -> Pen {
    Pen { color: series(index(quantity)), width: 1.0, dash: dash(index(quantity)) }
}

fn words(quantity: SubsetQuantity) -> &'static str {
    match quantity {
        SubsetQuantity::LambdaMax => "largest λ",
        SubsetQuantity::LambdaMaxCrossFitted => "largest λ, cross-fitted",
        SubsetQuantity::Trace => "trace",
    }
}
