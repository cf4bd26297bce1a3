//! Rows that stay in their file: a batch reads those that it needs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use safetensors::tensor::Dtype;

use super::numbers::{Numbers, tokens};
use super::{DataError, DataResult, Inputs, Targets, files};
use crate::input;

/// Rows up to this size are read into memory once; larger ones stay in the file.
const KEPT_BYTES: usize = 1 << 26;

/// An open file that must not change while rows are read from it.
#[derive(Debug)]
pub(super) struct StoredFile {
    path: PathBuf,
    file: Mutex<File>,
    len: u64,
    changed: Option<SystemTime>,
}

impl StoredFile {
    /// Opens `path`; `expected` says what it should be.
    ///
    /// # Errors
    /// [`DataError::NotAFile`], [`DataError::Missing`], [`DataError::Io`].
    pub(super) fn open(path: &Path, expected: &str) -> DataResult<Arc<Self>> {
        if path.is_dir() {
            return Err(DataError::NotAFile { path: path.to_path_buf(), expected: expected.to_string() });
        }
        let file = input::open(path).map_err(|source| files::failure(path, source, expected))?;
        let facts = file.metadata().map_err(|source| files::failure(path, source, expected))?;
        let (path, len, changed) = (path.to_path_buf(), facts.len(), facts.modified().ok());
        Ok(Arc::new(Self { path, file: Mutex::new(file), len, changed }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes of a range, or as many of them as the file has.
    ///
    /// # Errors
    /// As [`StoredFile::fill`].
    pub(super) fn read(&self, range: Range<u64>) -> DataResult<Vec<u8>> {
        let end = range.end.min(self.len);
        let mut bytes = vec![0; end.saturating_sub(range.start) as usize];
        self.fill([(range.start, bytes.as_mut_slice())])?;
        Ok(bytes)
    }

    /// Fills each part with the bytes from its place on.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Changed`].
    fn fill<'a>(&self, parts: impl IntoIterator<Item = (u64, &'a mut [u8])>) -> DataResult<()> {
        let failure = |source| DataError::Io { path: self.path.clone(), source };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = |(start, bytes): (u64, &mut [u8])| {
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(bytes)
        };
        let filled = parts.into_iter().try_for_each(&mut read);
        // Otherwise the rows would not be those whose hash the results name.
        let facts = file.metadata().map_err(failure)?;
        if (facts.len(), facts.modified().ok()) != (self.len, self.changed) {
            return Err(DataError::Changed { path: self.path.clone() });
        }
        filled.map_err(failure)
    }
}

/// Rows of a tensor `[N, …]` in a file, which are read when a batch is made.
#[derive(Debug, Clone)]
pub struct StoredRows {
    file: Arc<StoredFile>,
    name: String,
    dtype: Dtype,
    /// Of the whole tensor.
    shape: Vec<usize>,
    /// Place of the first byte.
    start: u64,
    big_endian: bool,
    /// Whether bytes are whole numbers like any others, not pixels.
    are_tokens: bool,
    /// The tensor's rows that these are; `None` for all.
    rows: Option<Arc<[usize]>>,
}

impl PartialEq for StoredRows {
    fn eq(&self, other: &Self) -> bool {
        let key = |rows: &Self| (rows.file.path.clone(), rows.file.changed, rows.start, rows.rows.clone());
        key(self) == key(other)
    }
}

impl StoredRows {
    /// All rows of a tensor that begins at `start` and lies within the file.
    pub(super) fn new(file: Arc<StoredFile>, name: String, dtype: Dtype, shape: Vec<usize>, start: u64) -> Self {
        Self { file, name, dtype, shape, start, big_endian: false, are_tokens: false, rows: None }
    }

    /// The same with the high byte of each number first.
    pub(super) fn big_endian(self, big_endian: bool) -> Self {
        Self { big_endian, ..self }
    }

    /// The numbers from `first` on as tokens, in rows of another shape.
    pub(super) fn tokens(&self, shape: [usize; 2], first: usize) -> Self {
        let start = self.start + (first * self.dtype.bitsize() / 8) as u64;
        let tokens = Self::new(self.file.clone(), self.name.clone(), self.dtype, shape.to_vec(), start);
        Self { are_tokens: true, ..tokens.big_endian(self.big_endian) }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.as_ref().map_or_else(|| self.shape.first().copied().unwrap_or(0), |rows| rows.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which row of the tensor a row is.
    fn place(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(row, |rows| rows[row])
    }

    /// Whether they are image bytes.
    pub(super) fn are_bytes(&self) -> bool {
        self.dtype == Dtype::U8 && !self.are_tokens
    }

    /// What their values are, as a hash names it.
    pub(super) fn kind(&self) -> &'static [u8] {
        let is_float = matches!(self.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64);
        match self.are_bytes() {
            true => b"bytes",
            false if is_float => b"floats",
            false => b"whole",
        }
    }

    /// Shape of the tensor that they are rows of.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Numbers of a row.
    pub(super) fn sample_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Bytes that all rows take in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let width = match self.dtype {
            Dtype::U8 if self.are_bytes() => 1,
            Dtype::F16 | Dtype::BF16 | Dtype::F32 => 4,
            _ => 8,
        };
        self.len().saturating_mul(self.sample_len()).saturating_mul(width)
    }

    /// Whether they can be inputs, whatever their values.
    ///
    /// # Errors
    /// [`DataError::WrongTensor`].
    pub(super) fn check_inputs(&self) -> DataResult<()> {
        self.numbers(&self.shape, &[]).check_inputs()
    }

    /// All rows as targets.
    ///
    /// # Errors
    /// As [`Numbers::targets`]; a file that cannot be read, or has changed.
    pub(super) fn targets(&self) -> DataResult<Targets> {
        self.numbers(&self.shape, &[]).check_targets()?;
        let all: Vec<usize> = (0..self.len()).collect();
        let (shape, bytes) = (self.shape_of(&all), self.bytes(&all)?);
        let numbers = self.numbers(&shape, &bytes);
        if self.are_tokens { Ok(tokens(numbers.whole()?, &shape[1..])) } else { numbers.targets() }
    }

    /// The given rows, which must exist, still in the file.
    pub(super) fn take(&self, rows: &[usize]) -> Self {
        Self { rows: Some(rows.iter().map(|&row| self.place(row)).collect()), ..self.clone() }
    }

    /// The given rows, which must exist, in memory.
    ///
    /// # Errors
    /// As [`Numbers::inputs`]; a file that cannot be read, or has changed.
    pub(super) fn read(&self, rows: &[usize]) -> DataResult<Inputs> {
        let (shape, bytes) = (self.shape_of(rows), self.bytes(rows)?);
        let numbers = self.numbers(&shape, &bytes);
        let inputs = if self.are_tokens { numbers.whole().map(Inputs::Whole) } else { numbers.inputs() };
        inputs.map_err(|error| match error {
            DataError::NonFinite { path, name, row, value } => {
                DataError::NonFinite { path, name, row: self.place(rows[row]), value }
            }
            error => error,
        })
    }

    /// Reads all rows into memory where they take at most 64 MiB.
    ///
    /// # Errors
    /// As [`StoredRows::read`].
    pub(super) fn settled(self) -> DataResult<Inputs> {
        match self.memory_bytes() <= KEPT_BYTES {
            true => self.read(&(0..self.len()).collect::<Vec<_>>()),
            false => Ok(Inputs::Stored(self)),
        }
    }

    fn shape_of(&self, rows: &[usize]) -> Vec<usize> {
        [&[rows.len()], self.shape.get(1..).unwrap_or_default()].concat()
    }

    fn numbers<'a>(&'a self, shape: &'a [usize], bytes: &'a [u8]) -> Numbers<'a> {
        Numbers { path: &self.file.path, name: &self.name, dtype: self.dtype, shape, bytes }
    }

    /// The given rows as little-endian numbers.
    fn bytes(&self, rows: &[usize]) -> DataResult<Vec<u8>> {
        let width = self.dtype.bitsize() / 8;
        let row_bytes = self.sample_len() * width;
        let mut bytes = vec![0; rows.len() * row_bytes];
        let mut rest = bytes.as_mut_slice();
        // Neighbours in one go.
        let runs = rows.chunk_by(|&row, &next| self.place(next) == self.place(row) + 1);
        self.file.fill(runs.map(|run| {
            let own = rest.split_off_mut(..run.len() * row_bytes).unwrap_or_default();
            (self.start + (self.place(run[0]) * row_bytes) as u64, own)
        }))?;
        if self.big_endian {
            bytes.chunks_mut(width.max(1)).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::data::testing::MEMORY;
    use crate::data::{Column, DataSpec, Dataset, EpochPlan, Normalisation, Tensors, with_batches};
    use crate::team::testing::Crew;

    const ROWS: usize = 12;

    fn write(path: &Path, x: &Tensor) {
        let y = Tensor::arange(0u32, ROWS as u32, &Device::Cpu).unwrap();
        let tensors = [("x", x.clone()), ("mask", x.clone()), ("y", y)].map(|(name, tensor)| (name.to_owned(), tensor));
        candle_core::safetensors::save(&tensors.into_iter().collect(), path).unwrap();
    }

    /// Numbers that every type holds, `[12, 3, 2, 2]`.
    fn numbers(dtype: DType) -> Tensor {
        let values = Tensor::arange(0f64, (ROWS * 12) as f64, &Device::Cpu).unwrap();
        values.reshape((ROWS, 3, 2, 2)).unwrap().to_dtype(dtype).unwrap()
    }

    /// The rows of a file, all of which stay there.
    fn stored(path: &Path, team: &dyn crate::team::Team) -> crate::Result<Dataset> {
        let mut table = DataSpec::new(Tensors(path.into()).into()).open(MEMORY)?;
        let (shape, columns) = (table.sample_shape.clone(), std::mem::take(&mut table.more));
        let (inputs, targets) = table.read(&(0..ROWS).collect::<Vec<_>>())?;
        assert!(
            columns
                .iter()
                .map(|Column { inputs, .. }| inputs)
                .chain([&inputs])
                .all(|inputs| inputs.bytes_in_file() > 0)
        );
        let normalisation = Some(Normalisation { mean: vec![1.0, 2.0, 3.0], std: vec![2.0; 3] });
        Dataset::unhashed("test".into(), (shape, inputs), columns, targets, normalisation)?.hashed(team)
    }

    fn in_memory(data: &Dataset) -> Dataset {
        let mut here = data.clone();
        here.inputs = here.inputs.in_memory().unwrap().into_owned();
        here.columns.iter_mut().for_each(|column| column.inputs = column.inputs.in_memory().unwrap().into_owned());
        here.hashed(&crate::team::Alone).unwrap()
    }

    #[test]
    fn rows_in_their_file_are_those_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.safetensors");
        for dtype in [DType::U8, DType::F16, DType::BF16, DType::F32, DType::F64, DType::I64] {
            write(&path, &numbers(dtype));
            let stored = stored(&path, &crate::team::Alone).unwrap();
            let here = in_memory(&stored);
            assert_eq!(stored.sha256, here.sha256);
            let rows = [7, 8, 9, 2, 2, 11];
            let (few, few_here) = (stored.select(&rows).unwrap(), here.select(&rows).unwrap());
            assert_eq!((&few.sha256, few.len()), (&few_here.sha256, rows.len()));
            let words = |data: &Dataset, rows: &[usize]| {
                let (x, targets) = data.batch(rows, DType::F32, &Device::Cpu).unwrap();
                let column = data.column(&data.columns[0], rows, DType::F32, &Device::Cpu).unwrap();
                format!("{:?} {x} {:?} {column} {targets:?}", x.dims(), column.dims())
            };
            for (data, expected) in [(&stored, &here), (&few, &few_here)] {
                assert_eq!(words(data, &[4, 5, 0]), words(expected, &[4, 5, 0]));
            }
            let augmentation = (dtype == DType::U8).then(|| "crop:1,flip".parse().unwrap());
            let order = (0..ROWS).rev().collect();
            let plan =
                EpochPlan { order, batch_size: 5, dtype: DType::F32, augmentation, seed: 1, epoch: 2, threads: 2 };
            let all = |data: &Dataset| {
                with_batches(data, &plan, |batches| batches.map(|batch| Ok(format!("{}", batch?.x))).collect())
            };
            let (batches, expected): (Vec<String>, _) = (all(&stored).unwrap(), all(&here).unwrap());
            assert!(batches == expected && batches.len() == 3);
        }
    }

    #[test]
    fn ranks_read_their_share_and_must_agree_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["rows.safetensors", "other.safetensors"].map(|name| folder.path().join(name));
        write(&path, &numbers(DType::F32));
        let alone = stored(&path, &crate::team::Alone).unwrap().sha256;
        for size in [2, 3, 5] {
            let hashes = Crew::each(size, |team| stored(&path, team).unwrap().sha256);
            assert!(hashes.iter().all(|hash| *hash == alone));
        }
        // Only a rank whose share differs hears of it.
        let changed = Tensor::cat(
            &[numbers(DType::F32).narrow(0, 0, ROWS - 1).unwrap(), numbers(DType::F32).narrow(0, 0, 1).unwrap()],
            0,
        );
        write(&other, &changed.unwrap());
        let own = Crew::each(3, |team| stored(if team.leads() { &path } else { &other }, team).map(|data| data.sha256));
        assert!(own[0].as_ref().unwrap() == &alone && own[1].as_ref().unwrap() == &alone);
        assert!(own[2].as_ref().unwrap_err().to_string().contains("rows differ"), "{own:?}");
    }

    #[test]
    fn rows_without_numbers_are_refused_before_they_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.safetensors");
        let tensor = |shape: &str| format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#);
        for (x, y) in [("[1152921504606846976,0]", "[0]"), ("[0,2]", "[1152921504606846976,0]")] {
            let header = format!(r#"{{"x":{},"y":{}}}"#, tensor(x), tensor(y));
            std::fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
            let error = DataSpec::new(Tensors(path.clone()).into()).load().unwrap_err();
            assert!(error.to_string().contains("f32 of shape [1152921504606846976, 0]"), "{error}");
        }
    }

    #[test]
    fn unusable_values_and_changed_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.safetensors");
        let nan = Tensor::full(f64::NAN, (1, 3, 2, 2), &Device::Cpu).unwrap();
        write(&path, &numbers(DType::F64).slice_assign(&[9..10, 0..3, 0..2, 0..2], &nan).unwrap());
        let mut table = DataSpec::new(Tensors(path.clone()).into()).open(MEMORY).unwrap();
        table.more.clear();
        let (inputs, _) = table.read(&[3, 9, 4]).unwrap();
        let error = inputs.in_memory().unwrap_err();
        assert!(error.to_string().ends_with("`x` has the value NaN in row 9"), "{error}");

        write(&path, &numbers(DType::F64));
        let data = stored(&path, &crate::team::Alone).unwrap();
        let batch = || data.batch(&[1, 5], DType::F64, &Device::Cpu).map(|(x, _)| x.to_string());
        let before = batch().unwrap();
        // Another file in its place is not read.
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        write(&path, &numbers(DType::F32));
        assert_eq!(batch().unwrap(), before);
        std::fs::File::options().write(true).open(&moved).unwrap().set_len(100).unwrap();
        assert!(batch().unwrap_err().to_string().contains("has changed since it was opened"));
    }
}
