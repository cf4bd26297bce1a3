//! The loss over a plane of two directions.

use super::canvas::{COLUMN, Sign};
use super::field::Field;
use super::palette::INK;
use super::panel::{Area, Axis, Panel};
use super::sheet::Sheet;
use super::statement;
use super::style::{Drawn, Target};
use crate::analysis::AnalysisReport;
use crate::landscape::SliceKind;
use crate::report::ReportError;

/// Writes `plane.*` for the report's first plane; nothing where it has none of 2 × 2 points or more, or no finite loss.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write(report: &AnalysisReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    let mut planes = report.slices.iter().filter(|slice| slice.kind == SliceKind::RandomPlane);
    let Some(field) = planes.find_map(|plane| Field::new(&plane.x, &plane.y, &plane.loss)) else {
        return Ok(Drawn::default());
    };
    let sheet = Sheet {
        legend: field.legend(),
        body_height: 184.0 * target.style.stretch(COLUMN),
        caption: format!(
            "Loss over the plane of two filter-normalised random directions (Li et al. 2018); {}.",
            field.words()
        ),
        statement: statement(report),
    };
    sheet.write(target, "plane", |canvas, body| {
        let x = Axis::new(field.x_scale(), "x along random direction d₁");
        let y = Axis::new(field.y_scale(), "y along random direction d₂");
        let room = y.room(160.0);
        let panel = Panel::new(Area { right: body.right - 41.0, ..body }, room, x, y);
        field.fill(canvas, &panel);
        if panel.holds((0.0, 0.0)) {
            panel.mark(canvas, (0.0, 0.0), Sign::circle(INK, true));
        }
        panel.draw_axes(canvas);
        field.draw_bar(canvas, panel.inner);
    })
}
