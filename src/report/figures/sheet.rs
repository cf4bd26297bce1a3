//! What all figures share around their panels: legend above, conditions below where they are asked for.

use plotters::style::RGBColor;

use super::canvas::{Align, COLUMN, Canvas, PAGE, Pen, SMALL, Sign, shorten, text_width};
use super::captions::Captions;
use super::export::write_figure;
use super::palette::{GREY, INK, tint};
use super::panel::Area;
use super::style::{Drawn, Look, Target};
use crate::report::ReportError;

/// What stands before a legend's words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// A piece of line.
    Line(Pen),
    /// A data point.
    Mark(Sign),
    /// An upright bar with caps.
    Bar(Pen),
    /// A filled box.
    Patch(RGBColor),
    /// A short upright stroke.
    Tick(Pen),
    /// An upright line with a cap.
    Stem(Pen),
    /// A line over its shade.
    Band(Pen),
    /// A hatched block.
    Hatch(Pen),
}

impl Sample {
    fn width(self) -> f64 {
        match self {
            Self::Line(_) | Self::Band(_) | Self::Hatch(_) => SAMPLE,
            Self::Patch(_) | Self::Tick(_) => 8.0,
            Self::Mark(..) | Self::Bar(_) | Self::Stem(_) => 5.0,
        }
    }

    fn color(self) -> RGBColor {
        match self {
            Self::Line(pen)
            | Self::Band(pen)
            | Self::Tick(pen)
            | Self::Bar(pen)
            | Self::Stem(pen)
            | Self::Hatch(pen) => pen.color,
            Self::Patch(color) | Self::Mark(Sign { color, .. }) => color,
        }
    }
}

/// A figure: `body_height` points for panels, and what stands around them.
#[derive(Debug, Clone, Default)]
pub struct Sheet {
    /// In reading order; rows break by themselves.
    pub legend: Vec<(Sample, String)>,
    /// Height of the panels with their labels, in points.
    pub body_height: f64,
    /// What it shows: how the caption begins.
    pub caption: String,
    /// The conditions: how the caption ends, and small print at the bottom of the annotated look, two lines at most.
    pub statement: String,
}

/// Fills an area of a sheet; `true` where it is all there is.
pub type Picture<'a> = Box<dyn Fn(&mut Canvas, Area, bool) + 'a>;

/// A panel of a figure, drawn at its place or alone.
pub struct Part<'a> {
    /// What tells its files from those of the others.
    pub name: String,
    /// Its place in the figure's body.
    pub area: Box<dyn Fn(Area) -> Area + 'a>,
    /// Its height with all labels, alone, in points.
    pub height: f64,
    /// Draws it.
    pub draw: Picture<'a>,
}

const MARGIN: f64 = 3.0;
const ROW: f64 = 10.0;
/// Width of the widest sample.
const SAMPLE: f64 = 13.0;
const LEGEND_LEFT: f64 = 6.0;

impl Sheet {
    /// Draws the legend, lets `picture` fill the area below it, and writes the files of the figure: one column wide, unless
    /// the style says otherwise.
    ///
    /// # Errors
    /// As [`write_figure`].
    pub fn write(
        &self,
        target: Target<'_>,
        name: &str,
        picture: impl FnOnce(&mut Canvas, Area),
    ) -> Result<Drawn, ReportError> {
        self.write_at(COLUMN, target, name, picture)
    }

    /// The same of several panels; where the style says so, each has files of its own too, `NAME-PART`.
    ///
    /// # Errors
    /// As [`write_figure`].
    pub fn write_parts(&self, target: Target<'_>, name: &str, parts: &[Part<'_>]) -> Result<Drawn, ReportError> {
        self.write_parts_at(COLUMN, target, name, parts)
    }

    /// The same across both columns, unless the style says otherwise; parts alone are as wide as one.
    ///
    /// # Errors
    /// As [`write_figure`].
    pub fn write_wide_parts(&self, target: Target<'_>, name: &str, parts: &[Part<'_>]) -> Result<Drawn, ReportError> {
        self.write_parts_at(PAGE, target, name, parts)
    }

    fn write_parts_at(
        &self,
        natural: f64,
        target: Target<'_>,
        name: &str,
        parts: &[Part<'_>],
    ) -> Result<Drawn, ReportError> {
        let alone = parts.len() == 1;
        let mut drawn = self.write_at(natural, target, name, |canvas, body| {
            for part in parts {
                let area = if alone { body } else { (part.area)(body) };
                (part.draw)(canvas, area, alone);
            }
        })?;
        if target.style.panels && !alone {
            for (part, own) in parts.iter().zip(file_names(parts)) {
                let sheet = Self { body_height: part.height, ..self.clone() };
                let only = |canvas: &mut Canvas, body: Area| (part.draw)(canvas, body, true);
                drawn.files.extend(sheet.write_at(COLUMN, target, &format!("{name}-{own}"), only)?.files);
            }
        }
        Ok(drawn)
    }

    fn write_at(
        &self,
        natural: f64,
        target: Target<'_>,
        name: &str,
        picture: impl FnOnce(&mut Canvas, Area),
    ) -> Result<Drawn, ReportError> {
        let width = target.style.width_or(natural);
        let rows = self.legend_rows(width);
        let lines = match target.style.look {
            Look::Paper => Vec::new(),
            Look::Annotated => wrap(&self.statement, width - 2.0 * MARGIN),
        };
        let top = MARGIN + ROW * rows.len() as f64 + if rows.is_empty() { 0.0 } else { 1.5 };
        let bottom = top + self.body_height;
        let height = bottom + if lines.is_empty() { 0.0 } else { 3.0 + ROW * lines.len() as f64 } + MARGIN;
        let files = write_figure(target.folder, name, (width, height), |canvas| {
            for (row, entries) in rows.iter().enumerate() {
                draw_row(canvas, entries, MARGIN + ROW * (row as f64 + 0.5));
            }
            picture(canvas, Area { left: MARGIN, top, right: width, bottom });
            for (row, line) in lines.iter().enumerate() {
                let at = (MARGIN, bottom + 3.0 + ROW * (row as f64 + 0.5));
                canvas.text_in(line, at, (SMALL, Align::Left), GREY);
            }
        })?;
        Ok(Drawn { files, captions: Captions::of_one(name, &format!("{} {}", self.caption, self.statement)) })
    }

    fn legend_rows(&self, room: f64) -> Vec<Vec<(f64, Sample, String)>> {
        let mut rows: Vec<Vec<(f64, Sample, String)>> = Vec::new();
        let mut right = f64::INFINITY;
        for (sample, words) in &self.legend {
            let words = shorten(words, SMALL, room - LEGEND_LEFT - SAMPLE - 8.0);
            let width = sample.width() + 3.0 + text_width(&words, SMALL) + 9.0;
            if right + width - 9.0 > room - MARGIN {
                rows.push(Vec::new());
                right = LEGEND_LEFT;
            }
            if let Some(row) = rows.last_mut() {
                row.push((right, *sample, words));
            }
            right += width;
        }
        rows
    }
}

/// Names of parts in letters that any system takes, no two alike.
fn file_names(parts: &[Part<'_>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let spelled = part.name.replace('λ', "lambda").replace('η', "eta").replace('σ', "sigma").replace('β', "beta");
        let words = spelled.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let name = words.collect::<Vec<_>>().join("-").to_lowercase();
        let taken = name.is_empty() || names.contains(&name);
        names.push(if taken { format!("{name}{}", index + 1) } else { name });
    }
    names
}

fn draw_row(canvas: &mut Canvas, entries: &[(f64, Sample, String)], y: f64) {
    for (left, sample, words) in entries {
        let right = left + sample.width();
        // Other samples say how something is drawn, not what it is.
        if matches!(sample, Sample::Line(_) | Sample::Band(_) | Sample::Mark(Sign { hollow: false, .. })) {
            canvas.hints.name(sample.color(), words);
        }
        let middle = 0.5 * (left + right);
        match *sample {
            Sample::Line(pen) => canvas.line(&[(*left, y), (right, y)], pen),
            Sample::Mark(sign) => canvas.marker((middle, y), sign),
            Sample::Bar(pen) => {
                canvas.line(&[(middle, y - 3.5), (middle, y + 3.5)], pen);
                for end in [y - 3.5, y + 3.5] {
                    canvas.line(&[(middle - 1.8, end), (middle + 1.8, end)], pen);
                }
            }
            Sample::Patch(fill) => canvas.rectangle((*left, y - 3.0), (right, y + 3.0), fill),
            Sample::Tick(pen) => {
                for x in [middle - 3.0, middle, middle + 2.0] {
                    canvas.line(&[(x, y - 2.0), (x, y + 2.0)], pen);
                }
            }
            Sample::Stem(pen) => {
                canvas.line(&[(middle, y + 3.5), (middle, y - 3.0)], pen);
                canvas.line(&[(middle - 1.2, y - 3.0), (middle + 1.2, y - 3.0)], pen);
            }
            Sample::Band(pen) => {
                canvas.rectangle((*left, y - 3.0), (right, y + 3.0), tint(pen.color));
                canvas.line(&[(*left, y), (right, y)], pen);
            }
            Sample::Hatch(pen) => {
                for foot in [*left, left + 4.0, left + 8.0] {
                    let top = (foot + 6.0).min(right);
                    canvas.line(&[(foot, y + 3.0), (top, y + 3.0 - (top - foot))], pen);
                }
                for edge in [*left, right] {
                    canvas.line(&[(edge, y - 3.0), (edge, y + 3.0)], pen);
                }
            }
        }
        canvas.text_in(words, (right + 3.0, y), (SMALL, Align::Left), INK);
    }
}

/// Breaks `text` between words into at most two lines; what is too long ends in an ellipsis.
fn wrap(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if lines_full(line, word, width) => lines.push(word.to_owned()),
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    if lines.len() > 2 {
        let rest = lines.split_off(1).join(" ");
        lines.push(rest);
    }
    lines.into_iter().map(|line| shorten(&line, SMALL, width)).collect()
}

fn lines_full(line: &str, word: &str, width: f64) -> bool {
    text_width(&format!("{line} {word}"), SMALL) > width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_wrap_into_two_lines_at_most() {
        assert!(wrap("", 100.0).is_empty());
        let lines = wrap(&"cross-entropy, mean over rows, ".repeat(9), 200.0);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…') && lines.iter().all(|line| text_width(line, SMALL) <= 200.0), "{lines:?}");
    }

    #[test]
    fn a_long_legend_breaks_into_rows_that_fit() {
        let entry = |i: usize| (Sample::Line(Pen::solid(INK, 1.0)), format!("series number {i}"));
        let sheet = Sheet { legend: (0..9).map(entry).collect(), ..Sheet::default() };
        let rows = sheet.legend_rows(COLUMN);
        assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), 9);
        assert!(rows.len() >= 3 && rows.iter().all(|row| !row.is_empty()));
    }

    #[test]
    fn parts_have_names_of_their_own() {
        let part = |name: &str| Part {
            name: name.into(),
            area: Box::new(|area| area),
            height: 10.0,
            draw: Box::new(|_, _, _| ()),
        };
        let parts = ["largest λ", "Trace (×10³)", "trace, ×10³", "∅"].map(part);
        assert_eq!(file_names(&parts), ["largest-lambda", "trace-10", "trace-103", "4"]);
    }
}
