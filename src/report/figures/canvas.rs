//! The sheet that every figure is drawn on: plotters' SVG backend, measured in points.

use std::error::Error;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::element::{Circle, DashedPathElement, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::{DrawingArea, IntoDrawingArea, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle, register_font,
};

use super::hints::Hints;
use super::palette::INK;
use super::point::Point;
use crate::visible::visible;

/// Width of one column of a paper, 3.3 inches, in points.
pub const COLUMN: f64 = 3.3 * 72.0;
/// Width of a figure across both columns, 6.9 inches, in points.
pub const PAGE: f64 = 6.9 * 72.0;
/// The only font: text looks the same on every machine.
pub const FONT: &[u8] = include_bytes!("../fonts/Inter-Regular.otf");
/// Its family name.
pub const FONT_FAMILY: &str = "Inter";
/// Tick labels, legends and notes, in points.
pub const SMALL: f64 = 7.0;
/// Axis titles, in points.
pub const LARGE: f64 = 7.5;

/// The backend knows whole numbers only: twentieths of a point are finer than print.
const UNITS: f64 = 20.0;
/// The backend writes `size / 1.24` as the font size.
const FONT_SCALE: f64 = 1.24;

/// Solid, or how it is broken: lengths of dash and gap in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dash {
    /// Unbroken.
    Solid,
    /// Dash and gap.
    Broken(f64, f64),
}

/// Line styles that go with the series colours, so that grey print tells them apart.
pub fn dash(index: usize) -> Dash {
    const DASHES: [Dash; 4] = [Dash::Solid, Dash::Broken(4.0, 1.5), Dash::Broken(1.2, 1.2), Dash::Broken(7.0, 2.0)];
    DASHES[index % DASHES.len()]
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pen {
    /// Its colour.
    pub color: RGBColor,
    /// Its width in points.
    pub width: f64,
    /// How it is broken.
    pub dash: Dash,
}

impl Pen {
    /// A solid line.
    pub fn solid(color: RGBColor, width: f64) -> Self {
        Self { color, width, dash: Dash::Solid }
    }
}

/// How a data point is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sign {
    /// Its shape.
    pub marker: Marker,
    /// Of its edge, and of its inside too.
    pub color: RGBColor,
    /// Whether it is white inside.
    pub hollow: bool,
}

impl Sign {
    /// A circle.
    pub const fn circle(color: RGBColor, hollow: bool) -> Self {
        Self { marker: Marker::Circle, color, hollow }
    }
}

/// Shape of a data point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// ●
    Circle,
    /// ■
    Square,
    /// ◆
    Diamond,
    /// ▲
    Triangle,
}

impl Marker {
    /// Marker of series `index`.
    pub fn series(index: usize) -> Self {
        [Self::Circle, Self::Square, Self::Diamond, Self::Triangle][index % 4]
    }
}

/// Where a text sits relative to its point; all are centred on its height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// The point is its left end.
    Left,
    /// The point is its middle.
    Center,
    /// The point is its right end.
    Right,
    /// As `Center`, read from bottom to top.
    Upward,
}

/// A sheet under the pen. Failures of the backend are kept and come out at the end of [`draw`].
pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    failure: Option<Box<dyn Error + Send + Sync>>,
    /// Values to be seen where one points.
    pub hints: Hints,
}

fn know_the_font() {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        // A font that cannot be read shows up as a failure of the first text.
        register_font(FONT_FAMILY, FontStyle::Normal, FONT).ok();
    });
}

/// Draws on a sheet of `width × height` points and returns its SVG, with text as text, and what it says where one points.
///
/// # Errors
/// What the backend says.
pub fn draw(
    (width, height): (f64, f64),
    picture: impl FnOnce(&mut Canvas),
) -> Result<(String, Hints), Box<dyn Error + Send + Sync>> {
    know_the_font();
    let size = ((width * UNITS).round() as u32, (height * UNITS).round() as u32);
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let mut canvas = Canvas { area, failure: None, hints: Hints::default() };
    canvas.rectangle((0.0, 0.0), (width, height), RGBColor(255, 255, 255));
    picture(&mut canvas);
    let presented = canvas.area.present();
    let (failure, hints) = (canvas.failure.take(), std::mem::take(&mut canvas.hints));
    drop(canvas);
    failure.map_or(Ok(()), Err)?;
    presented?;
    // Physical size, and joints that do not spike where a curve turns sharply.
    let plain = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    let sized = format!("width=\"{width:.3}pt\" height=\"{height:.3}pt\" stroke-linejoin=\"round\"");
    Ok((svg.replacen(&plain, &sized, 1), hints))
}

fn units((x, y): Point) -> (i32, i32) {
    ((x * UNITS).round() as i32, (y * UNITS).round() as i32)
}

impl Canvas<'_> {
    fn keep<E: Error + Send + Sync + 'static>(&mut self, drawn: Result<(), E>) {
        if let Err(error) = drawn {
            self.failure.get_or_insert_with(|| error.into());
        }
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(&mut self, from: Point, to: Point, fill: RGBColor) {
        let drawn = self.area.draw(&Rectangle::new([units(from), units(to)], fill.filled()));
        self.keep(drawn);
    }

    /// A filled polygon. No transparency anywhere: print shops flatten it, and svg2pdf then orders its parts at random.
    pub fn polygon(&mut self, corners: &[Point], fill: RGBColor) {
        let corners: Vec<_> = corners.iter().map(|corner| units(*corner)).collect();
        let drawn = self.area.draw(&Polygon::new(corners, fill.filled()));
        self.keep(drawn);
    }

    /// A line through `points`.
    pub fn line(&mut self, points: &[Point], pen: Pen) {
        let mut path: Vec<_> = points.iter().map(|point| units(*point)).collect();
        path.dedup();
        if path.len() < 2 {
            return;
        }
        let style = ShapeStyle::from(pen.color).stroke_width((pen.width * UNITS).round().max(1.0) as u32);
        let drawn = match pen.dash {
            Dash::Solid => self.area.draw(&PathElement::new(path, style)),
            Dash::Broken(dash, gap) => {
                let length = |points: f64| (points * UNITS).round() as i32;
                self.area.draw(&DashedPathElement::new(path, length(dash), length(gap), style))
            }
        };
        self.keep(drawn);
    }

    /// A data point.
    pub fn marker(&mut self, at: Point, Sign { marker, color, hollow }: Sign) {
        const RADIUS: f64 = 1.7;
        let around = |corners: &[Point]| -> Vec<Point> {
            corners.iter().map(|(x, y)| (at.0 + RADIUS * x, at.1 + RADIUS * y)).collect()
        };
        let fill = if hollow { RGBColor(255, 255, 255) } else { color };
        let mut outline = match marker {
            Marker::Circle => {
                let radius = (RADIUS * UNITS) as i32;
                let edge = ShapeStyle::from(color).stroke_width((0.9 * UNITS) as u32);
                let disc = self.area.draw(&Circle::new(units(at), radius, fill.filled()));
                let ring = self.area.draw(&Circle::new(units(at), radius, edge));
                self.keep(disc);
                return self.keep(ring);
            }
            Marker::Square => around(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Marker::Diamond => around(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
            Marker::Triangle => around(&[(0.0, -1.2), (1.15, 0.85), (-1.15, 0.85)]),
        };
        self.polygon(&outline, fill);
        // One corner more than closed, so that the last joint is round too.
        outline.extend_from_within(..2);
        self.line(&outline, Pen::solid(color, 0.9));
    }

    /// `at`, or the nearest place from which a text of this width does not leave the sheet.
    fn held(&self, at: Point, width: f64, align: Align) -> Point {
        let (right, bottom) = self.area.dim_in_pixel();
        let [right, bottom] = [right, bottom].map(|end| f64::from(end) / UNITS);
        let hold = |place: f64, before: f64, end: f64| place.min(end - width + before).max(before);
        match align {
            Align::Left => (hold(at.0, 0.0, right), at.1),
            Align::Center => (hold(at.0, 0.5 * width, right), at.1),
            Align::Right => (hold(at.0, width, right), at.1),
            Align::Upward => (at.0, hold(at.1, 0.5 * width, bottom)),
        }
    }

    /// One line of text in `color`, `size` points high; moved where it would leave the sheet.
    pub fn text_in(&mut self, text: &str, at: Point, (size, align): (f64, Align), color: RGBColor) {
        let at = self.held(at, text_width(text, size), align);
        let (horizontal, turn) = match align {
            Align::Left => (HPos::Left, FontTransform::None),
            Align::Center => (HPos::Center, FontTransform::None),
            Align::Right => (HPos::Right, FontTransform::None),
            Align::Upward => (HPos::Center, FontTransform::Rotate270),
        };
        // The backend's idea of the middle lies 0.25 em above the base line; that of figures and capitals is at 0.36.
        let drop = 0.11 * size;
        let at = if align == Align::Upward { (at.0 + drop, at.1) } else { (at.0, at.1 + drop) };
        let style = TextStyle::from(font(size).transform(turn)).color(&color);
        let style = style.pos(Pos::new(horizontal, VPos::Center));
        let drawn = self.area.draw(&Text::new(visible(text), units(at), style));
        self.keep(drawn);
    }

    /// One line of dark text.
    pub fn text(&mut self, text: &str, at: Point, size: f64, align: Align) {
        self.text_in(text, at, (size, align), INK);
    }
}

fn font(size: f64) -> FontDesc<'static> {
    FontDesc::new(FontFamily::Name(FONT_FAMILY), size * UNITS * FONT_SCALE, FontStyle::Normal)
}

/// Width of `text` in points; an estimate from its letters where the font has no answer.
pub fn text_width(text: &str, size: f64) -> f64 {
    know_the_font();
    // plotters takes the size for the height of a line, which is 1.21 em in this font.
    let text = visible(text);
    let measured = font(size).layout_box(&text).map(|((left, _), (right, _))| f64::from(right - left));
    measured.map_or(0.6 * size * text.chars().count() as f64, |width| width / UNITS * (1.21 / FONT_SCALE))
}

/// `text`, or as much of its beginning as fits into `width` points, with an ellipsis.
pub fn shorten(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    loop {
        kept.pop();
        let short = kept.iter().collect::<String>().trim_end().to_owned() + "…";
        if kept.is_empty() || text_width(&short, size) <= width {
            return short;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sheet_has_its_size_in_points_and_escapes_text() {
        let (svg, _) =
            draw((COLUMN, 100.0), |canvas| canvas.text("a < b & λ₁", (10.0, 10.0), SMALL, Align::Left)).unwrap();
        assert!(svg.contains("width=\"237.600pt\" height=\"100.000pt\""), "{svg}");
        assert!(svg.contains("a &lt; b &amp; λ₁"), "{svg}");
    }

    #[test]
    fn text_does_not_leave_the_sheet() {
        let words = "difference from sam, % of its mean";
        let width = text_width(words, LARGE);
        let held = |at, align| {
            let mut place = None;
            draw((COLUMN, 200.0), |canvas| place = Some(canvas.held(at, width, align))).unwrap();
            place.unwrap()
        };
        assert_eq!(held((120.0, 50.0), Align::Center), (120.0, 50.0));
        let ends = [(Align::Left, width), (Align::Center, 0.5 * width), (Align::Right, 0.0)];
        for (align, room) in ends {
            assert!((held((COLUMN + 1.0, 50.0), align).0 - (COLUMN - room)).abs() < 0.1, "{align:?}");
            assert!((held((1.0, 50.0), align).0 - (width - room).max(1.0)).abs() < 0.1, "{align:?}");
        }
        assert!((held((5.0, 199.0), Align::Upward).1 - (200.0 - 0.5 * width)).abs() < 0.1);
    }

    #[test]
    fn shortened_text_fits() {
        let long = "cross-entropy, mean over 50 000 rows";
        assert_eq!(shorten(long, SMALL, 1e3), long);
        let short = shorten(long, SMALL, 60.0);
        assert!(short.ends_with('…') && text_width(&short, SMALL) <= 60.0, "{short}");
        assert_eq!(shorten("abc", SMALL, 0.0), "…");
    }
}
