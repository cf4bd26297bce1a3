//! Which rows: source, split, label noise and selection, in the form that a checkpoint stores.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::instance::InstanceNoise;
use super::rows::take;
use super::selection::select;
use super::source::{Request, Rows, Table};
use super::{
    DataError, DataResult, Dataset, GlyphOptions, LabelError, LabelNoise, LabelSource, Normalisation, RowRange, Source,
    Split, Subset, Targets,
};
use crate::Result;
use crate::kernels::DEFAULT_MEMORY;
use crate::random::{Purpose, substream};
use crate::team::team;

/// How values are normalised.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormalisationChoice {
    /// [`Source::default_normalisation`].
    #[default]
    Default,
    /// Values as they are; bytes are still divided by 255.
    None,
    /// These numbers.
    Custom(Normalisation),
}

/// Everything that decides which numbers the network sees.
///
/// Order of application: split, labels, label noise, `rows`, `subset`. The label of a row therefore does not depend on
/// which rows are selected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Where the rows come from.
    pub source: Source,
    /// Which part of the source.
    #[serde(default)]
    pub split: Split,
    /// A run of rows of the split; `None` keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowRange>,
    /// A random choice among those rows, kept in ascending order; `None` keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<Subset>,
    /// A file whose labels replace those of the source; the test split keeps its own. `None` keeps the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelSource>,
    /// Label noise: some labels are replaced by wrong ones. `None` keeps the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<LabelNoise>,
    /// Seed of the label noise; each split has its own stream of it.
    #[serde(default)]
    pub noise_seed: u64,
    /// Options of the source `glyphs`; other sources ignore them.
    #[serde(default)]
    pub glyphs: GlyphOptions,
    /// Side of the images of the source `images` in pixels; `None` means 224. Other sources ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Leaves out files of the source `images` that do not decode, before rows are counted; all are read for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_broken: bool,
    /// How values are normalised.
    #[serde(default)]
    pub normalisation: NormalisationChoice,
}

impl DataSpec {
    /// The same rows, with a relative path that does not exist here but does in `directory` replaced by the path there.
    pub fn or_seen_from(mut self, directory: &Path) -> Self {
        let leads_nowhere = |source: &Source| source.path().is_some_and(|path| !path.exists());
        let seen = self.source.seen_from(directory);
        if leads_nowhere(&self.source) && !leads_nowhere(&seen) {
            self.source = seen;
        }
        let file = self.labels.as_mut().and_then(|labels| labels.file.as_mut());
        if let Some(file) = file.filter(|file| !file.exists() && directory.join(&**file).exists()) {
            *file = directory.join(&*file);
        }
        self
    }

    /// All training rows of `source`, with its default normalisation.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            split: Split::default(),
            rows: None,
            subset: None,
            labels: None,
            noise: None,
            noise_seed: 0,
            glyphs: GlyphOptions::default(),
            image_size: None,
            skip_broken: false,
            normalisation: NormalisationChoice::default(),
        }
    }

    /// The same specification with every default written out, so that later changes of defaults do not change its
    /// meaning.
    pub fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        resolved.normalisation = match self.normalisation() {
            Some(normalisation) => NormalisationChoice::Custom(normalisation),
            None => NormalisationChoice::None,
        };
        let mut request = self.request(DEFAULT_MEMORY);
        self.source.resolve(&mut request);
        (resolved.glyphs, resolved.image_size) = (request.glyphs, request.image_size);
        resolved
    }

    /// The source in a word or a file name, for captions: no folders of one machine.
    pub fn source_name(&self) -> String {
        self.source.caption()
    }

    /// Rows that [`DataSpec::load`] would give.
    ///
    /// # Errors
    /// As [`DataSpec::load_within`], as far as files need to be opened for counting.
    pub fn num_rows(&self, memory_bytes: usize) -> Result<usize> {
        Ok(self.select(self.open(memory_bytes)?.len())?.len())
    }

    /// [`DataSpec::load_within`] the default memory limit.
    ///
    /// # Errors
    /// As there.
    pub fn load(&self) -> Result<Dataset> {
        self.load_within(DEFAULT_MEMORY)
    }

    /// Reads the rows; large inputs stay in their file. Only the images of selected rows are drawn or decoded. The ranks of a
    /// team call it together.
    ///
    /// # Errors
    /// [`DataError`]: files that are missing, damaged or of another kind; rows that do not exist; label noise on
    /// real targets; labels that do not fit; files that unpack to more than `memory_bytes`.
    pub fn load_within(&self, memory_bytes: usize) -> Result<Dataset> {
        self.rows_of(self.open(memory_bytes)?, memory_bytes)
    }

    /// The same, where targets do not count: a source without any will do.
    ///
    /// # Errors
    /// As [`DataSpec::load_within`].
    pub(crate) fn load_unlabelled(&self, memory_bytes: usize) -> Result<Dataset> {
        let request = Request { unlabelled: true, ..self.request(memory_bytes) };
        self.rows_of(self.source.open(&request)?, memory_bytes)
    }

    /// The rows of an open source.
    pub(super) fn rows_of(&self, mut table: Table, memory_bytes: usize) -> Result<Dataset> {
        let num_rows = table.len();
        if num_rows == 0 {
            return Err(DataError::NoRows { source_name: self.source.to_string() }.into());
        }
        let (notes, sample_shape) = (std::mem::take(&mut table.notes), table.sample_shape.clone());
        let (mut more, input_name) = (std::mem::take(&mut table.more), table.input_name.take());
        let (clean, consecutive) = match &mut table.rows {
            Rows::Apart { targets, .. } => (self.replace_labels(Some(targets), memory_bytes)?, false),
            Rows::Sequence { .. } => (self.replace_labels(None, memory_bytes)?, true),
        };
        let rows = self.select(num_rows)?;
        let (inputs, mut targets) = table.read(&rows)?;
        if let (Some(LabelNoise::Instance { fraction }), Targets::Classes { labels, num_classes }) =
            (self.noise, &mut targets)
        {
            let (seed, split, num_classes) = (self.noise_seed, self.split, *num_classes);
            let noise = InstanceNoise { fraction, seed, split, num_classes };
            let own_bytes = noise.memory_bytes(sample_shape.iter().product());
            if own_bytes.saturating_add(inputs.bytes_in_file()) > memory_bytes {
                let (path, what) = (self.source.to_string().into(), "instance noise on so many rows or classes");
                return Err(DataError::Memory { path, what, memory_bytes }.into());
            }
            noise.apply(labels, &inputs, &rows)?;
        }
        for column in &mut more {
            *column = column.take(&rows).settled()?;
        }
        let (source, inputs) = (self.source.to_string(), inputs.settled()?);
        let data = Dataset::unhashed(source, (sample_shape, inputs), more, targets, self.normalisation())?;
        let mut data = data.hashed(team())?;
        data.input_name = input_name.unwrap_or(data.input_name);
        data.clean_labels = clean.map(|labels| take(&labels, &rows, 1));
        (data.notes, data.consecutive) = (notes, consecutive);
        Ok(data)
    }

    /// All rows of the split, with images not yet drawn or decoded.
    pub(super) fn open(&self, memory_bytes: usize) -> DataResult<Table> {
        self.source.open(&self.request(memory_bytes))
    }

    fn request(&self, memory_bytes: usize) -> Request {
        let (split, glyphs, image_size, skip_broken) =
            (self.split, self.glyphs.clone(), self.image_size, self.skip_broken);
        Request { split, glyphs, image_size, skip_broken, unlabelled: false, memory_bytes }
    }

    fn normalisation(&self) -> Option<Normalisation> {
        match &self.normalisation {
            NormalisationChoice::Default => self.source.default_normalisation(),
            NormalisationChoice::None => None,
            NormalisationChoice::Custom(normalisation) => Some(normalisation.clone()),
        }
    }

    /// Replaces the source's own labels by those of a file and by label noise; returns the source's own where it did.
    fn replace_labels(&self, targets: Option<&mut Targets>, memory_bytes: usize) -> DataResult<Option<Vec<u32>>> {
        let source = self.labels.as_ref().filter(|_| self.split == Split::Train);
        if source.is_none() && self.noise.is_none() {
            return Ok(None);
        }
        let (labels, num_classes) = match targets {
            Some(Targets::Classes { labels, num_classes }) => (labels, *num_classes),
            _ if source.is_some() => {
                return Err(LabelError::NeedsClasses { source_name: self.source.to_string() }.into());
            }
            _ => return Err(self.noise_needs_classes(None)),
        };
        let clean = labels.clone();
        if let Some(source) = source {
            *labels = source.read(&self.source, &clean, num_classes, memory_bytes)?;
        }
        if let Some(noise) = self.noise {
            if num_classes < 2 {
                return Err(self.noise_needs_classes(Some(num_classes)));
            }
            let rng = &mut substream(self.noise_seed, Purpose::LabelNoise, self.split as u64);
            noise.apply(labels, num_classes, |class| self.source.mistaken(class, num_classes), rng);
        }
        Ok(Some(clean))
    }

    fn noise_needs_classes(&self, num_classes: Option<usize>) -> DataError {
        DataError::NoiseNeedsClasses { source_name: self.source.to_string(), num_classes }
    }

    /// The rows it chooses among `num_rows`; `None` for all of them.
    ///
    /// # Errors
    /// [`DataError`] for rows that do not exist.
    pub(crate) fn choose(&self, num_rows: usize) -> Result<Option<Vec<usize>>> {
        let chooses = self.rows.is_some() || self.subset.is_some();
        Ok(if chooses { Some(self.select(num_rows)?) } else { None })
    }

    fn select(&self, num_rows: usize) -> DataResult<Vec<usize>> {
        select(num_rows, self.rows, self.subset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Glyphs;

    fn labels(data: &Dataset) -> &[u32] {
        match &data.targets {
            Targets::Classes { labels, .. } => labels,
            Targets::Values { .. } | Targets::Tokens { .. } => panic!("no classes"),
        }
    }

    fn noisy() -> DataSpec {
        let mut spec = DataSpec::new(Glyphs.into());
        spec.noise = Some("symmetric:0.4".parse().unwrap());
        spec
    }

    #[test]
    fn a_label_does_not_depend_on_the_selection() {
        let all = noisy().load().unwrap();
        let part = DataSpec { rows: Some("100..400".parse().unwrap()), ..noisy() }.load().unwrap();
        assert_eq!(labels(&part), &labels(&all)[100..400]);
        assert_eq!(part.sha256, all.select(&(100..400).collect::<Vec<_>>()).unwrap().sha256);
        let clean = DataSpec::new(Glyphs.into()).load().unwrap();
        assert_eq!((clean.len(), clean.num_classes(), clean.channels()), (4000, Some(10), 1));
        let changed = labels(&clean).iter().zip(labels(&all)).filter(|(a, b)| a != b).count();
        // Binomial: 1600 expected, standard deviation sqrt(4000 · 0.4 · 0.6) = 31.
        assert!(changed.abs_diff(1600) < 4 * 31, "{changed}");
        let other_seed = DataSpec { noise_seed: 1, ..noisy() }.load().unwrap();
        assert_ne!(other_seed.sha256, all.sha256);
    }

    #[test]
    fn every_kind_of_noise_is_that_of_the_row() {
        for (kind, seed) in [("asymmetric:0.4", 0), ("instance:0.4", 0), ("instance:0.4", 3)] {
            let spec = |rows: Option<&str>| DataSpec {
                noise: Some(kind.parse().unwrap()),
                noise_seed: seed,
                rows: rows.map(|rows| rows.parse().unwrap()),
                ..DataSpec::new(Glyphs.into())
            };
            let (all, part) = (spec(None).load().unwrap(), spec(Some("100..400")).load().unwrap());
            assert_eq!(part.sha256, all.select(&(100..400).collect::<Vec<_>>()).unwrap().sha256);
            // Binomial: 1600 expected, standard deviation 31; the truncated normal's mean is 0.4 to 1e-5.
            let wrong = all.wrong_labels().unwrap();
            assert!(wrong.abs_diff(1600) < 4 * 31, "{kind}: {wrong}");
        }
    }

    #[test]
    fn a_subset_is_seeded_and_ascending() {
        let rows = Some("1000..2000".parse().unwrap());
        let spec = |seed| DataSpec { rows, subset: Some(Subset { count: 50, seed }), ..noisy() };
        let chosen = spec(1).select(4000).unwrap();
        assert!(chosen.len() == 50 && chosen.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(chosen.iter().all(|row| (1000..2000).contains(row)));
        assert_ne!(chosen, spec(2).select(4000).unwrap());
        let expected = noisy().load().unwrap().select(&chosen).unwrap();
        assert_eq!(spec(1).load().unwrap().sha256, expected.sha256);
    }

    #[test]
    fn impossible_selections_name_the_number_of_rows() {
        let message = |rows: &str, subset| {
            let spec = DataSpec { rows: Some(rows.parse().unwrap()), subset, ..noisy() };
            spec.load().unwrap_err().to_string()
        };
        assert_eq!(message("0..4001", None), "data: rows 0..4001 reach past the end: the split has 4000 rows");
        let subset = Some(Subset { count: 11, seed: 0 });
        assert_eq!(message("0..10", subset), "data: a subset of 11 rows cannot be chosen from 10 rows");
        assert!(matches!("5..5".parse::<RowRange>(), Err(DataError::EmptyRange { start: 5, end: 5 })));
        for text in ["5", "a..b", "-1..4", "", "1..2..3", "1..=2"] {
            assert!(matches!(text.parse::<RowRange>(), Err(DataError::Syntax { .. })), "{text}");
        }
        let glyphs = GlyphOptions { count: Some(0), seed: 0 };
        assert!(DataSpec { glyphs, ..noisy() }.load().is_err());
    }

    #[test]
    fn json_round_trips_and_refuses_unknown_fields() {
        let mut spec = DataSpec { rows: Some("0..200".parse().unwrap()), ..noisy() };
        spec.subset = Some(Subset { count: 20, seed: 4 });
        for spec in [spec.clone(), spec.resolved(), DataSpec::new("mnist:dir".parse().unwrap())] {
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<DataSpec>(&json).unwrap(), spec, "{json}");
        }
        assert_eq!(spec.resolved().load().unwrap().sha256, spec.load().unwrap().sha256);
        let short: DataSpec = serde_json::from_str(r#"{"source": "glyphs", "split": "test"}"#).unwrap();
        assert_eq!(short.load().unwrap().len(), 1000);
        for json in [
            r#"{"source": "glyphs", "row": "0..2"}"#,
            r#"{"source": "glyph"}"#,
            r#"{"source": "glyphs", "rows": "2..1"}"#,
        ] {
            assert!(serde_json::from_str::<DataSpec>(json).is_err());
        }
    }

    #[test]
    fn only_what_is_not_here_is_looked_for_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["Cargo.toml", "toy.npz"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let seen = |text: &str| DataSpec::new(text.parse().unwrap()).or_seen_from(folder.path()).source.to_string();
        // Tests run beside the crate's Cargo.toml.
        for text in ["tensors:Cargo.toml", "tensors:absent.npz", "glyphs"] {
            assert_eq!(seen(text), text);
        }
        assert_eq!(seen("tensors:toy.npz"), format!("tensors:{}", folder.path().join("toy.npz").display()));
    }
}
