//! One pair of axes and what can be drawn between them.

use super::canvas::{Align, Canvas, LARGE, Pen, SMALL, Sign, text_width};
use super::hints::{MOST_ALONG, words};
use super::number::power_of_ten;
use super::palette::INK;
use super::point::Point;
use super::scale::{Scale, Ticks};
use plotters::style::RGBColor;

/// A rectangle in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Right edge.
    pub right: f64,
    /// Lower edge.
    pub bottom: f64,
}

impl Area {
    /// The strip between two shares of the height, counted from the top.
    pub fn rows(self, from: f64, to: f64) -> Self {
        let height = self.bottom - self.top;
        Self { top: self.top + from * height, bottom: self.top + to * height, ..self }
    }

    /// The strip between two shares of the width.
    pub fn columns(self, from: f64, to: f64) -> Self {
        let width = self.right - self.left;
        Self { left: self.left + from * width, right: self.left + to * width, ..self }
    }
}

/// A scale with its title; an empty title takes no room.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// From numbers to places.
    pub scale: Scale,
    /// What is drawn, with its unit.
    pub title: String,
    /// Whether ticks carry their numbers.
    pub labelled: bool,
}

impl Axis {
    /// With numbers at its ticks.
    pub fn new(scale: Scale, title: impl Into<String>) -> Self {
        Self { scale, title: title.into(), labelled: true }
    }

    /// Ticks only: the panel below has the numbers.
    pub fn bare(scale: Scale) -> Self {
        Self { scale, title: String::new(), labelled: false }
    }

    fn heading(&self, ticks: &Ticks) -> String {
        match ticks.exponent {
            0 => self.title.clone(),
            exponent => format!("{} (×{})", self.title, power_of_ten(exponent)).trim_start().to_owned(),
        }
    }

    fn upright_ticks(&self, height: f64) -> Ticks {
        self.scale.ticks(((height / 13.0).round() as usize).clamp(2, 7))
    }

    /// Ticks of an axis below a panel of so many points; `left` is the room that labels have before its beginning.
    fn level_ticks(&self, width: f64, left: f64) -> Ticks {
        let fits = |ticks: &Ticks| {
            let edge = |(value, label): &(f64, String), side: f64| {
                self.scale.position(*value) * width + side * 0.5 * text_width(label, SMALL)
            };
            ticks.major.iter().all(|tick| edge(tick, 1.0) < width + OVERHANG && edge(tick, -1.0) > -left)
                && ticks.major.windows(2).all(|pair| edge(&pair[1], -1.0) - edge(&pair[0], 1.0) > 3.0)
        };
        let useful = |ticks: &Ticks| ticks.major.len() >= 2 && fits(ticks);
        // From many ticks to few; where none will do, what fits of six.
        let choice = (2..=8).rev().map(|most| self.scale.ticks(most)).find(useful);
        let mut ticks = choice.unwrap_or_else(|| self.scale.ticks(6));
        // What still collides gives way, largest numbers last.
        let mut free = width + OVERHANG + 3.0;
        let mut kept: Vec<(f64, String)> = Vec::new();
        for tick in std::mem::take(&mut ticks.major).into_iter().rev() {
            let (middle, half) = (self.scale.position(tick.0) * width, 0.5 * text_width(&tick.1, SMALL));
            if middle + half + 3.0 < free && middle - half > -left {
                free = middle - half;
                kept.push(tick);
            } else {
                ticks.minor.push(tick.0);
            }
        }
        kept.reverse();
        ticks.major = kept;
        ticks
    }

    /// Room for numbers and title below a panel, beside that of its ticks.
    pub fn foot(&self) -> f64 {
        let labels = if self.labelled { SMALL + GAP } else { 0.0 };
        labels + if self.title.is_empty() { 0.0 } else { LARGE + 4.0 }
    }

    /// Room that this axis needs at the left of a panel `height` points high.
    pub fn room(&self, height: f64) -> f64 {
        let ticks = self.upright_ticks(height);
        let widest = ticks.major.iter().map(|(_, label)| text_width(label, SMALL)).fold(0.0, f64::max);
        let labels = if self.labelled { widest + GAP } else { 0.0 };
        let title = if self.heading(&ticks).is_empty() { 0.0 } else { LARGE + 3.0 };
        TICK + labels + title + 1.0
    }
}

/// How far a number below an axis may stick out at its end.
const OVERHANG: f64 = 8.4;
/// Length of a tick.
const TICK: f64 = 2.5;
/// Between a tick and its label.
const GAP: f64 = 2.0;
const FRAME: f64 = 0.6;
const FINE: f64 = 0.4;

/// A pair of axes at a place on the sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Where data go; labels lie outside.
    pub inner: Area,
    x: Axis,
    y: Axis,
    /// Room at the left, for the title's place.
    left: f64,
}

impl Panel {
    /// Fits axes and labels into `outer`; `left` is the room at the left, at least [`Axis::room`], so that stacked
    /// panels line up.
    pub fn new(outer: Area, left: f64, x: Axis, y: Axis) -> Self {
        let inner = Area {
            left: outer.left + left,
            top: outer.top + 4.0,
            right: outer.right - 8.5,
            bottom: outer.bottom - TICK - x.foot() - 1.0,
        };
        Self { inner, x, y, left }
    }

    /// First and last number of the `x` axis.
    pub fn x_ends(&self) -> (f64, f64) {
        self.x.scale.ends()
    }

    /// First and last number of the `y` axis.
    pub fn y_ends(&self) -> (f64, f64) {
        self.y.scale.ends()
    }

    /// Draws lines, ticks, numbers and titles of both axes.
    pub fn draw_axes(&self, canvas: &mut Canvas) {
        let Area { left, top, bottom, .. } = self.inner;
        let (pen, fine) = (Pen::solid(INK, FRAME), Pen::solid(INK, FINE));
        canvas.line(&[(left, top), (left, bottom)], pen);
        level_axis(canvas, self.inner, &self.x, self.left);
        let ticks = self.y.upright_ticks(bottom - top);
        let place = |value: f64| bottom - self.y.scale.position(value) * (bottom - top);
        for value in &ticks.minor {
            canvas.line(&[(left - 0.6 * TICK, place(*value)), (left, place(*value))], fine);
        }
        for (value, label) in &ticks.major {
            canvas.line(&[(left - TICK, place(*value)), (left, place(*value))], pen);
            if self.y.labelled {
                canvas.text(label, (left - TICK - GAP, place(*value)), SMALL, Align::Right);
            }
        }
        let heading = self.y.heading(&ticks);
        if !heading.is_empty() {
            let beside = left - self.left + 0.5 * LARGE + 0.5;
            canvas.text(&heading, (beside, 0.5 * (top + bottom)), LARGE, Align::Upward);
        }
    }

    /// Place of a data point, maybe outside; `None` where a coordinate has no place.
    pub fn place(&self, (x, y): (f64, f64)) -> Option<Point> {
        let Area { left, top, right, bottom } = self.inner;
        let (across, up) = (self.x.scale.position(x), self.y.scale.position(y));
        let near = |share: f64| share.is_finite().then(|| share.clamp(-1e3, 1e3));
        Some((left + near(across)? * (right - left), bottom - near(up)? * (bottom - top)))
    }

    /// Whether a data point lies between the axes.
    pub fn holds(&self, (x, y): (f64, f64)) -> bool {
        let inside = |share: f64| (-1e-9..=1.0 + 1e-9).contains(&share);
        inside(self.x.scale.position(x)) && inside(self.y.scale.position(y))
    }

    /// A curve through data points, cut at the panel's edges, broken where a point has no place.
    pub fn curve(&self, canvas: &mut Canvas, points: impl Iterator<Item = (f64, f64)>, pen: Pen) {
        let points: Vec<(f64, f64)> = points.collect();
        // A straight line is a guide, no data.
        for point in points.iter().step_by(points.len().div_ceil(MOST_ALONG).max(1)).filter(|_| points.len() > 2) {
            self.hint(canvas, *point, pen.color);
        }
        let mut run: Vec<Point> = Vec::new();
        let mut last: Option<Point> = None;
        for point in points {
            let here = self.place(point);
            if let (Some(from), Some(to)) = (last, here) {
                if let Some((start, end)) = clip(self.inner, from, to) {
                    if run.last() != Some(&start) {
                        canvas.line(&run, pen);
                        run = vec![start];
                    }
                    run.push(end);
                } else {
                    canvas.line(&run, pen);
                    run.clear();
                }
            } else {
                canvas.line(&run, pen);
                run.clear();
            }
            last = here;
        }
        canvas.line(&run, pen);
    }

    /// The area between two curves over the same `x`, held inside the panel.
    pub fn band(&self, canvas: &mut Canvas, points: &[(f64, f64, f64)], fill: RGBColor) {
        let Area { left, top, right, bottom } = self.inner;
        let hold = |(x, y): Point| (x.clamp(left, right), y.clamp(top, bottom));
        // A lower edge at or below zero has no place on a logarithmic axis: it is the floor.
        let floor = self.y.scale.ends().0;
        let edge = |x: f64, y: f64| self.place((x, y)).or_else(|| self.place((x, floor))).map(hold);
        for run in points.split(|(x, low, high)| !(x + low + high).is_finite()) {
            let upper = run.iter().filter_map(|(x, _, high)| edge(*x, *high));
            let lower = run.iter().rev().filter_map(|(x, low, _)| edge(*x, *low));
            let outline: Vec<Point> = upper.chain(lower).collect();
            if outline.len() > 2 {
                canvas.polygon(&outline, fill);
            }
        }
    }

    /// Says a data point's coordinates to those who point at it, if it lies inside.
    fn hint(&self, canvas: &mut Canvas, at: (f64, f64), color: RGBColor) {
        if let (Some(place), true) = (self.place(at), self.holds(at)) {
            // Points of one count stand beside each other.
            let x = if matches!(self.x.scale, Scale::Counts { .. }) { at.0.round() } else { at.0 };
            canvas.hints.add(place, color, words((x, at.1), [&self.x.title, &self.y.title]));
        }
    }

    /// A data point, if it lies inside.
    pub fn mark(&self, canvas: &mut Canvas, at: (f64, f64), sign: Sign) {
        if let (Some(place), true) = (self.place(at), self.holds(at)) {
            canvas.marker(place, sign);
            self.hint(canvas, at, sign.color);
        }
    }

    /// An upright line from the foot of the panel to a data point, with a cap; nothing where the point lies outside.
    pub fn stem(&self, canvas: &mut Canvas, at: (f64, f64), cap: f64, pen: Pen) {
        if let (Some((x, top)), true) = (self.place(at), self.holds(at)) {
            canvas.line(&[(x, self.inner.bottom), (x, top)], pen);
            canvas.line(&[(x - 0.5 * cap, top), (x + 0.5 * cap, top)], pen);
        }
    }

    /// An upright bar `y ± error` with caps `cap` points wide; nothing where the error is unknown.
    pub fn error_bar(&self, canvas: &mut Canvas, (x, y, error): (f64, f64, f64), cap: f64, pen: Pen) {
        let floor = self.y.scale.ends().0;
        let low = self.place((x, y - error)).or_else(|| self.place((x, floor)));
        let (Some(low), Some(high), true) = (low, self.place((x, y + error)), error > 0.0) else { return };
        if let Some((from, to)) = clip(self.inner, low, high) {
            canvas.line(&[from, to], pen);
            for end in [from, to] {
                if cap > 0.0 && (end == low || end == high) {
                    canvas.line(&[(end.0 - 0.5 * cap, end.1), (end.0 + 0.5 * cap, end.1)], pen);
                }
            }
        }
    }
}

/// Draws an axis along the lower edge of `inner`, labels and title below it, with so much room for them at the left;
/// returns the power of ten that its numbers leave out.
pub fn level_axis(canvas: &mut Canvas, inner: Area, axis: &Axis, room: f64) -> i32 {
    let Area { left, right, bottom, .. } = inner;
    let (pen, fine) = (Pen::solid(INK, FRAME), Pen::solid(INK, FINE));
    canvas.line(&[(left, bottom), (right, bottom)], pen);
    let ticks = axis.level_ticks(right - left, room);
    let place = |value: f64| left + axis.scale.position(value) * (right - left);
    for value in &ticks.minor {
        canvas.line(&[(place(*value), bottom), (place(*value), bottom + 0.6 * TICK)], fine);
    }
    for (value, label) in &ticks.major {
        canvas.line(&[(place(*value), bottom), (place(*value), bottom + TICK)], pen);
        if axis.labelled {
            canvas.text(label, (place(*value), bottom + TICK + GAP + 0.5 * SMALL), SMALL, Align::Center);
        }
    }
    if !axis.title.is_empty() {
        let below = bottom + TICK + if axis.labelled { GAP + SMALL } else { 0.0 } + 2.5 + 0.5 * LARGE;
        canvas.text(&axis.heading(&ticks), (0.5 * (left + right), below), LARGE, Align::Center);
    }
    ticks.exponent
}

/// The part of a line that lies inside (Liang and Barsky 1984).
fn clip(area: Area, from: Point, to: Point) -> Option<(Point, Point)> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (mut start, mut end) = (0.0f64, 1.0f64);
    let edges =
        [(-dx, from.0 - area.left), (dx, area.right - from.0), (-dy, from.1 - area.top), (dy, area.bottom - from.1)];
    for (slope, room) in edges {
        if slope == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if slope < 0.0 {
            start = start.max(room / slope);
        } else {
            end = end.min(room / slope);
        }
    }
    let at = |t: f64| {
        if t == 0.0 {
            from
        } else if t == 1.0 {
            to
        } else {
            (from.0 + t * dx, from.1 + t * dy)
        }
    };
    (start <= end).then(|| (at(start), at(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_edges() {
        let area = Area { left: 0.0, top: 0.0, right: 10.0, bottom: 10.0 };
        assert_eq!(clip(area, (-5.0, 5.0), (15.0, 5.0)), Some(((0.0, 5.0), (10.0, 5.0))));
        assert_eq!(clip(area, (2.0, 3.0), (4.0, 5.0)), Some(((2.0, 3.0), (4.0, 5.0))));
        assert_eq!(clip(area, (-5.0, 12.0), (15.0, 12.0)), None);
        assert_eq!(clip(area, (-5.0, 5.0), (5.0, 15.0)), Some(((0.0, 10.0), (0.0, 10.0))));
    }

    #[test]
    fn the_first_number_of_an_axis_keeps_its_label_whatever_its_sign() {
        let axis = Axis::new(Scale::exactly(-0.05, 0.05), "x");
        let labels = |room: f64| -> Vec<String> {
            axis.level_ticks(60.0, room).major.into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(20.0), ["−0.05", "0.00", "0.05"]);
    }
}
