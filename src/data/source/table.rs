//! A split before rows are chosen.

use crate::data::{Column, DataResult, Inputs, Targets};

/// All rows of one split of a source.
pub(in crate::data) struct Table {
    pub(in crate::data) sample_shape: Vec<usize>,
    pub(in crate::data) rows: Rows,
    /// The name of the first input, where the source has one.
    pub(in crate::data) input_name: Option<String>,
    /// Inputs besides the first.
    pub(in crate::data) more: Vec<Column>,
    /// Notes for the user on what was left out.
    pub(in crate::data) notes: Vec<String>,
}

/// Reads the given rows, which must exist.
type Reader<T> = Box<dyn FnOnce(&[usize]) -> DataResult<T>>;

/// How targets and inputs are read.
pub(in crate::data) enum Rows {
    /// Targets of all rows, which may be replaced, and inputs of those asked for.
    Apart { targets: Targets, inputs: Reader<Inputs> },
    /// Parts of one sequence, which need not fit in memory as a whole.
    Sequence { len: usize, read: Reader<(Inputs, Targets)> },
}

impl Table {
    /// Rows whose inputs are made when they are asked for.
    pub(super) fn new(
        sample_shape: Vec<usize>,
        targets: Targets,
        inputs: impl FnOnce(&[usize]) -> DataResult<Inputs> + 'static,
    ) -> Self {
        let rows = Rows::Apart { targets, inputs: Box::new(inputs) };
        Self { sample_shape, rows, input_name: None, more: Vec::new(), notes: Vec::new() }
    }

    /// Rows whose inputs are at hand.
    pub(super) fn of_inputs(sample_shape: Vec<usize>, targets: Targets, inputs: Inputs) -> Self {
        let (count, width) = (targets.len(), sample_shape.iter().product());
        // Copying all rows would double the memory for nothing.
        let take =
            move |rows: &[usize]| Ok(if rows.iter().copied().eq(0..count) { inputs } else { inputs.take(rows, width) });
        Self::new(sample_shape, targets, take)
    }

    /// Rows of one sequence.
    pub(super) fn sequence(
        sample_shape: Vec<usize>,
        len: usize,
        read: impl FnOnce(&[usize]) -> DataResult<(Inputs, Targets)> + 'static,
    ) -> Self {
        let rows = Rows::Sequence { len, read: Box::new(read) };
        Self { sample_shape, rows, input_name: None, more: Vec::new(), notes: Vec::new() }
    }

    /// Number of rows.
    pub(in crate::data) fn len(&self) -> usize {
        match &self.rows {
            Rows::Apart { targets, .. } => targets.len(),
            Rows::Sequence { len, .. } => *len,
        }
    }

    /// Inputs and targets of the given rows, which must exist.
    pub(in crate::data) fn read(self, rows: &[usize]) -> DataResult<(Inputs, Targets)> {
        match self.rows {
            Rows::Apart { targets, inputs } => Ok((inputs(rows)?, targets.take(rows))),
            Rows::Sequence { read, .. } => read(rows),
        }
    }

    #[cfg(test)]
    pub(in crate::data) fn targets(&self) -> &Targets {
        match &self.rows {
            Rows::Apart { targets, .. } => targets,
            Rows::Sequence { .. } => panic!("a sequence"),
        }
    }
}
