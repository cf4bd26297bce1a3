//! Losses over a plane: contours filled by colour, and the bar that says what the colours mean.

use std::collections::BTreeMap;

use plotters::style::RGBColor;

use super::canvas::{Align, Canvas, LARGE, Pen, SMALL, text_width};
use super::contour::{Grid, Ring, rings};
use super::number::{power_of_ten, significant};
use super::palette::{INK, PALE, viridis};
use super::panel::{Area, Panel};
use super::point::Point;
use super::scale::{Scale, Ticks};
use super::sheet::Sample;
use super::smooth::{Fine, refined};

/// Colours end at this share of the losses where the largest is more than `CUT_FROM` times as high: else a corner that
/// explodes would leave one colour for everything else.
const CUT_AT: f64 = 0.75;
const CUT_FROM: f64 = 30.0;

/// From this ratio of largest to smallest loss on, levels are spaced by the logarithm.
const LOG_FROM: f64 = 30.0;

/// A plane's losses in rows, with levels for its contours.
pub struct Field {
    /// Ascending.
    x: Vec<f64>,
    /// Ascending.
    y: Vec<f64>,
    /// As measured; NaN where the plane has no such point.
    loss: Vec<f64>,
    /// From losses to colours.
    pub scale: Scale,
    /// Places of the losses on the scale, between the points too; the largest in place of what is not finite.
    pub fine: Fine,
    levels: Vec<f64>,
    /// Where colours end below the largest loss, and that loss.
    cut: Option<(f64, f64)>,
}

impl Field {
    /// Of losses at points `(x, y)` in any order; `None` where there are fewer than 2 × 2 points or no finite loss.
    pub fn new(at_x: &[f64], at_y: &[f64], losses: &[f64]) -> Option<Self> {
        let (x, y) = (distinct(at_x), distinct(at_y));
        if x.len() < 2 || y.len() < 2 {
            return None;
        }
        let key = |x: f64, y: f64| ((x + 0.0).to_bits(), (y + 0.0).to_bits());
        let points = at_x.iter().zip(at_y).zip(losses);
        let known: BTreeMap<_, f64> = points.map(|((x, y), loss)| (key(*x, *y), *loss)).collect();
        let at = |y: f64, x: f64| known.get(&key(x, y)).copied().unwrap_or(f64::NAN);
        let loss: Vec<f64> = y.iter().flat_map(|y| x.iter().map(|x| at(*y, *x))).collect();
        let finite = || loss.iter().copied().filter(|loss| loss.is_finite());
        let highest = finite().reduce(f64::max)?;
        let cut = cut(finite().collect());
        let (largest, highest) = (highest, cut.unwrap_or(highest));
        let lowest = finite().fold(highest, f64::min);
        let log = lowest > 0.0 && highest / lowest > LOG_FROM;
        let scale = if log { Scale::Log { from: lowest, to: highest } } else { Scale::exactly(lowest, highest) };
        let filled = |loss: &f64| if loss.is_finite() { loss.min(highest) } else { highest };
        let places: Vec<f64> = loss.iter().map(|loss| scale.position(filled(loss)).clamp(0.0, 1.0)).collect();
        let fine = refined(&x, &y, &places);
        Some(Self { levels: levels(scale), x, y, loss, scale, fine, cut: cut.map(|at| (at, largest)) })
    }

    /// What a legend has to say: losses that are not finite, and those beyond the last colour.
    pub fn legend(&self) -> Vec<(Sample, String)> {
        let mut legend = Vec::new();
        if self.loss.iter().any(|loss| !loss.is_finite()) {
            legend.push((Sample::Patch(PALE), "non-finite loss".to_owned()));
        }
        if let Some((at, largest)) = self.cut {
            let words = format!("cut off at {} (largest loss {})", significant(at, 2), significant(largest, 2));
            legend.push((Sample::Patch(viridis(1.0)), words));
        }
        legend
    }

    /// What a caption says of the picture.
    pub fn words(&self) -> String {
        format!("contours between {} × {} points are interpolated", self.x.len(), self.y.len())
    }

    /// Whether the losses at the corners of a cell of the fine grid were finite.
    pub fn known(&self, (column, row): (usize, usize)) -> bool {
        let (at, up) = (column / self.fine.parts.0, row / self.fine.parts.1);
        let next = |from: usize, count: usize| [from, (from + 1).min(count - 1)];
        let corners = next(up, self.y.len()).into_iter().flat_map(|row| next(at, self.x.len()).map(|x| (x, row)));
        corners.into_iter().all(|(column, row)| self.loss[row * self.x.len() + column].is_finite())
    }

    /// The scale of the first axis, from end to end.
    pub fn x_scale(&self) -> Scale {
        ends(&self.x)
    }

    /// That of the second.
    pub fn y_scale(&self) -> Scale {
        ends(&self.y)
    }

    /// Colour between level `band - 1` and level `band`.
    pub fn color(&self, band: usize) -> RGBColor {
        let (from, to) = self.scale.ends();
        let low = if band == 0 { from } else { self.levels[band - 1] };
        let high = self.levels.get(band).copied().unwrap_or(to);
        viridis(0.5 * (self.scale.position(low) + self.scale.position(high)))
    }

    /// Filled contours inside the panel.
    pub fn fill(&self, canvas: &mut Canvas, panel: &Panel) {
        let Area { left, top, right, bottom } = panel.inner;
        canvas.rectangle((left, top), (right, bottom), self.color(0));
        let mut found = self.rings();
        // Rings never cross, so painting from large to small leaves each region its own colour. Regions that all
        // follow the rim are equally large: then the higher one lies on top.
        found.sort_by(|a, b| b.1.area().total_cmp(&a.1.area()).then(a.0.cmp(&b.0)));
        let outlines: Vec<(usize, bool, Vec<Point>)> = found
            .iter()
            .map(|(level, ring)| {
                let corners = ring.corners.iter().filter_map(|corner| panel.place(self.data(*corner)));
                (*level, ring.high_inside, corners.collect())
            })
            .collect();
        for (level, high_inside, outline) in &outlines {
            canvas.polygon(outline, self.color(level + usize::from(*high_inside)));
        }
        let pen = Pen::solid(RGBColor(255, 255, 255), 0.3);
        for (_, _, outline) in &outlines {
            draw_off_the_rim(canvas, outline, panel.inner, pen);
        }
        self.cover_lost(canvas, panel);
    }

    /// All contours, each with the index of its level.
    pub fn rings(&self) -> Vec<(usize, Ring)> {
        let grid = Grid { columns: self.fine.x.len(), rows: self.fine.y.len(), values: &self.fine.values };
        let mut found: Vec<(usize, Ring)> = Vec::new();
        for (index, level) in self.levels.iter().enumerate() {
            found.extend(rings(&grid, self.scale.position(*level)).into_iter().map(|ring| (index, ring)));
        }
        found
    }

    /// Data coordinates of a place in units of the fine grid.
    pub fn data(&self, (column, row): Point) -> (f64, f64) {
        let between = |list: &[f64], place: f64| {
            let below = (place.floor() as usize).min(list.len() - 2);
            list[below] + (place - below as f64) * (list[below + 1] - list[below])
        };
        (between(&self.fine.x, column), between(&self.fine.y, row))
    }

    fn cover_lost(&self, canvas: &mut Canvas, panel: &Panel) {
        let last = ((self.fine.x.len() - 1) as f64, (self.fine.y.len() - 1) as f64);
        let (half_x, half_y) = (0.5 * self.fine.parts.0 as f64, 0.5 * self.fine.parts.1 as f64);
        for index in (0..self.loss.len()).filter(|index| !self.loss[*index].is_finite()) {
            let (column, row) = ((index % self.x.len()) as f64, (index / self.x.len()) as f64);
            let (column, row) = (2.0 * half_x * column, 2.0 * half_y * row);
            let low = self.data(((column - half_x).max(0.0), (row - half_y).max(0.0)));
            let high = self.data(((column + half_x).min(last.0), (row + half_y).min(last.1)));
            if let (Some(low), Some(high)) = (panel.place(low), panel.place(high)) {
                canvas.rectangle((low.0, high.1), (high.0, low.1), PALE);
            }
        }
    }

    /// The bar of the contours' colours at the right of `inner`.
    pub fn draw_bar(&self, canvas: &mut Canvas, inner: Area) {
        let tops = self.levels.iter().copied().chain([self.scale.ends().1]);
        let bands = tops.enumerate().map(|(band, top)| (self.scale.position(top), self.color(band)));
        self.draw_scale(canvas, inner, bands);
    }

    /// The same of all colours.
    pub fn draw_smooth_bar(&self, canvas: &mut Canvas, inner: Area) {
        const STEPS: u32 = 128;
        let share = |step: f64| step / f64::from(STEPS);
        let steps = (0..STEPS).map(f64::from).map(|step| (share(step + 1.0), viridis(share(step + 0.5))));
        self.draw_scale(canvas, inner, steps);
    }

    /// A bar of colours, each with the share of the height at which it ends, ascending; numbers and title beside it.
    fn draw_scale(&self, canvas: &mut Canvas, inner: Area, colors: impl Iterator<Item = (f64, RGBColor)>) {
        let (left, right) = (inner.right + 6.0, inner.right + 13.0);
        let height = |share: f64| inner.bottom - share * (inner.bottom - inner.top);
        let mut colors: Vec<(f64, RGBColor)> = colors.collect();
        // From the top, each down to the foot: between two edges at one place, viewers leave a seam.
        colors.reverse();
        for (top, color) in colors {
            canvas.rectangle((left, height(top)), (right, inner.bottom), color);
        }
        let pen = Pen::solid(INK, 0.5);
        let ticks = self.scale.ticks(7);
        let mut widest: f64 = 0.0;
        for (value, label) in &ticks.major {
            let y = height(self.scale.position(*value));
            canvas.line(&[(right, y), (right + 2.0, y)], pen);
            canvas.text(label, (right + 4.0, y), SMALL, Align::Left);
            widest = widest.max(text_width(label, SMALL));
        }
        let beside = right + 4.0 + widest + 3.0 + 0.5 * LARGE;
        canvas.text(&loss_title(&ticks), (beside, 0.5 * (inner.top + inner.bottom)), LARGE, Align::Upward);
    }
}

/// The title of an axis of losses.
pub fn loss_title(ticks: &Ticks) -> String {
    if ticks.exponent == 0 { "loss".into() } else { format!("loss (×{})", power_of_ten(ticks.exponent)) }
}

/// The loss at which colours end, if below the largest one. `finite` is not empty.
fn cut(mut finite: Vec<f64>) -> Option<f64> {
    finite.sort_by(f64::total_cmp);
    let at = *finite.get((CUT_AT * (finite.len() - 1) as f64) as usize)?;
    finite.last().filter(|largest| at > 0.0 && **largest > CUT_FROM * at).map(|_| at)
}

fn ends(list: &[f64]) -> Scale {
    Scale::exactly(list.first().copied().unwrap_or(0.0), list.last().copied().unwrap_or(1.0))
}

fn distinct(values: &[f64]) -> Vec<f64> {
    // Adding 0 makes −0 and 0 one.
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).map(|v| v + 0.0).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    sorted
}

/// Between 8 and about 16 round numbers inside the scale; none where it spans nothing.
fn levels(scale: Scale) -> Vec<f64> {
    let (from, to) = scale.ends();
    let inside = |level: &f64| *level > from && *level < to;
    let Scale::Log { .. } = scale else {
        return scale.ticks(12).major.into_iter().map(|(value, _)| value).filter(inside).collect();
    };
    let decades = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
    let sets: [&[f64]; 4] = [&[1.0], &[1.0, 3.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0]];
    let of_set = |set: &[f64]| -> Vec<f64> {
        decades.clone().flat_map(|k| set.iter().map(move |factor| factor * 10f64.powi(k))).filter(inside).collect()
    };
    let choices = sets.map(of_set);
    choices.iter().find(|choice| choice.len() >= 8).unwrap_or(&choices[3]).clone()
}

/// Draws a closed line without its parts on the rim of `area`.
fn draw_off_the_rim(canvas: &mut Canvas, outline: &[Point], area: Area, pen: Pen) {
    let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
    let on_rim = |a: Point, b: Point| {
        [area.left, area.right].iter().any(|edge| near(a.0, *edge) && near(b.0, *edge))
            || [area.top, area.bottom].iter().any(|edge| near(a.1, *edge) && near(b.1, *edge))
    };
    let mut run: Vec<Point> = Vec::new();
    for (here, next) in outline.iter().zip(outline.iter().cycle().skip(1)) {
        if on_rim(*here, *next) {
            canvas.line(&run, pen);
            run.clear();
        } else {
            if run.is_empty() {
                run.push(*here);
            }
            run.push(*next);
        }
    }
    canvas.line(&run, pen);
}
