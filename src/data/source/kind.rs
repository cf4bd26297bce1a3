//! What a kind of source answers.

use std::path::{Path, PathBuf};

use super::request::Request;
use super::table::Table;
use crate::data::{DataResult, Normalisation};

/// A place that rows come from. Its word on the command line stands in the list of [`super::Source`].
pub(super) trait Kind {
    /// What follows the word and a colon, such as `DIR`; nothing where the word stands alone.
    fn place() -> &'static str
    where
        Self: Sized;

    /// What that place is, for the help and for the refusal of another.
    fn about() -> &'static str
    where
        Self: Sized;

    /// Reads the text after the colon; `None` for a text of another form.
    fn parse(place: Option<&str>) -> Option<Self>
    where
        Self: Sized;

    /// The file or folder that it reads, where there is one.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// The same, to be changed.
    fn path_mut(&mut self) -> Option<&mut PathBuf> {
        None
    }

    /// The text after the colon, with its path as `path` writes it.
    fn written(&self, path: &dyn Fn(&Path) -> String) -> Option<String> {
        self.path().map(path)
    }

    /// The source in a word or a file name, for captions: no folders of one machine.
    fn caption(&self) -> String {
        let path = self.path().unwrap_or(Path::new(""));
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    /// The normalisation that goes with it unless another is asked for; `None` leaves values as they are.
    fn default_normalisation(&self) -> Option<Normalisation> {
        None
    }

    /// Whether it has rows to test on.
    fn has_test_split(&self) -> bool {
        true
    }

    /// The class that `class` is mistaken for under asymmetric noise; `class` itself where it is not.
    fn mistaken(&self, class: u32, num_classes: usize) -> u32 {
        ((class as usize + 1) % num_classes.max(1)) as u32
    }

    /// Writes out the defaults of the options that it takes.
    fn resolve(&self, _request: &mut Request) {}

    /// All rows of a split that it has, images not yet drawn or decoded.
    fn open(&self, request: &Request) -> DataResult<Table>;
}

/// The answers of a kind that is a tuple of one path.
macro_rules! is_a_path {
    () => {
        fn parse(place: Option<&str>) -> Option<Self> {
            place.filter(|place| !place.is_empty()).map(|place| Self($crate::path_text::from_text(place)))
        }

        fn path(&self) -> Option<&std::path::Path> {
            Some(&self.0)
        }

        fn path_mut(&mut self) -> Option<&mut std::path::PathBuf> {
            Some(&mut self.0)
        }
    };
}
pub(super) use is_a_path;
