//! A split before rows are chosen: all targets, and inputs that are made only for the rows asked for.

use super::glyphs::{self, GlyphOptions};
use super::images::ImageFiles;
use super::parquet::EncodedImages;
use super::{Column, DataResult, Inputs, Split, Targets};

/// All rows of one split of a source.
pub(super) struct Table {
    pub(super) sample_shape: Vec<usize>,
    pub(super) targets: Targets,
    pub(super) inputs: RowInputs,
    /// The name of the first input, where the source has one.
    pub(super) input_name: Option<String>,
    /// Inputs beside the first.
    pub(super) more: Vec<Column>,
    /// What was left out, in words.
    pub(super) notes: Vec<String>,
}

/// Where the inputs of a row come from.
pub(super) enum RowInputs {
    /// In memory.
    Ready(Inputs),
    /// Drawn when asked for.
    Glyphs(GlyphOptions, Split),
    /// Decoded when asked for.
    Encoded(EncodedImages),
    /// Decoded when a batch is made.
    Files(ImageFiles),
}

impl Table {
    /// Inputs of the given rows, which must exist.
    pub(super) fn into_inputs(self, rows: &[usize]) -> DataResult<Inputs> {
        match self.inputs {
            // Copying all rows would double the memory for nothing.
            RowInputs::Ready(inputs) if rows.iter().copied().eq(0..self.targets.len()) => Ok(inputs),
            RowInputs::Ready(inputs) => Ok(inputs.take(rows, self.sample_shape.iter().product())),
            RowInputs::Glyphs(options, split) => Ok(Inputs::Bytes(glyphs::draw(&options, split, rows))),
            RowInputs::Files(files) => {
                let files = files.take(rows);
                files.check()?;
                Ok(Inputs::Files(files))
            }
            RowInputs::Encoded(images) => Ok(Inputs::Bytes(images.decode(rows)?)),
        }
    }
}
