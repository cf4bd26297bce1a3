//! The captions of figures, in a file beside them: what each figure shows, and under which conditions.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::files::write_atomic;
use crate::input;
use crate::report::ReportError;
use crate::visible::visible;

/// A caption for each figure, by the name of the figure, in the order in which they were drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captions(Vec<(String, String)>);

impl Captions {
    /// Name of the file in the folder of figures.
    pub const FILE: &str = "captions.md";

    /// The caption of one figure.
    pub fn of_one(figure: &str, text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let end = if text.trim_end().ends_with('.') { "" } else { "." };
        Self(vec![(figure.to_owned(), visible(&words.join(" ")).into_owned() + end)])
    }

    /// The captions in `folder`; none if it has no such file.
    pub fn read(folder: &Path) -> Self {
        let text = input::read_text(&folder.join(Self::FILE)).unwrap_or_default();
        let mut captions = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match (line.strip_prefix("## "), captions.0.last_mut()) {
                (Some(figure), _) => captions.0.push((figure.to_owned(), String::new())),
                (None, Some((_, text))) => text.push_str(line),
                (None, None) => {}
            }
        }
        captions
    }

    /// The caption of a figure.
    pub fn of(&self, figure: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == figure).map(|(_, text)| text.as_str())
    }

    /// Adds other captions, which replace those of the same figures.
    pub fn extend(&mut self, others: Self) {
        self.0.retain(|(figure, _)| others.of(figure).is_none());
        self.0.extend(others.0);
    }

    /// Writes them into `folder`, atomically; returns the path.
    ///
    /// # Errors
    /// [`ReportError::File`] if the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, ReportError> {
        let path = folder.join(Self::FILE);
        write_atomic(&path, |file| {
            writeln!(file, "# Captions")?;
            self.0.iter().try_for_each(|(figure, text)| write!(file, "\n## {figure}\n\n{text}\n"))
        })?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Captions::read(folder.path()), Captions::default());
        let mut captions = Captions::of_one("line", "The loss.\n## plane\n\nA heading is no way out.");
        captions.extend(Captions::of_one("plane", "Contours."));
        captions.extend(Captions::of_one("plane", "Contours of the loss."));
        captions.write(folder.path()).unwrap();
        let read = Captions::read(folder.path());
        assert_eq!(read, captions);
        assert_eq!(read.of("plane"), Some("Contours of the loss."));
        assert_eq!(read.of("line"), Some("The loss. ## plane A heading is no way out."));
        assert_eq!(read.of("surface"), None);
    }
}
