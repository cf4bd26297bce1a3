//! What is asked of a source.

use crate::data::Split;

/// A split, with options that single sources take; other sources ignore them.
#[derive(Debug, Clone)]
pub(in crate::data) struct Request {
    pub(in crate::data) split: Split,
    pub(in crate::data) glyphs: GlyphOptions,
    /// Side of the images of `images` in pixels.
    pub(in crate::data) image_size: Option<usize>,
    /// Leaves out files of `images` that do not decode.
    pub(in crate::data) skip_broken: bool,
    /// Whether rows without targets will do.
    pub(in crate::data) unlabelled: bool,
    /// The most memory that unpacked files, and decoding, may take.
    pub(in crate::data) memory_bytes: usize,
}

/// Options of the source `glyphs`.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlyphOptions {
    /// Images in the split; `None` means 4,000 for training and 1,000 for testing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Seed of the drawing, the same for both splits, whose images nevertheless differ.
    pub seed: u64,
}

impl GlyphOptions {
    /// Images of `split`.
    pub fn count(&self, split: Split) -> usize {
        self.count.unwrap_or(match split {
            Split::Train => 4000,
            Split::Test => 1000,
        })
    }
}
