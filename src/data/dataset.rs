//! Rows together with their origin: checks and selection.

use std::collections::BTreeMap;
use std::path::PathBuf;

use safetensors::tensor::TensorView;

use super::rows::take;
use super::source::{Entry, table_of_tensors};
use super::{Column, DataError, DataResult, DataSpec, Inputs, Memory, Normalisation, Targets};
use crate::Result;
use crate::kernels::DEFAULT_MEMORY;
use crate::team::{Alone, Team};

/// Rows in memory, or image files to read, together with their origin.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The specification it was loaded from, such as `glyphs` or `cifar10:DIR`.
    pub source: String,
    /// The name of the first input: `x` unless a file of tensors says otherwise.
    pub input_name: String,
    /// Shape of one sample, `[C, H, W]` or `[features]`.
    pub sample_shape: Vec<usize>,
    /// Inputs of all rows.
    pub inputs: Inputs,
    /// Inputs besides the first, by name.
    pub columns: Vec<Column>,
    /// Targets of all rows.
    pub targets: Targets,
    /// The source's own labels, where label noise or the labels of a file replaced them; not part of the hash.
    pub clean_labels: Option<Vec<u32>>,
    /// Notes for the user on how the rows were found, such as files that were left out.
    pub notes: Vec<String>,
    /// Whether rows follow one another, as parts of one text: data shards are then blocks of neighbours.
    pub consecutive: bool,
    /// Applied when a batch is made; `None` leaves the values (bytes still become `b / 255`).
    pub normalisation: Option<Normalisation>,
    /// SHA-256 (hex) of inputs and targets as they are used, see [`Dataset::new`].
    pub sha256: String,
}

impl Dataset {
    /// Joins rows, checks that their lengths agree and hashes them.
    ///
    /// The hash covers, in this order: the text `flatness data 1`, the sample shape, the number of rows, the
    /// normalisation, the inputs (bytes as they are, floats of any width as `f64`, of image files the path below the
    /// source's folder and the size in bytes but not the content, which would have to be read) and the targets (labels
    /// as `u32`, or width and values as `f64`), numbers little-endian. So it depends on what the network sees and not
    /// on how that is stored on disk.
    ///
    /// # Errors
    /// [`DataError`] where lengths disagree, a label is not below `num_classes`, or the normalisation does not
    /// fit the channels.
    pub fn new(
        source: String,
        sample_shape: Vec<usize>,
        inputs: Inputs,
        targets: Targets,
        normalisation: Option<Normalisation>,
    ) -> Result<Self> {
        let dataset = Self::unhashed(source, (sample_shape, inputs), Vec::new(), targets, normalisation)?;
        dataset.hashed(&Alone)
    }

    /// Rows whose hash is still to be taken.
    pub(super) fn unhashed(
        source: String,
        (sample_shape, inputs): (Vec<usize>, Inputs),
        columns: Vec<Column>,
        targets: Targets,
        normalisation: Option<Normalisation>,
    ) -> Result<Self> {
        let mut dataset = Self {
            source,
            input_name: "x".to_owned(),
            sample_shape,
            inputs,
            columns,
            targets,
            clean_labels: None,
            notes: Vec::new(),
            consecutive: false,
            normalisation,
            sha256: String::new(),
        };
        dataset.check()?;
        Ok(dataset)
    }

    /// The same rows with their hash, which the ranks of `team` take together: see [`Dataset::hash`].
    pub(super) fn hashed(mut self, team: &dyn Team) -> Result<Self> {
        self.sha256 = self.hash(team)?;
        Ok(self)
    }

    /// Rows in memory, from tensors as a file of [`Tensors`](super::Tensors) holds them: the inputs by name, and `y`.
    ///
    /// # Errors
    /// As for such a file.
    pub fn of_tensors(tensors: &BTreeMap<String, TensorView<'_>>) -> Result<Self> {
        let entries = tensors.iter().map(|(name, view)| (name.clone(), Entry::Read(view.clone()))).collect();
        let table = table_of_tensors("rows in memory".as_ref(), &entries)?;
        DataSpec::new(Memory.into()).rows_of(table, DEFAULT_MEMORY)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of classes of the source; `None` where targets are real values.
    pub fn num_classes(&self) -> Option<usize> {
        match &self.targets {
            Targets::Classes { num_classes, .. } => Some(*num_classes),
            Targets::Tokens { .. } | Targets::Values { .. } => None,
        }
    }

    /// Length of the first axis of a sample: colour channels of an image, features of a flat sample.
    pub fn channels(&self) -> usize {
        self.sample_shape.first().copied().unwrap_or(1)
    }

    /// Numbers per sample.
    pub fn sample_len(&self) -> usize {
        self.sample_shape.iter().product()
    }

    /// The given rows, in the given order, as a data set of their own.
    ///
    /// # Errors
    /// [`DataError::NoSuchRow`].
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        self.check_rows(rows)?;
        let inputs = self.inputs.take(rows, self.sample_len());
        let targets = self.targets.take(rows);
        let (source, shape) = (self.source.clone(), self.sample_shape.clone());
        let columns = self.columns.iter().map(|column| column.take(rows)).collect();
        let mut picked = Self::unhashed(source, (shape, inputs), columns, targets, self.normalisation.clone())?;
        picked.input_name.clone_from(&self.input_name);
        picked.notes.clone_from(&self.notes);
        picked.consecutive = self.consecutive;
        picked.clean_labels = self.clean_labels.as_ref().map(|labels| take(labels, rows, 1));
        picked.hashed(&Alone)
    }

    /// Rows whose label is not the source's own; `None` where nothing replaced the source's labels.
    pub fn wrong_labels(&self) -> Option<usize> {
        match (&self.targets, &self.clean_labels) {
            (Targets::Classes { labels, .. }, Some(clean)) => {
                Some(labels.iter().zip(clean).filter(|(label, clean)| label != clean).count())
            }
            _ => None,
        }
    }

    /// Checks that all labels, except those equal to `ignored`, are classes of a model with `classes` of them.
    ///
    /// # Errors
    /// [`DataError::LabelPastOutputs`] for the first one that is not.
    pub fn check_labels(&self, classes: usize, ignored: Option<i64>) -> Result<()> {
        let fits = |label: i64| Some(label) == ignored || usize::try_from(label).is_ok_and(|label| label < classes);
        let misfit = match &self.targets {
            Targets::Classes { labels, .. } => {
                labels.iter().map(|&label| i64::from(label)).enumerate().find(|l| !fits(l.1))
            }
            Targets::Tokens { labels, .. } => labels.iter().copied().enumerate().find(|l| !fits(l.1)),
            Targets::Values { .. } => None,
        };
        match misfit {
            Some((place, label)) => {
                let row = place / self.targets.per_row().max(1);
                Err(DataError::LabelPastOutputs { row, label, outputs: classes }.into())
            }
            None => Ok(()),
        }
    }

    pub(super) fn check_rows(&self, rows: &[usize]) -> DataResult<()> {
        match rows.iter().find(|&&row| row >= self.len()) {
            Some(&row) => Err(DataError::NoSuchRow { row, num_rows: self.len() }),
            None => Ok(()),
        }
    }

    fn check(&mut self) -> DataResult<()> {
        let (len, sample_len) = (self.inputs.len(), self.sample_len());
        let targets = match &self.targets {
            Targets::Classes { labels, .. } => labels.len(),
            Targets::Tokens { labels, .. } => labels.len(),
            Targets::Values { values, .. } => values.len(),
        };
        if targets.checked_rem(self.targets.per_row()) != Some(0) {
            let path = PathBuf::from(&self.source);
            return Err(DataError::LengthMismatch { path, inputs: len / sample_len.max(1), targets });
        }
        let columns = self.columns.iter().map(|column| (column.inputs.len(), column.sample_shape.iter().product()));
        for (len, each) in std::iter::once((len, sample_len)).chain(columns) {
            if len != self.len() * each {
                let (path, targets) = (PathBuf::from(&self.source), self.len());
                return Err(DataError::LengthMismatch { path, inputs: len / each.max(1), targets });
            }
        }
        if let Targets::Classes { labels, num_classes } = &self.targets
            && let Some(row) = labels.iter().position(|&label| label as usize >= *num_classes)
        {
            let (path, label) = (PathBuf::from(&self.source), i128::from(labels[row]));
            return Err(DataError::Label { path, row, label, num_classes: *num_classes as u64 });
        }
        let channels = self.channels();
        if let Some(normalisation) = &mut self.normalisation {
            normalisation.fit(channels)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(inputs: Inputs, labels: &[u32]) -> Dataset {
        let targets = Targets::Classes { labels: labels.to_vec(), num_classes: 4 };
        Dataset::new("test".into(), vec![2], inputs, targets, None).unwrap()
    }

    #[test]
    fn hash_depends_on_values_not_on_storage() {
        let single = dataset(Inputs::Float32(vec![0.5, -0.0, 2.0, 3.0]), &[1, 3]);
        let double = dataset(Inputs::Float64(vec![0.5, 0.0, 2.0, 3.0]), &[1, 3]);
        assert_eq!(single.sha256, double.sha256);
        assert_eq!(single.sha256.len(), 64);
        assert_ne!(single.sha256, dataset(Inputs::Float64(vec![0.5, 0.0, 2.0, 3.0]), &[1, 2]).sha256);
        let mut shifted = double.clone();
        shifted.normalisation = Some(Normalisation { mean: vec![1.0], std: vec![1.0] });
        assert_ne!(shifted.select(&[0, 1]).unwrap().sha256, double.sha256);
        assert_eq!(double.select(&[0, 1]).unwrap().sha256, double.sha256);
    }

    #[test]
    fn select_keeps_order_and_refuses_missing_rows() {
        let data = dataset(Inputs::Bytes(vec![0, 1, 2, 3, 4, 5]), &[0, 1, 2]);
        let picked = data.select(&[2, 0, 2]).unwrap();
        assert_eq!(picked.inputs, Inputs::Bytes(vec![4, 5, 0, 1, 4, 5]));
        assert_eq!(picked.targets, Targets::Classes { labels: vec![2, 0, 2], num_classes: 4 });
        assert_eq!(data.select(&[3]).unwrap_err().to_string(), "data: row 3 does not exist: there are 3 rows");
    }

    #[test]
    fn labels_are_checked_against_outputs() {
        let data = dataset(Inputs::Bytes(vec![0; 6]), &[0, 3, 2]);
        assert!(data.check_labels(4, None).is_ok() && data.check_labels(3, Some(3)).is_ok());
        let error = data.check_labels(3, Some(-100)).unwrap_err();
        assert_eq!(error.to_string(), "data: row 1 has label 3, but the model has 3 classes");
        let tokens = Targets::Tokens { labels: vec![0, 2, 1, -1, 0, 0], sample_shape: vec![2], num_classes: 3 };
        let tokens = Dataset::new("test".into(), vec![1], Inputs::Bytes(vec![0; 3]), tokens, None).unwrap();
        assert!(tokens.check_labels(3, Some(-1)).is_ok());
        assert!(tokens.check_labels(3, Some(-100)).unwrap_err().to_string().contains("row 1 has label -1"));
        let targets = Targets::Values { values: vec![0.0; 6], sample_shape: vec![2] };
        let real = Dataset::new("test".into(), vec![1], Inputs::Bytes(vec![0; 3]), targets, None).unwrap();
        assert_eq!((real.len(), real.num_classes()), (3, None));
    }

    #[test]
    fn inconsistent_rows_are_refused() {
        let build = |inputs: usize, labels: Vec<u32>, mean: Vec<f64>, std: Vec<f64>| {
            let targets = Targets::Classes { labels, num_classes: 2 };
            let normalisation = Some(Normalisation { mean, std });
            Dataset::new("test".into(), vec![3], Inputs::Bytes(vec![0; inputs]), targets, normalisation)
        };
        assert!(build(6, vec![0, 1], vec![0.0], vec![1.0]).is_ok());
        for (inputs, labels, mean, std) in [
            (5, vec![0, 1], vec![0.0], vec![1.0]),
            (6, vec![0, 2], vec![0.0], vec![1.0]),
            (6, vec![0, 1], vec![0.0; 2], vec![1.0; 2]),
            (6, vec![0, 1], vec![0.0], vec![0.0]),
            (6, vec![0, 1], vec![f64::NAN; 3], vec![1.0; 3]),
        ] {
            let error = build(inputs, labels, mean, std).unwrap_err();
            assert!(error.hint().is_some(), "{error}");
        }
    }
}
