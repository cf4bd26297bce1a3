//! The figures of `flatness landscape`: a line with loss and accuracy, or contours and a surface of a plane.

use plotters::style::RGBColor;

use super::canvas::{Align, COLUMN, Canvas, Dash, Marker, Pen, SMALL, Sign, text_width};
use super::field::Field;
use super::number::{fixed, significant, subscript};
use super::palette::{GREY, INK, series, tint};
use super::panel::{Area, Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::stack::{Layer, write_stack};
use super::style::{Drawn, Target};
use super::surface::{self, Around, Flag};
use crate::landscape::{Barrier, DirectionKind, LandscapeReport};
use crate::objective::Evaluation;
use crate::report::ReportError;

const WHITE: RGBColor = RGBColor(255, 255, 255);

/// Writes `line.*`, or `contour.*` and `surface.*`; nothing where no loss is finite.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_landscape(report: &LandscapeReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    if report.grid.is_line() {
        return if report.lowest().is_some() { line(report, target) } else { Ok(Drawn::default()) };
    }
    let (x, y): (Vec<f64>, Vec<f64>) = report.grid.points().into_iter().unzip();
    let Some(field) = Field::new(&x, &y, &report.losses()) else { return Ok(Drawn::default()) };
    let mut drawn = contour(report, &field, target)?;
    drawn.extend(surface(report, &field, target)?);
    Ok(drawn)
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
    canvas.marker((x, y), Sign::circle(INK, true));
    let half = 0.5 * text_width(name, SMALL) + 1.2;
    let middle = (x.clamp(panel.inner.left + half, panel.inner.right - half), y - 8.0);
    if ground {
        canvas.rectangle((middle.0 - half, middle.1 - 4.2), (middle.0 + half, middle.1 + 4.2), WHITE);
    }
    canvas.text(name, middle, SMALL, Align::Center);
}

fn line(report: &LandscapeReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    let accuracy = report.values.iter().any(|value| value.accuracy.is_finite());
    let pen = Pen::solid(series(0), 1.0);
    let mut legend = vec![(Sample::Band(pen), "± 1 s.e. over the rows".to_owned())];
    if let Some(barrier) = &report.barrier {
        legend.push((Sample::Line(straight()), "straight line from A to B".into()));
        legend.push((Sample::Line(tower()), words(barrier)));
    }
    if let Some(model) = Model::of(report) {
        legend.push((Sample::Line(straight()), model.words().into()));
    }
    let mut layers = vec![Layer {
        name: "loss".into(),
        y: Axis::new(loss_scale(report), "loss"),
        height: if accuracy { 86.0 } else { 90.0 },
        draw: Box::new(move |canvas, panel| draw_loss(canvas, panel, report, pen)),
    }];
    if accuracy {
        layers.push(Layer {
            name: "accuracy".into(),
            y: Axis::new(Scale::exactly(-0.03, 1.03), "accuracy"),
            height: 52.0,
            draw: Box::new(move |canvas, panel| {
                panel.draw_axes(canvas);
                let along = || report.grid.x.iter().zip(&report.values);
                let bounds =
                    along().map(|(x, v)| (*x, v.accuracy - v.accuracy_std_err, v.accuracy + v.accuracy_std_err));
                panel.band(canvas, &bounds.collect::<Vec<_>>(), tint(pen.color));
                panel.curve(canvas, along().map(|(x, value)| (*x, value.accuracy)), pen);
            }),
        });
    }
    let what = if accuracy { "Loss and accuracy" } else { "Loss" };
    let caption = format!("{what} along a line; bands: ± 1 s.e. over the rows.");
    let sheet = Sheet { legend, caption, statement: statement(report), ..Sheet::default() };
    write_stack(sheet, target, "line", &Axis::new(ends(&report.grid.x), axis_title(report, 0)), &layers)
}

/// Holds all losses; where it is linear, their bands too, whose lower edges have no place on a logarithmic one.
fn loss_scale(report: &LandscapeReport) -> Scale {
    let evaluations = || report.values.iter().chain(report.marks.iter().map(|(_, value)| value));
    let losses: Vec<f64> = evaluations().map(|value| value.loss).collect();
    match Scale::linear_or_log(&losses, 1e3) {
        Scale::Linear { .. } => {
            let known = |value: &Evaluation| if value.loss_std_err.is_finite() { value.loss_std_err } else { 0.0 };
            Scale::linear(evaluations().flat_map(|value| [-1.0, 1.0].map(|sign| value.loss + sign * known(value))))
        }
        scale => scale,
    }
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

/// The loss to second order along an eigenvector.
struct Model {
    loss: f64,
    slope: f64,
    eigenvalue: f64,
}

impl Model {
    /// Where the direction has an eigenvalue. A slope that is not known is left out.
    fn of(report: &LandscapeReport) -> Option<Self> {
        let facts = report.facts.first().filter(|facts| facts.eigenvalue.is_finite())?;
        let (_, here) = report.marks.first()?;
        Some(Self { loss: here.loss, slope: facts.slope, eigenvalue: facts.eigenvalue })
    }

    fn words(&self) -> &'static str {
        if self.slope.is_finite() { "loss + (g·v) x + λx²/2" } else { "loss + λx²/2" }
    }

    fn at(&self, x: f64) -> f64 {
        let slope = if self.slope.is_finite() { self.slope } else { 0.0 };
        self.loss + slope * x + 0.5 * self.eigenvalue * x * x
    }
}

fn draw_loss(canvas: &mut Canvas, panel: &Panel, report: &LandscapeReport, pen: Pen) {
    panel.draw_axes(canvas);
    let along = || report.grid.x.iter().copied().zip(&report.values);
    let band: Vec<(f64, f64, f64)> =
        along().map(|(x, value)| (x, value.loss - value.loss_std_err, value.loss + value.loss_std_err)).collect();
    panel.band(canvas, &band, tint(pen.color));
    if let Some(model) = Model::of(report) {
        let (from, to) = panel.x_ends();
        let points = (0..=200).map(|i| from + (to - from) * f64::from(i) / 200.0);
        panel.curve(canvas, points.map(|x| (x, model.at(x))), straight());
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
        name_mark(canvas, panel, ((mark.at.0, value.loss), mark.name.name()), false);
    }
}

fn contour(report: &LandscapeReport, field: &Field, target: Target<'_>) -> Result<Drawn, ReportError> {
    let mut legend = Vec::new();
    if let Some((_, loss)) = report.lowest() {
        let words = format!("lowest grid point: {}", significant(loss, 3));
        legend.push((Sample::Mark(lowest_mark()), words));
    }
    if let (Some(first), Some(last)) = (report.path.first(), report.path.last()) {
        let words = format!("training, epochs {} to {}", first.epoch, last.epoch);
        legend.push((Sample::Line(Pen::solid(INK, 0.8)), words));
    }
    legend.extend(field.legend());
    let sheet = Sheet {
        legend,
        body_height: 184.0 * target.style.stretch(COLUMN),
        caption: format!("Loss over a plane; {}.", field.words()),
        statement: statement(report),
    };
    sheet.write(target, "contour", |canvas, body| {
        let x = Axis::new(field.x_scale(), axis_title(report, 0));
        let y = Axis::new(field.y_scale(), axis_title(report, 1));
        let room = y.room(160.0);
        let panel = Panel::new(Area { right: body.right - 41.0, ..body }, room, x, y);
        field.fill(canvas, &panel);
        draw_path(canvas, &panel, report);
        if let Some((at, _)) = report.lowest() {
            panel.mark(canvas, at, lowest_mark());
        }
        for (mark, _) in &report.marks {
            name_mark(canvas, &panel, (mark.at, mark.name.name()), true);
        }
        panel.draw_axes(canvas);
        field.draw_bar(canvas, panel.inner);
    })
}

/// The colour of the lowest point of the grid.
fn lowest_mark() -> Sign {
    Sign { marker: Marker::Diamond, color: series(1), hollow: false }
}

fn surface(report: &LandscapeReport, field: &Field, target: Target<'_>) -> Result<Drawn, ReportError> {
    let named = report.marks.iter().map(|(mark, value)| Flag {
        at: mark.at,
        loss: value.loss,
        name: mark.name.name(),
        sign: Sign::circle(INK, true),
    });
    let mut legend = field.legend();
    let lowest = report.lowest().map(|(at, loss)| Flag { at, loss, name: "", sign: lowest_mark() });
    if let Some(Flag { sign, .. }) = lowest {
        legend.insert(0, (Sample::Mark(sign), "lowest grid point".into()));
    }
    let sheet = Sheet {
        legend,
        caption: "The loss over the same plane as a surface, with its contours below.".into(),
        statement: statement(report),
        ..Sheet::default()
    };
    let titles = [0, 1].map(|index| axis_title(report, index));
    surface::write(field, Around { titles, flags: lowest.into_iter().chain(named).collect(), sheet }, target)
}

/// The trajectory in order: a white line under a dark one, so that it is seen on any colour, and a dot for each checkpoint.
fn draw_path(canvas: &mut Canvas, panel: &Panel, report: &LandscapeReport) {
    let points = || report.path.iter().map(|point| point.at);
    panel.curve(canvas, points(), Pen::solid(WHITE, 2.0));
    panel.curve(canvas, points(), Pen::solid(INK, 0.8));
    for (index, at) in points().enumerate() {
        // The beginning is hollow.
        panel.mark(canvas, at, Sign::circle(INK, index == 0));
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
    use crate::report::figures::Style;

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
        let target = Target::new(folder.path(), Style::default());
        let bowl = |x: f64, y: f64| 0.1 + x * x + y * y;
        for kind in [DirectionKind::Random, DirectionKind::Eigenvectors, DirectionKind::Between, DirectionKind::Pca] {
            assert_eq!(write_landscape(&report(kind, 1, bowl), target).unwrap().files.len(), 3);
            assert_eq!(write_landscape(&report(kind, 2, bowl), target).unwrap().files.len(), 6);
        }
        let lost = |dims| write_landscape(&report(DirectionKind::Random, dims, |_, _| f64::INFINITY), target).unwrap();
        assert!(lost(1) == Drawn::default() && lost(2) == Drawn::default());
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
        let target = Target::new(folder.path(), Style { panels: true, ..Style::default() });
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -5.0, 1e-320, 1e308] {
            for dims in [1, 2] {
                let everywhere = report(DirectionKind::Between, dims, |_, _| number);
                write_landscape(&everywhere, target).unwrap();
                let here = report(DirectionKind::Between, dims, |x, _| if x > 0.0 { number } else { 1.0 - x });
                write_landscape(&here, target).unwrap();
            }
        }
    }

    #[test]
    fn the_quadratic_model_has_the_slope_of_the_loss() {
        let mut report = report(DirectionKind::Eigenvectors, 1, |x, _| 1.0 + 0.2 * x + 1.5 * x * x);
        report.facts[0].slope = 0.2;
        let model = Model::of(&report).unwrap();
        for (x, value) in report.grid.x.iter().zip(&report.values) {
            assert!((model.at(*x) - value.loss).abs() < 1e-12);
        }
        report.facts[0].slope = f64::NAN;
        assert_eq!(Model::of(&report).unwrap().at(1.0), 2.5);
    }
}
