//! Which rows: source, split, label noise and selection, in the form that a checkpoint stores.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::draw::choose;
use super::{DataError, DataResult, Dataset, GlyphOptions, LabelNoise, Normalisation, Source, Targets};
use crate::Result;
use crate::random::{Purpose, stream, substream};

/// Which part of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The rows to train on.
    #[default]
    Train,
    /// The held-out rows.
    Test,
}

/// Rows `start` to `end − 1`; written `A..B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RowRange {
    start: usize,
    end: usize,
}

/// A seeded choice of rows without replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subset {
    /// Rows to keep.
    pub count: usize,
    /// Seed of the choice.
    #[serde(default)]
    pub seed: u64,
}

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
/// Order of application: split, label noise, `rows`, `subset`. The label of a row therefore does not depend on
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
    /// Wrong labels on purpose; `None` leaves the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<LabelNoise>,
    /// Seed of the label noise; each split has its own stream of it.
    #[serde(default)]
    pub noise_seed: u64,
    /// Options of the source `glyphs`; other sources leave them unread.
    #[serde(default)]
    pub glyphs: GlyphOptions,
    /// How values are normalised.
    #[serde(default)]
    pub normalisation: NormalisationChoice,
}

impl DataSpec {
    /// All training rows of `source`, with its default normalisation.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            split: Split::default(),
            rows: None,
            subset: None,
            noise: None,
            noise_seed: 0,
            glyphs: GlyphOptions::default(),
            normalisation: NormalisationChoice::default(),
        }
    }

    /// The same specification with every default written out, so that it means the same under later defaults.
    pub fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        resolved.normalisation = match self.normalisation() {
            Some(normalisation) => NormalisationChoice::Custom(normalisation),
            None => NormalisationChoice::None,
        };
        resolved.glyphs.count = match self.source {
            Source::Glyphs => Some(self.glyphs.count(self.split)),
            _ => self.glyphs.count,
        };
        resolved
    }

    /// The source in a word or a file name, for captions: no folders of one machine.
    pub fn source_name(&self) -> String {
        match &self.source {
            Source::Glyphs => "glyphs".into(),
            Source::Mnist(_) => "MNIST".into(),
            Source::Cifar10(_) => "CIFAR-10".into(),
            Source::Tensors(file) => file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
        }
    }

    /// Rows that [`DataSpec::load`] would give.
    ///
    /// # Errors
    /// As [`DataSpec::load`], as far as files need to be opened for counting.
    pub fn num_rows(&self) -> Result<usize> {
        let table = self.source.open(self.split, &self.glyphs)?;
        Ok(self.select(table.targets.len())?.len())
    }

    /// Reads the rows. Only the images of selected rows are drawn or decoded.
    ///
    /// # Errors
    /// [`DataError`]: files that are missing, damaged or of another kind; rows that do not exist; label noise on
    /// real targets.
    pub fn load(&self) -> Result<Dataset> {
        let mut table = self.source.open(self.split, &self.glyphs)?;
        let num_rows = table.targets.len();
        if num_rows == 0 {
            return Err(DataError::NoRows { source_name: self.source.to_string() }.into());
        }
        self.add_noise(&mut table.targets)?;
        let rows = self.select(num_rows)?;
        let (sample_shape, targets) = (table.sample_shape.clone(), table.targets.take(&rows));
        let inputs = table.into_inputs(&rows)?;
        Dataset::new(self.source.to_string(), sample_shape, inputs, targets, self.normalisation())
    }

    fn normalisation(&self) -> Option<Normalisation> {
        match &self.normalisation {
            NormalisationChoice::Default => self.source.default_normalisation(),
            NormalisationChoice::None => None,
            NormalisationChoice::Custom(normalisation) => Some(normalisation.clone()),
        }
    }

    fn add_noise(&self, targets: &mut Targets) -> DataResult<()> {
        let Some(noise) = self.noise else { return Ok(()) };
        let mut rng = substream(self.noise_seed, Purpose::LabelNoise, self.split as u64);
        match targets {
            Targets::Classes { labels, num_classes } if *num_classes >= 2 => {
                noise.apply(labels, *num_classes, &mut rng);
                Ok(())
            }
            Targets::Classes { num_classes, .. } => Err(self.noise_needs_classes(Some(*num_classes))),
            Targets::Values { .. } => Err(self.noise_needs_classes(None)),
        }
    }

    fn noise_needs_classes(&self, num_classes: Option<usize>) -> DataError {
        DataError::NoiseNeedsClasses { source_name: self.source.to_string(), num_classes }
    }

    fn select(&self, num_rows: usize) -> DataResult<Vec<usize>> {
        let RowRange { start, end } = self.rows.unwrap_or(RowRange { start: 0, end: num_rows });
        if end > num_rows {
            return Err(DataError::RangePastEnd { start, end, num_rows });
        }
        let Some(Subset { count, seed }) = self.subset else { return Ok((start..end).collect()) };
        if count == 0 || count > end - start {
            return Err(DataError::SubsetSize { count, num_rows: end - start });
        }
        let chosen = choose(&mut stream(seed, Purpose::Subset), end - start, count);
        Ok(chosen.into_iter().map(|row| start + row).collect())
    }
}

impl RowRange {
    /// Rows `start` to `end − 1`.
    ///
    /// # Errors
    /// [`DataError::EmptyRange`] where `end` is not above `start`.
    pub fn new(start: usize, end: usize) -> Result<Self, DataError> {
        if start < end { Ok(Self { start, end }) } else { Err(DataError::EmptyRange { start, end }) }
    }
}

impl FromStr for RowRange {
    type Err = DataError;

    fn from_str(text: &str) -> DataResult<Self> {
        let numbers = text.split_once("..").and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)));
        match numbers {
            Some((start, end)) => Self::new(start, end),
            None => Err(DataError::Syntax {
                what: "row range",
                text: text.to_string(),
                expected: "`A..B` for rows A to B - 1, such as `0..1000`",
            }),
        }
    }
}

impl fmt::Display for RowRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl TryFrom<String> for RowRange {
    type Error = DataError;

    fn try_from(text: String) -> DataResult<Self> {
        text.parse()
    }
}

impl From<RowRange> for String {
    fn from(range: RowRange) -> Self {
        range.to_string()
    }
}

impl Split {
    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

impl FromStr for Split {
    type Err = DataError;

    fn from_str(text: &str) -> DataResult<Self> {
        match text {
            "train" => Ok(Self::Train),
            "test" => Ok(Self::Test),
            _ => Err(DataError::Syntax { what: "split", text: text.to_string(), expected: "`train` or `test`" }),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(data: &Dataset) -> &[u32] {
        match &data.targets {
            Targets::Classes { labels, .. } => labels,
            Targets::Values { .. } => panic!("no classes"),
        }
    }

    fn noisy() -> DataSpec {
        let mut spec = DataSpec::new(Source::Glyphs);
        spec.noise = Some("symmetric:0.4".parse().unwrap());
        spec
    }

    #[test]
    fn a_label_does_not_depend_on_the_selection() {
        let all = noisy().load().unwrap();
        let part = DataSpec { rows: Some("100..400".parse().unwrap()), ..noisy() }.load().unwrap();
        assert_eq!(labels(&part), &labels(&all)[100..400]);
        assert_eq!(part.sha256, all.select(&(100..400).collect::<Vec<_>>()).unwrap().sha256);
        let clean = DataSpec::new(Source::Glyphs).load().unwrap();
        assert_eq!((clean.len(), clean.num_classes(), clean.channels()), (4000, Some(10), 1));
        let changed = labels(&clean).iter().zip(labels(&all)).filter(|(a, b)| a != b).count();
        // Binomial: 1600 expected, standard deviation sqrt(4000 · 0.4 · 0.6) = 31.
        assert!(changed.abs_diff(1600) < 4 * 31, "{changed}");
        let other_seed = DataSpec { noise_seed: 1, ..noisy() }.load().unwrap();
        assert_ne!(other_seed.sha256, all.sha256);
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
        assert_eq!(message("0..4001", None), "data: rows 0..4001 reach past the end, the split has 4000 rows");
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
}
