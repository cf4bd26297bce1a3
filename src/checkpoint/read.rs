//! Files of weights: what is in them, and where in them a network finds its tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;

use super::keys::ARCH_KEY;
use super::{CheckpointError, locate};
use crate::container::{Contents, Entry, Failure};
use crate::digest::sha256_hex;
use crate::formats::{Architecture, Exported};
use crate::{Result, input};

/// Named tensors of one file, or of the shards that an index names. They are read when they are asked for; clones share the
/// bytes.
#[derive(Clone)]
pub struct TensorFile {
    pub(super) path: PathBuf,
    /// SHA-256 of the bytes, in hex; of shards, that of their hashes in order.
    pub sha256: String,
    /// `__metadata__`, empty for PyTorch files.
    pub metadata: BTreeMap<String, String>,
    /// The bytes of each file.
    pub(super) files: Vec<Arc<Vec<u8>>>,
    /// Each with its file.
    pub(super) entries: BTreeMap<String, (usize, Entry)>,
    /// Tensors that cannot be read, and why.
    pub(super) unread: Vec<(String, String)>,
    /// The program and its tensors, where the file is an archive of torch.export.
    pub(super) exported: Option<Arc<Exported>>,
    /// The dictionary to look for weights in.
    pub(super) weights_key: Option<String>,
}

/// What to take of a file that offers several things.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choices<'a> {
    /// Name of the network's output, where its program gives several.
    pub output: Option<&'a str>,
    /// Key of the dictionary of weights, where several fit.
    pub weights_key: Option<&'a str>,
}

impl TensorFile {
    /// Reads a file by its first bytes: an archive of torch.export, what `torch.save` writes, or safetensors; the shards of an
    /// index of safetensors; the weights in a folder.
    ///
    /// # Errors
    /// [`CheckpointError`] for a missing, unreadable, damaged or foreign file.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, Choices::default())
    }

    /// [`TensorFile::read`], with choices.
    pub(crate) fn read_with(path: &Path, choices: Choices<'_>) -> Result<Self> {
        let path = locate::weights(path)?;
        let first = bytes_of(&path)?;
        let mut file = Self {
            sha256: sha256_hex(&first),
            metadata: BTreeMap::new(),
            files: Vec::new(),
            entries: BTreeMap::new(),
            unread: Vec::new(),
            exported: None,
            weights_key: choices.weights_key.map(str::to_owned),
            path,
        };
        let origin = file.path.display().to_string();
        if Exported::is_one(&first) {
            file.set_exported(Exported::read(&first, &origin, choices.output)?)?;
            return Ok(file);
        }
        match locate::shards(&file.path, &first)? {
            None => file.add(&file.path.clone(), first)?,
            Some(shards) => {
                let mut hashes = String::new();
                for shard in shards {
                    let bytes = bytes_of(&shard)?;
                    hashes += &sha256_hex(&bytes);
                    file.add(&shard, bytes)?;
                }
                file.sha256 = sha256_hex(hashes.as_bytes());
            }
        }
        if let Some(text) = file.metadata.remove(Exported::KEY) {
            let exported = Exported::over_tensors(&text, &|name| file.tensor(name), &origin, choices.output)?;
            file.set_exported(exported)?;
        }
        Ok(file)
    }

    /// The same as a file of `tools/export_torch.py` with these tensors and the graphs `content`, without one. The hash covers
    /// the names, types, shapes and values of the tensors, and the graphs.
    pub(super) fn exported(name: &str, content: &str, tensors: &BTreeMap<String, Tensor>) -> Result<Self> {
        let find = |name: &str| Ok(tensors.get(name).cloned());
        let exported = Exported::over_tensors(content, &find, name, None)?;
        let mut file = Self {
            path: name.into(),
            sha256: hash(content, tensors)?,
            metadata: BTreeMap::new(),
            files: Vec::new(),
            entries: BTreeMap::new(),
            unread: Vec::new(),
            exported: None,
            weights_key: None,
        };
        file.set_exported(exported)?;
        Ok(file)
    }

    /// Takes up the tensors of one file.
    fn add(&mut self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        let contents = Contents::read(&bytes).map_err(|failure| match failure {
            Failure::Damaged { format, reason } => CheckpointError::Corrupt { path: path.into(), format, reason },
            Failure::Foreign { what, remedy } => CheckpointError::Foreign { path: path.into(), what, remedy },
        })?;
        let place = self.files.len();
        self.files.push(Arc::new(bytes));
        self.entries.extend(contents.entries.into_iter().map(|(name, entry)| (name, (place, entry))));
        self.unread.extend(contents.unread);
        self.metadata.extend(contents.metadata);
        Ok(())
    }

    /// Puts the parameters and buffers of a program in place of all tensors.
    fn set_exported(&mut self, exported: Exported) -> Result<()> {
        let space = &exported.program.parameters;
        let names = space.tensors().iter().map(|tensor| tensor.name.clone());
        let buffers = exported.buffers.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        let tensors = names.zip(space.split(&exported.theta)?).chain(buffers);
        self.entries = tensors.map(|(name, tensor)| (name, (0, Entry::Made(tensor)))).collect();
        self.files = vec![Arc::default()];
        self.exported = Some(Arc::new(exported));
        Ok(())
    }

    /// The architecture that the file brings, where it does.
    ///
    /// # Errors
    /// A description that cannot be read.
    pub fn architecture(&self) -> Result<Option<Architecture>> {
        if let Some(exported) = &self.exported {
            let name = self.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            return Ok(Some(Architecture::of_exported(&name, exported)));
        }
        let origin = format!("in {}", self.path.display());
        Ok(self.metadata.get(ARCH_KEY).map(|text| Architecture::from_json(text, &origin)).transpose()?)
    }

    /// Names, shapes and PyTorch's names of the types of all tensors, and the tensors that cannot be read, with the reason.
    #[allow(clippy::type_complexity)] // one use
    pub(crate) fn list(&self) -> (Vec<(&str, &[usize], &'static str)>, &[(String, String)]) {
        let entries = self.entries.iter().map(|(name, (_, entry))| (name.as_str(), entry.shape(), entry.type_name()));
        (entries.collect(), &self.unread)
    }

    /// Where it was read from: of a folder, the file in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, in order.
    pub fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// All tensors by name.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn into_tensors(self) -> Result<BTreeMap<String, Tensor>> {
        self.entries.keys().map(|name| Ok((name.clone(), self.get(name)?))).collect()
    }

    /// The tensor `name` as it is in the file.
    ///
    /// # Errors
    /// [`CheckpointError::NoTensor`] with the names that exist; [`CheckpointError::Numbers`].
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let unread = |reason| CheckpointError::Numbers { path: self.path.clone(), name: name.into(), reason };
        let found = self.tensor(name).map_err(unread)?;
        found.ok_or_else(|| {
            let present = self.entries.keys().cloned().collect();
            CheckpointError::NoTensor { path: self.path.clone(), name: name.into(), present }.into()
        })
    }

    /// The tensor `name`, where there is one; what is wrong with it, in words.
    fn tensor(&self, name: &str) -> Result<Option<Tensor>, String> {
        self.entries.get(name).map(|(file, entry)| entry.read(&self.files[*file])).transpose()
    }
}

/// SHA-256, in hex, of graphs and tensors in memory: that of the hashes of `content` and of each tensor with its name.
fn hash(content: &str, tensors: &BTreeMap<String, Tensor>) -> Result<String> {
    let mut hashes = sha256_hex(content.as_bytes());
    for (name, tensor) in tensors {
        let values = safetensors::tensor::View::data(&tensor).into_owned();
        hashes += &format!("{name} {} {:?} {}\n", tensor.dtype().as_str(), tensor.dims(), sha256_hex(&values));
    }
    Ok(sha256_hex(hashes.as_bytes()))
}

/// The whole file at `path`.
fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    input::read(path).map_err(|source| CheckpointError::Io { path: path.into(), source }.into())
}
