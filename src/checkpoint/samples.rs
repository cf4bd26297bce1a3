//! Samples of the weights of one network in one file: `sample-007/conv1.weight`, …
//!
//! A file grows sample by sample under another name. Its header announces all of them from the beginning, and it gets its own
//! name with the last: whoever finds it finds it whole.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::keys::SAMPLES_KEY;
use super::safetensors::{bytes, header, layout};
use super::{CheckpointError, TensorFile, weights_by_name};
use crate::Result;
use crate::files::FileError;
use crate::program::Network;

/// A file of samples that is being written.
#[derive(Debug)]
pub(crate) struct SampleWriter {
    file: File,
    /// Where it is until it is whole.
    partial: PathBuf,
    path: PathBuf,
    /// Bytes before the first sample, and of each.
    start: u64,
    each: u64,
    total: usize,
    taken: usize,
}

impl SampleWriter {
    /// The name that `path` has until it is whole.
    pub(crate) fn partial(path: &Path) -> PathBuf {
        path.with_added_extension("partial")
    }

    /// A file for `total` samples of the weights of `network`, of which the first `taken` are there; any others are dropped.
    /// All samples have the dtype of `theta`.
    ///
    /// # Errors
    /// [`FileError`]; [`CheckpointError::UnreadableState`] where these samples are not there, or are others.
    pub(crate) fn open(
        path: &Path,
        (network, theta): (&Network, &Tensor),
        metadata: BTreeMap<String, String>,
        (taken, total): (usize, usize),
    ) -> Result<Self> {
        let tensors = weights_by_name(network, theta)?;
        let one = layout(&tensors);
        let named = |sample: usize| {
            one.iter().map(move |(name, dtype, dims)| (format!("{}{name}", prefix(sample)), *dtype, dims.clone()))
        };
        let all: Vec<_> = (0..total).flat_map(named).collect();
        let mut metadata = metadata;
        metadata.insert(SAMPLES_KEY.into(), total.to_string());
        let head = header(&all, &metadata, false);
        let head = [&(head.len() as u64).to_le_bytes(), head.as_bytes()].concat();
        let each =
            tensors.iter().map(|(_, tensor)| (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64).sum();
        let partial = Self::partial(path);
        let start = head.len() as u64;
        let failed = |source| FileError::Write { path: partial.clone(), source };
        if taken > 0 && !partial.exists() && path.exists() {
            // It was whole before the run was.
            std::fs::rename(path, &partial).map_err(failed)?;
        }
        let file = match taken {
            0 => begin(&partial, &head).map_err(failed)?,
            _ => go_on(&partial, &head, start + taken as u64 * each)?,
        };
        Ok(Self { file, partial, path: path.into(), start, each, total, taken })
    }

    /// Samples that are there.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Appends a sample, down to the disk.
    ///
    /// # Errors
    /// [`FileError::Write`].
    pub(crate) fn append(&mut self, network: &Network, theta: &Tensor) -> Result<()> {
        let tensors = weights_by_name(network, theta)?;
        let mut write = || -> io::Result<()> {
            for (_, tensor) in &tensors {
                self.file.write_all(&bytes(tensor).map_err(io::Error::other)?)?;
            }
            self.file.sync_data()
        };
        write().map_err(|source| FileError::Write { path: self.partial.clone(), source })?;
        self.taken += 1;
        Ok(())
    }

    /// Gives the file its name: all samples are there.
    ///
    /// # Errors
    /// [`FileError::Write`], also where samples are missing.
    pub(crate) fn finish(self) -> Result<PathBuf> {
        let expected = self.start + self.total as u64 * self.each;
        let end = || -> io::Result<()> {
            self.file.sync_all()?;
            match self.file.metadata()?.len() {
                len if len == expected => std::fs::rename(&self.partial, &self.path),
                len => Err(io::Error::other(format!("it has {len} bytes instead of {expected}"))),
            }
        };
        end().map_err(|source| FileError::Write { path: self.partial.clone(), source })?;
        Ok(self.path)
    }
}

/// What the names of a sample's tensors begin with.
fn prefix(sample: usize) -> String {
    format!("sample-{sample:03}/")
}

fn begin(path: &Path, head: &[u8]) -> io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(head)?;
    file.sync_all()?;
    Ok(file)
}

/// An open file with this header, cut to `length` bytes.
fn go_on(path: &Path, head: &[u8], length: u64) -> Result<File> {
    let unusable =
        |reason: String| CheckpointError::UnreadableState { reason: format!("{}: {reason}", path.display()) };
    let open = || -> io::Result<(File, bool)> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut own = vec![0; head.len()];
        file.read_exact(&mut own)?;
        let fits = own == head && file.metadata()?.len() >= length;
        if fits {
            file.set_len(length)?;
            file.seek(SeekFrom::End(0))?;
        }
        Ok((file, fits))
    };
    match open() {
        Ok((file, true)) => Ok(file),
        Ok((_, false)) => Err(unusable("it holds other samples, or fewer, than the state counts".into()).into()),
        Err(error) => Err(unusable(error.to_string()).into()),
    }
}

impl TensorFile {
    /// Samples in it; 0 for any other file.
    pub(crate) fn num_samples(&self) -> usize {
        self.metadata.get(SAMPLES_KEY).and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Sample `index` by itself; its hash is that of the whole file.
    pub(crate) fn sample(&self, index: usize) -> Self {
        let start = prefix(index);
        let own = self
            .entries
            .iter()
            .filter_map(|(name, entry)| Some((name.strip_prefix(&start)?.to_owned(), entry.clone())));
        Self { entries: own.collect(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{DType, Device};

    use super::*;
    use crate::checkpoint::Checkpoint;

    fn network() -> Network {
        crate::formats::family("mlp:2", &[3], 2).unwrap().network(HashMap::new()).unwrap()
    }

    fn theta(network: &Network, value: f64) -> Tensor {
        Tensor::full(value, network.space().dim(), &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
    }

    fn metadata(network: &Network) -> BTreeMap<String, String> {
        BTreeMap::from([(crate::checkpoint::ARCH_KEY.to_owned(), network.about.description.clone())])
    }

    fn open(path: &Path, taken: usize) -> Result<SampleWriter> {
        let network = network();
        SampleWriter::open(path, (&network, &theta(&network, 0.0)), metadata(&network), (taken, 3))
    }

    #[test]
    fn a_file_is_whole_or_absent_and_goes_on_from_what_counts() {
        let (folder, network) = (tempfile::tempdir().unwrap(), network());
        let path = folder.path().join("samples.safetensors");
        let mut writer = open(&path, 0).unwrap();
        [1.0, 2.0].iter().for_each(|value| writer.append(&network, &theta(&network, *value)).unwrap());
        assert!(!path.exists());
        drop(writer);
        // The state counts one sample: the second is dropped and taken again.
        let mut writer = open(&path, 1).unwrap();
        [5.0, 6.0].iter().for_each(|value| writer.append(&network, &theta(&network, *value)).unwrap());
        assert_eq!(writer.taken(), 3);
        writer.finish().unwrap();
        let file = TensorFile::read(&path).unwrap();
        assert_eq!(file.num_samples(), 3);
        for (index, value) in [1.0, 5.0, 6.0].into_iter().enumerate() {
            let architecture = file.architecture().unwrap().unwrap();
            let sample = Checkpoint::of(file.sample(index), architecture).unwrap();
            assert!(sample.theta.to_vec1::<f64>().unwrap().iter().all(|own| *own == value), "{index}");
        }
        assert!(!SampleWriter::partial(&path).exists());
        // A run that was killed after that takes the file up again.
        open(&path, 3).unwrap().finish().unwrap();
        assert!(path.exists());
        // As a checkpoint it is its first sample.
        let first = Checkpoint::read(&path, None).unwrap();
        assert!(first.notes.iter().any(|note| note.contains("first of 3 samples")), "{:?}", first.notes);
    }

    #[test]
    fn too_few_samples_are_no_file() {
        let (folder, network) = (tempfile::tempdir().unwrap(), network());
        let path = folder.path().join("samples.safetensors");
        let mut writer = open(&path, 0).unwrap();
        writer.append(&network, &theta(&network, 1.0)).unwrap();
        assert!(writer.finish().is_err() && !path.exists());
        for taken in [2, 3] {
            let error = open(&path, taken).unwrap_err().to_string();
            assert!(error.contains("fewer, than the state counts"), "{error}");
        }
        std::fs::write(SampleWriter::partial(&path), "other").unwrap();
        assert!(open(&path, 1).unwrap_err().hint().unwrap().contains("--force"));
    }
}
