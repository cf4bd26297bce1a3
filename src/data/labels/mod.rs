//! Labels from a file of their own: the human labels CIFAR-10N and CIFAR-100N (Wei et al. 2022).

mod error;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use candle_core::DType;

pub use error::LabelError;

use super::source::check_label;
use super::{DataError, DataResult, Source, files, parquet};
use crate::container::{Contents, Entry, Failure};
use crate::path_text::{from_text, to_text};

const EXPECTED: &str = "the published `.pt` file of CIFAR-N, or a Parquet file with the same columns";

/// One set of human labels for the training rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelSet {
    /// CIFAR-10N: of three annotators' labels a wrong one, where there is one; 40.2 % wrong.
    Worse,
    /// CIFAR-10N: the majority of three annotators; 9.0 % wrong.
    Aggregate,
    /// CIFAR-10N: the first annotator; 17.2 % wrong.
    Random1,
    /// CIFAR-10N: the second annotator; 18.1 % wrong.
    Random2,
    /// CIFAR-10N: the third annotator; 17.6 % wrong.
    Random3,
    /// CIFAR-100N: the only annotator; 40.2 % wrong.
    Noisy,
}

/// How a set is called.
struct Names {
    set: LabelSet,
    text: &'static str,
    /// Column of a Parquet file, beside `clean`.
    column: &'static str,
    /// Key of the dictionary in a `.pt` file, beside `clean_label`.
    key: &'static str,
    /// Files that may hold it.
    files: [&'static str; 2],
}

const CIFAR10N: [&str; 2] = ["CIFAR-10_human.pt", "cifar10n.parquet"];
const CIFAR100N: [&str; 2] = ["CIFAR-100_human.pt", "cifar100n.parquet"];

#[rustfmt::skip]
const SETS: [Names; 6] = [
    Names { set: LabelSet::Worse, text: "cifar10n:worse", column: "worse", key: "worse_label", files: CIFAR10N },
    Names { set: LabelSet::Aggregate, text: "cifar10n:aggre", column: "aggre", key: "aggre_label", files: CIFAR10N },
    Names { set: LabelSet::Random1, text: "cifar10n:random1", column: "random1", key: "random_label1", files: CIFAR10N },
    Names { set: LabelSet::Random2, text: "cifar10n:random2", column: "random2", key: "random_label2", files: CIFAR10N },
    Names { set: LabelSet::Random3, text: "cifar10n:random3", column: "random3", key: "random_label3", files: CIFAR10N },
    Names { set: LabelSet::Noisy, text: "cifar100n:noisy", column: "noisy", key: "noisy_label", files: CIFAR100N },
];

/// Where training labels come from instead of the source; written `cifar10n:worse` or `cifar10n:worse:FILE`.
///
/// The test split keeps its labels.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelSource {
    /// Which labels.
    pub set: LabelSet,
    /// The published `.pt` file, or a Parquet file with the same columns; `None` looks in the source's folder, in
    /// `cifar-n` within it and in `cifar-n` beside it.
    pub file: Option<PathBuf>,
}

impl LabelSet {
    fn names(self) -> &'static Names {
        SETS.iter().find(|names| names.set == self).unwrap_or(&SETS[0])
    }
}

impl LabelSource {
    /// The labels of all training rows of `source`, whose own are `own`.
    ///
    /// # Errors
    /// [`LabelError`] where the file is missing or refused, has another number of rows, or does not agree with `own`
    /// on what the clean labels are; [`DataError::Label`] for one that is not below `num_classes`.
    pub(super) fn read(
        &self,
        source: &Source,
        own: &[u32],
        num_classes: usize,
        memory_bytes: usize,
    ) -> DataResult<Vec<u32>> {
        let path = self.find(source)?;
        let [clean, labels] = self.columns(&path, memory_bytes)?;
        let source_name = source.to_string();
        if labels.len() != own.len() || clean.len() != own.len() {
            return Err(LabelError::Count { path, labels: labels.len(), source_name, rows: own.len() }.into());
        }
        if let Some((row, (&theirs, &ours))) =
            clean.iter().zip(own).enumerate().find(|(_, (theirs, ours))| **theirs != i64::from(**ours))
        {
            return Err(LabelError::Order { path, source_name, row, theirs, ours }.into());
        }
        labels.iter().enumerate().map(|(row, &label)| check_label(&path, row, label, num_classes)).collect()
    }

    /// Clean labels and those of the set, as they are in the file.
    fn columns(&self, path: &Path, memory_bytes: usize) -> DataResult<[Vec<i64>; 2]> {
        let names = self.set.names();
        let file = files::read(path, EXPECTED)?;
        if file.starts_with(b"PAR1") {
            return parquet::read_integers(path, ["clean", names.column], memory_bytes);
        }
        let damaged =
            |reason| DataError::Corrupt { path: path.to_path_buf(), kind: "a file of CIFAR-N labels", reason };
        let contents = Contents::read(&file).map_err(|failure| match failure {
            Failure::Damaged { reason, .. } => damaged(reason),
            Failure::Foreign { what, .. } => damaged(format!("it is {what}")),
        })?;
        let mut columns = [Vec::new(), Vec::new()];
        for (column, key) in columns.iter_mut().zip(["clean_label", names.key]) {
            let entry = contents.entries.get(key).ok_or_else(|| damaged(format!("it has no array `{key}`")))?;
            *column = integers(entry, &file).map_err(|reason| damaged(format!("`{key}`: {reason}")))?;
        }
        Ok(columns)
    }

    fn find(&self, source: &Source) -> DataResult<PathBuf> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let names = self.set.names();
        let mut places = Vec::new();
        if let Some(folder) = source.folder() {
            // `.` and `..` have no name to take away.
            let beside =
                if folder.file_name().is_some() { folder.with_file_name("cifar-n") } else { folder.join("../cifar-n") };
            places = vec![folder.clone(), folder.join("cifar-n"), beside];
        }
        let looked: Vec<PathBuf> =
            places.iter().flat_map(|place| names.files.iter().map(|name| place.join(name))).collect();
        match looked.iter().find(|path| path.is_file()) {
            Some(path) => Ok(path.clone()),
            None => Err(LabelError::NoFile { set: names.text, looked }.into()),
        }
    }
}

/// A row of whole numbers.
fn integers(entry: &Entry, file: &[u8]) -> Result<Vec<i64>, String> {
    let row = entry.read(file)?;
    if row.rank() != 1 || row.dtype().is_float() {
        return Err("it is not one row of whole numbers".into());
    }
    row.to_dtype(DType::I64).and_then(|row| row.to_vec1()).map_err(|error| error.to_string())
}

impl FromStr for LabelSource {
    type Err = DataError;

    fn from_str(text: &str) -> DataResult<Self> {
        let found = SETS.iter().find_map(|names| {
            let rest = text.strip_prefix(names.text)?;
            match rest.strip_prefix(':') {
                None if rest.is_empty() => Some(Self { set: names.set, file: None }),
                Some(file) if !file.is_empty() => Some(Self { set: names.set, file: Some(from_text(file)) }),
                _ => None,
            }
        });
        found.ok_or_else(|| {
            DataError::syntax(
                "source of labels",
                text,
                "`cifar10n:SET` with worse, aggre, random1, random2 or random3, or `cifar100n:noisy`, and `:FILE` \
                       behind it where the file does not lie beside the data",
            )
        })
    }
}

impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().text)
    }
}

impl LabelSource {
    /// What a user writes, with the file as `path` writes it.
    fn written(&self, path: impl Fn(&Path) -> String) -> String {
        let file = self.file.as_ref().map_or(String::new(), |file| format!(":{}", path(file)));
        self.set.to_string() + &file
    }
}

impl fmt::Display for LabelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(|path| path.display().to_string()))
    }
}

impl TryFrom<String> for LabelSource {
    type Error = DataError;

    fn try_from(text: String) -> DataResult<Self> {
        text.parse()
    }
}

impl From<LabelSource> for String {
    fn from(source: LabelSource) -> Self {
        source.written(|path| to_text(path))
    }
}

#[cfg(test)]
mod tests;
