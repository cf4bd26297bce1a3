//! The figures of `flatness landscape`: a line with loss and accuracy, or contours and a surface of a plane.

use std::path::{Path, PathBuf};

use plotters::style::RGBColor;

use super::canvas::{Align, Canvas, Dash, Marker, Pen, SMALL, text_width};
use super::field::Field;
use super::number::{fixed, significant, subscript};
use super::palette::{GREY, INK, series, tint};
use super::panel::{Area, Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::surface;
use crate::landscape::{Barrier, DirectionKind, LandscapeReport};
use crate::report::ReportError;

const WHITE: RGBColor = RGBColor(255, 255, 255);

/// Writes `line.*`, or `contour.*` and `surface.*`; nothing where no loss is finite.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_landscape(report: &LandscapeReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    if report.grid.is_line() {
        return if report.lowest().is_some() { line(report, folder) } else { Ok(Vec::new()) };
    }
    let (x, y): (Vec<f64>, Vec<f64>) = report.grid.points().into_iter().unzip();
    let Some(field) = Field::new(&x, &y, &report.losses()) else { return Ok(Vec::new()) };
    let mut paths = contour(report, &field, folder)?;
    let titles = [0, 1].map(|index| axis_title(report, index));
    paths.extend(surface::write(&field, titles, statement(report), folder)?);
    Ok(paths)
}

/// Directions first, then what of the loss is not the usual; the tables have all of it.
fn statement(report: &LandscapeReport) -> String {
    let usual = ["mean ", " without L2 term", ", no augmentation"];
    let short = usual.iter().fold(report.statement.clone(), |words, usual| words.replacen(usual, "", 1));
    format!("{} · {} · {}", report.directions, short, report.name)
}

/// What a coordinate means, with the length of its direction.
fn axis_title(report: &LandscapeReport, index: usize) -> String {
    let letter = if index == 0 { "x" } else { "y" };
    let Some(facts) = report.facts.get(index) else { return letter.to_owned() };
    let (length, place) = (significant(facts.length, 3), subscript(index + 1));
    match facts.kind {
        DirectionKind::Random => format!("{letter} along d{place} (‖d{place}‖ = {length})"),
        DirectionKind::Eigenvectors => format!("{letter} along v{place} (λ = {})", significant(facts.eigenvalue, 3)),
        DirectionKind::Between if report.grid.is_line() => format!("t from A to B (‖B − A‖ = {length})"),
        DirectionKind::Between if index == 0 => "distance from A towards B".into(),
        DirectionKind::Between => "distance from line AB towards C".into(),
        DirectionKind::Pca => {
            format!("PC {} ({} % of variance)", index + 1, fixed(100.0 * facts.explained_variance, 1))
        }
    }
}

/// A circle at a place and its name above it, on a white ground where it must be read on any colour.
fn name_mark(canvas: &mut Canvas, panel: &Panel, (at, name): ((f64, f64), &str), ground: bool) {
    let Some((x, y)) = panel.place(at).filter(|_| panel.holds(at)) else { return };
    canvas.marker((x, y), Marker::Circle, INK, true);
    let half = 0.5 * text_width(name, SMALL) + 1.2;
    let middle = (x.clamp(panel.inner.left + half, panel.inner.right - half), y - 8.0);
    if ground {
        canvas.rectangle((middle.0 - half, middle.1 - 4.2), (middle.0 + half, middle.1 + 4.2), WHITE);
    }
    canvas.text(name, middle, SMALL, Align::Center);
}

fn line(report: &LandscapeReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let accuracy = report.values.iter().any(|value| value.accuracy.is_finite());
    let loss_pen = Pen::solid(series(0), 1.0);
    let mut legend = vec![(Sample::Band(loss_pen), "± 1 s.e. over the rows".to_owned())];
    if let Some(barrier) = &report.barrier {
        legend.push((Sample::Line(straight()), "straight line from A to B".into()));
        legend.push((Sample::Line(tower()), words(barrier)));
    }
    if parabola(report).is_some() {
        legend.push((Sample::Line(straight()), "loss + λx²/2".into()));
    }
    let sheet = Sheet { legend, body_height: if accuracy { 162.0 } else { 112.0 }, statement: statement(report) };
    sheet.write(folder, "line", |canvas, body| {
        let x = ends(&report.grid.x);
        let losses: Vec<f64> =
            report.losses().into_iter().chain(report.marks.iter().map(|(_, value)| value.loss)).collect();
        let loss = Axis::new(Scale::linear_or_log(&losses, 1e3), "loss");
        let right = Axis::new(Scale::exactly(-0.03, 1.03), "accuracy");
        let share = if accuracy { 0.60 } else { 1.0 };
        let left = loss.room(90.0).max(if accuracy { right.room(35.0) } else { 0.0 });
        let below = || Axis::new(x, axis_title(report, 0));
        let upper = Panel::new(body.rows(0.0, share), left, if accuracy { Axis::bare(x) } else { below() }, loss);
        draw_loss(canvas, &upper, report, loss_pen);
        if accuracy {
            let lower = Panel::new(body.rows(share, 1.0), left, below(), right);
            lower.draw_axes(canvas);
            let bands = report.grid.x.iter().zip(&report.values);
            let band: Vec<_> =
                bands.map(|(x, v)| (*x, v.accuracy - v.accuracy_std_err, v.accuracy + v.accuracy_std_err)).collect();
            lower.band(canvas, &band, tint(loss_pen.color));
            let points = report.grid.x.iter().zip(&report.values).map(|(x, value)| (*x, value.accuracy));
            lower.curve(canvas, points, loss_pen);
        }
    })
}

fn straight() -> Pen {
    Pen { color: GREY, width: 0.7, dash: Dash::Broken(2.0, 1.4) }
}

fn tower() -> Pen {
    Pen::solid(series(1), 1.0)
}

fn words(barrier: &Barrier) -> String {
    let error = significant(barrier.std_err_data, 1);
    format!("barrier {} ± {error} at t = {}", significant(barrier.height, 3), fixed(barrier.t, 2))
}

/// Loss at the middle and eigenvalue, on the line of an eigenvector.
fn parabola(report: &LandscapeReport) -> Option<(f64, f64)> {
    let eigenvalue = report.facts.first()?.eigenvalue;
    let (_, here) = report.marks.first()?;
    eigenvalue.is_finite().then_some((here.loss, eigenvalue))
}

fn draw_loss(canvas: &mut Canvas, panel: &Panel, report: &LandscapeReport, pen: Pen) {
    panel.draw_axes(canvas);
    let along = || report.grid.x.iter().copied().zip(&report.values);
    let band: Vec<(f64, f64, f64)> =
        along().map(|(x, value)| (x, value.loss - value.loss_std_err, value.loss + value.loss_std_err)).collect();
    panel.band(canvas, &band, tint(pen.color));
    if let Some((height, eigenvalue)) = parabola(report) {
        let (from, to) = panel.x_ends();
        let points = (0..=200).map(|i| from + (to - from) * f64::from(i) / 200.0);
        panel.curve(canvas, points.map(|x| (x, height + 0.5 * eigenvalue * x * x)), straight());
    }
    if let Some(barrier) = &report.barrier {
        let over = |t: f64| (1.0 - t) * barrier.ends.0 + t * barrier.ends.1;
        // In pieces, for a logarithmic axis.
        let pieces = (0..=100).map(|i| f64::from(i) / 100.0);
        panel.curve(canvas, pieces.map(|t| (t, over(t))), straight());
        if barrier.height > 0.0 {
            let foot = over(barrier.t);
            panel.curve(canvas, [(barrier.t, foot), (barrier.t, foot + barrier.height)].into_iter(), tower());
        }
    }
    panel.curve(canvas, along().map(|(x, value)| (x, value.loss)), pen);
    for (x, value) in along().filter(|(_, value)| !value.loss.is_finite()) {
        if let Some((x, y)) = panel.place((x, panel.y_ends().1)).filter(|_| value.loss > 0.0) {
            canvas.text_in("×", (x, y + 2.0), (SMALL, Align::Center), GREY);
        }
    }
    for (mark, value) in &report.marks {
        name_mark(canvas, panel, ((mark.at.0, value.loss), mark.name), false);
    }
}

fn contour(report: &LandscapeReport, field: &Field, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut legend = Vec::new();
    if let Some((_, loss)) = report.lowest() {
        let words = format!("lowest on the grid: {}", significant(loss, 3));
        legend.push((Sample::Mark(Marker::Diamond, series(1), false), words));
    }
    if let (Some(first), Some(last)) = (report.path.first(), report.path.last()) {
        let words = format!("training, epochs {} to {}", first.epoch, last.epoch);
        legend.push((Sample::Line(Pen::solid(INK, 0.8)), words));
    }
    legend.extend(field.legend());
    let sheet = Sheet { legend, body_height: 184.0, statement: statement(report) };
    sheet.write(folder, "contour", |canvas, body| {
        let x = Axis::new(field.x_scale(), axis_title(report, 0));
        let y = Axis::new(field.y_scale(), axis_title(report, 1));
        let room = y.room(160.0);
        let panel = Panel::new(Area { right: body.right - 41.0, ..body }, room, x, y);
        field.fill(canvas, &panel);
        draw_path(canvas, &panel, report);
        if let Some((at, _)) = report.lowest() {
            panel.mark(canvas, at, (Marker::Diamond, series(1), false));
        }
        for (mark, _) in &report.marks {
            name_mark(canvas, &panel, (mark.at, mark.name), true);
        }
        panel.draw_axes(canvas);
        field.draw_bar(canvas, panel.inner);
    })
}

/// The trajectory in order: a white line under a dark one, so that it is seen on any colour, and a dot for each checkpoint.
fn draw_path(canvas: &mut Canvas, panel: &Panel, report: &LandscapeReport) {
    let points = || report.path.iter().map(|point| point.at);
    panel.curve(canvas, points(), Pen::solid(WHITE, 2.0));
    panel.curve(canvas, points(), Pen::solid(INK, 0.8));
    for (index, at) in points().enumerate() {
        // The beginning is hollow.
        panel.mark(canvas, at, (Marker::Circle, INK, index == 0));
    }
}

fn ends(list: &[f64]) -> Scale {
    Scale::exactly(list.first().copied().unwrap_or(0.0), list.last().copied().unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::landscape::{DirectionFacts, Frame, Grid, PathPoint};
    use crate::objective::Evaluation;

    /// A landscape of `kind` whose loss is `loss(x, y)`, with everything that a figure may show.
    fn report(kind: DirectionKind, dims: usize, loss: impl Fn(f64, f64) -> f64) -> LandscapeReport {
        let origin = Tensor::zeros(3, candle_core::DType::F64, &Device::Cpu).unwrap();
        let axis = |index: usize| {
            let values: Vec<f64> = (0..3).map(|i| f64::from(u8::from(i == index))).collect();
            Tensor::from_vec(values, 3, &Device::Cpu).unwrap()
        };
        let facts = DirectionFacts { eigenvalue: 3.0, explained_variance: 0.5, ..DirectionFacts::new(kind) };
        let frame = Frame::through(&origin, (0..dims).map(axis).collect(), vec![facts; dims]).unwrap();
        let grid = Grid::new(&frame.reach, 9, &[0.0]);
        let value = |(x, y): (f64, f64)| {
            let loss = loss(x, y);
            Evaluation { loss, loss_std_err: 0.1 * loss, accuracy: 1.0 / (1.0 + loss), accuracy_std_err: 0.01 }
        };
        let point = |epoch: usize| PathPoint {
            epoch,
            step: epoch,
            at: (0.9 - 0.3 * epoch as f64, 0.5 - 0.2 * epoch as f64),
            off_plane: 0.1,
            distance: 1.0,
        };
        LandscapeReport {
            values: grid.points().into_iter().map(value).collect(),
            marks: frame.marks.iter().map(|mark| (mark.clone(), value(mark.at))).collect(),
            path: (0..4).map(point).collect(),
            barrier: Some(Barrier { height: loss(0.5, 0.0), std_err_data: 0.1, t: 0.5, ends: (0.1, 0.2) }),
            ..LandscapeReport::empty("test", &frame, grid)
        }
    }

    #[test]
    fn lines_and_planes_have_their_figures() {
        let folder = tempfile::tempdir().unwrap();
        let bowl = |x: f64, y: f64| 0.1 + x * x + y * y;
        for kind in [DirectionKind::Random, DirectionKind::Eigenvectors, DirectionKind::Between, DirectionKind::Pca] {
            assert_eq!(write_landscape(&report(kind, 1, bowl), folder.path()).unwrap().len(), 3);
            assert_eq!(write_landscape(&report(kind, 2, bowl), folder.path()).unwrap().len(), 6);
        }
        let lost = |dims| write_landscape(&report(DirectionKind::Random, dims, |_, _| f64::INFINITY), folder.path());
        assert!(lost(1).unwrap().is_empty() && lost(2).unwrap().is_empty());
    }

    #[test]
    fn an_explosion_in_a_corner_is_cut_and_said() {
        let cliff = |x: f64, y: f64| if x + y > 1.2 { 1e8 } else { 1.0 + x * x };
        let report = report(DirectionKind::Random, 2, cliff);
        let (x, y): (Vec<f64>, Vec<f64>) = report.grid.points().into_iter().unzip();
        let legend = Field::new(&x, &y, &report.losses()).unwrap().legend();
        assert!(legend.len() == 1 && legend[0].1.contains("largest loss 1.0×10⁸"), "{legend:?}");
    }

    #[test]
    fn awkward_losses_never_stop_a_figure() {
        let folder = tempfile::tempdir().unwrap();
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -5.0, 1e-320, 1e308] {
            for dims in [1, 2] {
                let everywhere = report(DirectionKind::Between, dims, |_, _| number);
                write_landscape(&everywhere, folder.path()).unwrap();
                let here = report(DirectionKind::Between, dims, |x, _| if x > 0.0 { number } else { 1.0 - x });
                write_landscape(&here, folder.path()).unwrap();
            }
        }
    }
}
