//! How figures are set, where they go, and what comes back: their files and captions.

use std::path::{Path, PathBuf};

use super::captions::Captions;
use crate::report::ReportError;

/// What stands in a figure beside its panels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// A legend; the conditions are in figures/captions.md and on the page.
    #[default]
    Paper,
    /// The conditions in small print too, for slides and drafts.
    Annotated,
}

/// How figures are set.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Style {
    /// What stands in them.
    pub look: Look,
    /// Their width in points; without one each has its own, one column or both.
    pub width: Option<f64>,
    /// Whether each panel of a figure also has files of its own.
    pub panels: bool,
}

impl Style {
    /// The width of a figure that is `natural` points wide by itself.
    pub(super) fn width_or(&self, natural: f64) -> f64 {
        self.width.unwrap_or(natural)
    }

    /// What to multiply the height of panels by, where a figure is not `natural` points wide: a wide figure is less tall
    /// for its width.
    pub(super) fn stretch(&self, natural: f64) -> f64 {
        (self.width_or(natural) / natural).powf(2.0 / 3.0)
    }
}

/// Where figures go, and how they are set.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The folder, which exists.
    pub folder: &'a Path,
    /// How they are set.
    pub style: Style,
}

impl<'a> Target<'a> {
    /// Figures in `folder`.
    pub fn new(folder: &'a Path, style: Style) -> Self {
        Self { folder, style }
    }
}

/// Figures that were written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drawn {
    /// Each as `.svg`, `.png` and `.pdf`, in this order.
    pub files: Vec<PathBuf>,
    /// One for each figure.
    pub captions: Captions,
}

impl Drawn {
    /// With those of another call beside them.
    pub fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
        self.captions.extend(other.captions);
    }

    /// Writes the captions beside the figures in `folder`, where there are any; returns the paths of all files.
    ///
    /// # Errors
    /// [`ReportError::File`] where the file cannot be written.
    pub fn finish(self, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
        let mut files = self.files;
        if !files.is_empty() {
            files.push(self.captions.write(folder)?);
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_of_twice_the_width_is_less_than_twice_as_tall() {
        let style = Style { width: Some(480.0), ..Style::default() };
        assert_eq!((style.width_or(240.0), Style::default().width_or(240.0)), (480.0, 240.0));
        assert_eq!(Style::default().stretch(240.0), 1.0);
        assert!((1.5..1.7).contains(&style.stretch(240.0)));
    }
}
