//! The loss over a plane as a surface in space, seen from above at a slant.

use plotters::style::RGBColor;

use super::canvas::{Align, COLUMN, Canvas, LARGE, Pen, SMALL, Sign, text_width};
use super::field::{Field, loss_title};
use super::number::power_of_ten;
use super::palette::{INK, PALE, viridis};
use super::panel::Area;
use super::point::Point;
use super::scale::Scale;
use super::sheet::Sheet;
use super::style::{Drawn, Target};
use crate::report::ReportError;

/// Turn of the ground plane, so that `x` runs to the lower right and `y` to the lower left.
const TURN: f64 = 32.0 * std::f64::consts::PI / 180.0;
/// Height of the eye over the ground.
const RISE: f64 = 27.0 * std::f64::consts::PI / 180.0;
/// The surface between lowest and highest loss, in half-widths of the ground, and its distance from the ground.
const HEIGHT: f64 = 1.35;
const GAP: f64 = 0.45;
/// Cells along a side at most: finer ones would be smaller than a printed dot.
const MAX_CELLS: usize = 64;
/// Where the light comes from: left of the eye and above.
const LIGHT: [f64; 3] = [-0.45, -0.35, 0.82];

/// A place on the surface with a name.
pub struct Flag<'a> {
    /// Coordinates.
    pub at: (f64, f64),
    /// Its loss.
    pub loss: f64,
    /// What stands above it; may be empty.
    pub name: &'a str,
    /// What stands there.
    pub sign: Sign,
}

/// What stands around a surface.
pub struct Around<'a> {
    /// Titles of the axes of the ground.
    pub titles: [String; 2],
    /// Places on the surface.
    pub flags: Vec<Flag<'a>>,
    /// Of the figure.
    pub sheet: Sheet,
}

/// Writes `surface.*`: the surface with light and shade, its contours on the ground, three axes and the colour bar.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write(field: &Field, around: Around<'_>, target: Target<'_>) -> Result<Drawn, ReportError> {
    let sheet = Sheet { body_height: 200.0 * target.style.stretch(COLUMN), ..around.sheet };
    sheet.write(target, "surface", |canvas, body| {
        let numbers = field.scale.ticks(5).major.iter().map(|(_, label)| text_width(label, SMALL)).fold(0.0, f64::max);
        let view = View::fit(Area {
            left: body.left + numbers + LARGE + 9.0,
            top: body.top + 5.0,
            right: body.right - 44.0,
            bottom: body.bottom - 32.0,
        });
        draw_ground(canvas, field, &view);
        draw_axes(canvas, field, &view, &around.titles);
        draw_height(canvas, field, &view, numbers);
        draw_surface(canvas, field, &view);
        around.flags.iter().for_each(|flag| draw_flag(canvas, field, &view, flag));
        let bar = Area { left: body.left, top: body.top + 12.0, right: body.right - 44.0, bottom: body.bottom - 36.0 };
        field.draw_smooth_bar(canvas, bar);
    })
}

/// A marker on the surface, on top of what may stand before it, and its name above.
fn draw_flag(canvas: &mut Canvas, field: &Field, view: &View, flag: &Flag<'_>) {
    let place = (side(field.x_scale(), flag.at.0), side(field.y_scale(), flag.at.1));
    if !(flag.loss.is_finite() && place.0.abs() <= 1.0 && place.1.abs() <= 1.0) {
        return;
    }
    let at = view.place(place, field.scale.position(flag.loss).clamp(0.0, 1.0));
    canvas.marker(at, flag.sign);
    if !flag.name.is_empty() {
        let half = 0.5 * text_width(flag.name, SMALL) + 1.2;
        let middle = (at.0, at.1 - 8.0);
        let white = RGBColor(255, 255, 255);
        canvas.rectangle((middle.0 - half, middle.1 - 4.2), (middle.0 + half, middle.1 + 4.2), white);
        canvas.text(flag.name, middle, SMALL, Align::Center);
    }
}

/// From space to the sheet: `x`, `y` in −1..=1, height in 0..=1 of the surface.
struct View {
    center: Point,
    scale: f64,
}

impl View {
    /// As large as fits.
    fn fit(area: Area) -> Self {
        let unit = Self { center: (0.0, 0.0), scale: 1.0 };
        let corners = [-1.0, 1.0].into_iter().flat_map(|x| [-1.0, 1.0].into_iter().map(move |y| (x, y)));
        let places: Vec<Point> = corners.flat_map(|(x, y)| [unit.ground((x, y)), unit.place((x, y), 1.0)]).collect();
        let range = |pick: fn(&Point) -> f64| {
            let values = places.iter().map(pick);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let ((left, right), (top, bottom)) = (range(|place| place.0), range(|place| place.1));
        let scale = ((area.right - area.left) / (right - left)).min((area.bottom - area.top) / (bottom - top));
        let middle = |from: f64, to: f64, low: f64, high: f64| 0.5 * (from + to) - 0.5 * scale * (low + high);
        Self { center: (middle(area.left, area.right, left, right), middle(area.top, area.bottom, top, bottom)), scale }
    }

    /// Distance from the eye, up to a constant.
    fn depth((x, y): Point) -> f64 {
        TURN.sin() * x + TURN.cos() * y
    }

    fn project(&self, (x, y): Point, z: f64) -> Point {
        let across = TURN.cos() * x - TURN.sin() * y;
        let up = RISE.sin() * Self::depth((x, y)) + RISE.cos() * z;
        (self.center.0 + self.scale * across, self.center.1 - self.scale * up)
    }

    /// On the surface.
    fn place(&self, at: Point, height: f64) -> Point {
        self.project(at, HEIGHT * height)
    }

    /// Below it.
    fn ground(&self, at: Point) -> Point {
        self.project(at, -GAP)
    }
}

/// Position of a data value along an axis, from −1 to 1.
fn side(scale: Scale, value: f64) -> f64 {
    2.0 * scale.position(value) - 1.0
}

fn draw_ground(canvas: &mut Canvas, field: &Field, view: &View) {
    let corners = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0)];
    let rim: Vec<Point> = corners.iter().map(|corner| view.ground(*corner)).collect();
    canvas.polygon(&rim, RGBColor(0xf7, 0xf7, 0xf7));
    canvas.line(&rim, Pen::solid(PALE, 0.5));
    for (level, ring) in field.rings() {
        let place = |corner: &Point| {
            let (x, y) = field.data(*corner);
            (side(field.x_scale(), x), side(field.y_scale(), y))
        };
        let at: Vec<Point> = ring.corners.iter().map(place).collect();
        let on_rim = |a: Point, b: Point| {
            let near = |a: f64, b: f64| (a.abs() - 1.0).abs() < 1e-9 && (a - b).abs() < 1e-9;
            near(a.0, b.0) || near(a.1, b.1)
        };
        let pen = Pen::solid(field.color(level), 0.6);
        for (from, to) in at.iter().zip(at.iter().cycle().skip(1)) {
            if !on_rim(*from, *to) {
                canvas.line(&[view.ground(*from), view.ground(*to)], pen);
            }
        }
    }
}

fn draw_axes(canvas: &mut Canvas, field: &Field, view: &View, titles: &[String; 2]) {
    let pen = Pen::solid(INK, 0.6);
    let x_at = |x: f64, out: f64| view.ground((x, -1.0 - out));
    let y_at = |y: f64, out: f64| view.ground((-1.0 - out, y));
    canvas.line(&[x_at(-1.0, 0.0), x_at(1.0, 0.0)], pen);
    canvas.line(&[y_at(-1.0, 0.0), y_at(1.0, 0.0)], pen);
    let x_ticks = field.x_scale().ticks(5);
    for (value, label) in &x_ticks.major {
        let at = side(field.x_scale(), *value);
        canvas.line(&[x_at(at, 0.0), x_at(at, 0.05)], pen);
        let (x, y) = x_at(at, 0.13);
        canvas.text(label, (x + 1.0, y + 2.0), SMALL, Align::Center);
    }
    let y_ticks = field.y_scale().ticks(5);
    for (value, label) in &y_ticks.major {
        let at = side(field.y_scale(), *value);
        canvas.line(&[y_at(at, 0.0), y_at(at, 0.05)], pen);
        let (x, y) = y_at(at, 0.1);
        canvas.text(label, (x, y + 1.0), SMALL, Align::Right);
    }
    // Below the front corner there is room for the words of both axes.
    let (_, front) = view.ground((-1.0, -1.0));
    let with = |title: &str, exponent: i32| match exponent {
        0 => title.to_owned(),
        exponent => format!("{title} (×{})", power_of_ten(exponent)),
    };
    let words = [with(&titles[0], x_ticks.exponent), with(&titles[1], y_ticks.exponent)];
    let (left, right) = (view.ground((-1.0, 1.0)).0, view.ground((1.0, -1.0)).0);
    canvas.text(&words[1], (left - 18.0, front + 17.0), SMALL, Align::Left);
    canvas.text(&words[0], (right + 10.0, front + 26.0), SMALL, Align::Right);
}

/// The axis of the loss at the left corner, with numbers of so much width.
fn draw_height(canvas: &mut Canvas, field: &Field, view: &View, numbers: f64) {
    let (corner, pen) = ((-1.0, 1.0), Pen::solid(INK, 0.6));
    let ends = (view.place(corner, 0.0), view.place(corner, 1.0));
    canvas.line(&[ends.0, ends.1], pen);
    let ticks = field.scale.ticks(5);
    for (value, label) in &ticks.major {
        let (x, y) = view.place(corner, field.scale.position(*value));
        canvas.line(&[(x, y), (x - 2.5, y)], pen);
        canvas.text(label, (x - 4.5, y), SMALL, Align::Right);
    }
    let beside = ends.0.0 - 4.5 - numbers - 3.0 - 0.5 * LARGE;
    canvas.text(&loss_title(&ticks), (beside, 0.5 * (ends.0.1 + ends.1.1)), LARGE, Align::Upward);
}

/// One cell of the surface, as it is drawn.
struct Cell {
    depth: f64,
    corners: [Point; 4],
    color: RGBColor,
}

fn draw_surface(canvas: &mut Canvas, field: &Field, view: &View) {
    let fine = &field.fine;
    let (columns, rows) = (kept(fine.x.len()), kept(fine.y.len()));
    let at = |column: usize, row: usize| {
        let place = (side(field.x_scale(), fine.x[column]), side(field.y_scale(), fine.y[row]));
        (place, fine.values[row * fine.x.len() + column])
    };
    let mut cells = Vec::new();
    for row in rows.windows(2) {
        for column in columns.windows(2) {
            let (&[left, right], &[near, far]) = (column, row) else { continue };
            let corners = [at(left, near), at(right, near), at(right, far), at(left, far)];
            let middle = 0.25 * corners.iter().map(|(_, height)| height).sum::<f64>();
            let known = field.known((left, near)) && field.known((right - 1, far - 1));
            let depth = corners.iter().map(|(place, _)| View::depth(*place)).sum();
            let slope = |a: usize, b: usize, run: f64| HEIGHT * (corners[b].1 - corners[a].1) / run;
            let (dx, dy) = (corners[1].0.0 - corners[0].0.0, corners[3].0.1 - corners[0].0.1);
            let normal = [-0.5 * (slope(0, 1, dx) + slope(3, 2, dx)), -0.5 * (slope(0, 3, dy) + slope(1, 2, dy)), 1.0];
            let color = if known { lit(viridis(middle), normal) } else { PALE };
            cells.push(Cell { depth, corners: corners.map(|(place, height)| view.place(place, height)), color });
        }
    }
    // From back to front (the painter's algorithm): exact for the graph of a function over even cells.
    cells.sort_by(|a, b| b.depth.total_cmp(&a.depth));
    for Cell { corners, color, .. } in cells {
        canvas.polygon(&corners, color);
        // The edge closes the seams that viewers leave between neighbours.
        let [a, b, c, d] = corners;
        canvas.line(&[a, b, c, d, a], Pen::solid(color, 0.2));
    }
}

/// Indices of the grid lines that are drawn: all, or every few of many, the last one always.
fn kept(count: usize) -> Vec<usize> {
    let stride = count.saturating_sub(1).div_ceil(MAX_CELLS).max(1);
    let mut kept: Vec<usize> = (0..count).step_by(stride).collect();
    if kept.last() != Some(&(count - 1)) {
        kept.push(count - 1);
    }
    kept
}

/// `color` under the light: darker where the surface turns away from it.
fn lit(RGBColor(r, g, b): RGBColor, normal: [f64; 3]) -> RGBColor {
    let length = normal.iter().map(|entry| entry * entry).sum::<f64>().sqrt();
    let facing = normal.iter().zip(LIGHT).map(|(a, b)| a * b).sum::<f64>() / length;
    // Little enough that a colour is found in the bar.
    let factor = 0.8 + 0.2 * facing.clamp(0.0, 1.0);
    let channel = |c: u8| (f64::from(c) * factor).round() as u8;
    RGBColor(channel(r), channel(g), channel(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_box_lies_in_its_area() {
        let area = Area { left: 20.0, top: 5.0, right: 180.0, bottom: 170.0 };
        let view = View::fit(area);
        for x in [-1.0, 1.0] {
            for y in [-1.0, 1.0] {
                for (left, top) in [view.ground((x, y)), view.place((x, y), 1.0)] {
                    assert!((area.left - 1e-9..=area.right + 1e-9).contains(&left), "{left}");
                    assert!((area.top - 1e-9..=area.bottom + 1e-9).contains(&top), "{top}");
                }
            }
        }
        // Higher is further up, and the far corner is further up than the near one.
        assert!(view.place((0.0, 0.0), 1.0).1 < view.place((0.0, 0.0), 0.0).1);
        assert!(view.ground((1.0, 1.0)).1 < view.ground((-1.0, -1.0)).1);
    }

    #[test]
    fn grids_are_thinned_and_keep_their_ends() {
        assert_eq!(kept(5), [0, 1, 2, 3, 4]);
        let many = kept(1001);
        assert!(many.len() <= MAX_CELLS + 2 && many[0] == 0 && many[many.len() - 1] == 1000, "{}", many.len());
    }
}
