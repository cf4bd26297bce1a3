//! Panels above one another over the same axis.

use super::canvas::{COLUMN, Canvas};
use super::panel::{Area, Axis, Panel};
use super::sheet::{Part, Sheet};
use super::style::{Drawn, Target};
use crate::report::ReportError;

/// Draws into a pair of axes.
pub type Filling<'a> = Box<dyn Fn(&mut Canvas, &Panel) + 'a>;

/// One of the panels.
pub struct Layer<'a> {
    /// What tells its files from those of the others.
    pub name: String,
    /// Its upright axis.
    pub y: Axis,
    /// Its height in a figure of one column, in points, without what stands below its axis.
    pub height: f64,
    /// Fills it, axes included.
    pub draw: Filling<'a>,
}

/// Writes a figure of `layers` from top to bottom; the last carries the numbers and the title of `x`. `sheet` need not know
/// its height.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_stack(
    sheet: Sheet,
    target: Target<'_>,
    name: &str,
    x: &Axis,
    layers: &[Layer<'_>],
) -> Result<Drawn, ReportError> {
    let stretch = target.style.stretch(COLUMN);
    let body_height = stretch * layers.iter().map(|layer| layer.height).sum::<f64>() + x.foot();
    let parts: Vec<Part<'_>> = stack(x, layers, stretch);
    Sheet { body_height, ..sheet }.write_parts(target, name, &parts)
}

/// Layers as parts of a figure whose body has room for them, times `stretch`, and for the foot of `x`.
pub fn stack<'a>(x: &'a Axis, layers: &'a [Layer<'a>], stretch: f64) -> Vec<Part<'a>> {
    let left = layers.iter().map(|layer| layer.y.room(stretch * layer.height)).fold(0.0, f64::max);
    let part = |(index, layer): (usize, &'a Layer<'a>)| {
        let above: f64 = layers.iter().take(index).map(|layer| stretch * layer.height).sum();
        let last = index + 1 == layers.len();
        let foot = if last { x.foot() } else { 0.0 };
        Part {
            name: layer.name.clone(),
            area: Box::new(move |body| {
                let top = body.top + above;
                Area { top, bottom: top + stretch * layer.height + foot, ..body }
            }),
            height: stretch * layer.height + x.foot(),
            draw: Box::new(move |canvas, area, alone| {
                let across = if last || alone { x.clone() } else { Axis::bare(x.scale) };
                (layer.draw)(canvas, &Panel::new(area, left, across, layer.y.clone()));
            }),
        }
    };
    layers.iter().enumerate().map(part).collect()
}
