//! Reads `.safetensors` and zipped PyTorch files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::error::ten;
use super::{ARCH_KEY, CheckpointError};
use crate::formats::{Architecture, Exported};
use crate::{Result, input};

/// Named tensors of one file, on the CPU.
pub struct TensorFile {
    path: PathBuf,
    /// SHA-256 of the bytes, in hex.
    pub sha256: String,
    /// `__metadata__`, empty for PyTorch files.
    pub metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
    /// The program and its tensors, where the file is an archive of torch.export.
    exported: Option<Box<Exported>>,
    /// The dictionary to look for weights in.
    weights_key: Option<String>,
}

/// What to take of a file that offers several things.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choices<'a> {
    /// Name of the network's output, where its program gives several.
    pub output: Option<&'a str>,
    /// Key of the dictionary of weights, where several fit.
    pub weights_key: Option<&'a str>,
}

/// SHA-256 in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl TensorFile {
    /// Reads a file: an archive of torch.export or PyTorch's zip form where it starts like a zip archive, else safetensors.
    ///
    /// # Errors
    /// [`CheckpointError`] for a missing, unreadable or damaged file.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, Choices::default())
    }

    /// [`TensorFile::read`], with choices.
    pub(crate) fn read_with(path: &Path, choices: Choices<'_>) -> Result<Self> {
        let Choices { output, weights_key } = choices;
        let weights_key = weights_key.map(str::to_owned);
        if path.is_dir() {
            return Err(CheckpointError::IsDirectory { path: path.into() }.into());
        }
        let bytes = input::read(path).map_err(|source| CheckpointError::Io { path: path.into(), source })?;
        let sha256 = sha256_hex(&bytes);
        if Exported::is_one(&bytes) {
            let exported = Exported::read(&bytes, &path.display().to_string(), output)?;
            let (metadata, tensors) = (BTreeMap::new(), exported_tensors(&exported)?);
            return Ok(Self {
                path: path.into(),
                sha256,
                metadata,
                tensors,
                exported: Some(Box::new(exported)),
                weights_key,
            });
        }
        let (mut metadata, mut tensors) = if bytes.starts_with(b"PK\x03\x04") {
            (BTreeMap::new(), read_pytorch(path)?)
        } else {
            read_safetensors(path, &bytes)?
        };
        if let Some(text) = metadata.remove(Exported::KEY) {
            let exported = Exported::over_tensors(&text, &tensors, (&path.display().to_string(), output))?;
            let tensors = exported_tensors(&exported)?;
            return Ok(Self {
                path: path.into(),
                sha256,
                metadata,
                tensors,
                exported: Some(Box::new(exported)),
                weights_key,
            });
        }
        // `module.` is the trace of DataParallel; it is stripped only where every name has it.
        let meant = |name: &String| !name.ends_with("num_batches_tracked");
        if tensors.keys().filter(|name| meant(name)).all(|name| name.starts_with("module.")) {
            tensors = tensors.into_iter().map(|(name, t)| (name.trim_start_matches("module.").to_owned(), t)).collect();
        }
        Ok(Self { path: path.into(), sha256, metadata, tensors, exported: None, weights_key })
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

    /// All tensors by name.
    pub fn into_tensors(self) -> BTreeMap<String, Tensor> {
        self.tensors
    }

    /// The tensor `name` as it is in the file.
    ///
    /// # Errors
    /// [`CheckpointError::NoTensor`] with the names that exist.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| {
            let present = self.tensors.keys().cloned().collect();
            CheckpointError::NoTensor { path: self.path.clone(), name: name.into(), present }.into()
        })
    }

    /// The widest dtype among the float tensors of the file, and whether half-precision weights are widened.
    pub(super) fn precision(&self) -> (DType, bool) {
        if let Some(exported) = &self.exported {
            return (exported.stored_dtype, exported.widened);
        }
        let dtypes = || self.tensors.values().map(Tensor::dtype).filter(|dtype| dtype.is_float());
        let widened = dtypes().any(|dtype| matches!(dtype, DType::F16 | DType::BF16));
        (dtypes().max_by_key(DType::size_in_bytes).unwrap_or(DType::F32), widened)
    }

    /// The flat parameters and the buffers, in f64, and what is worth saying of how they were found.
    pub(super) fn bind(&self, architecture: &Architecture) -> Result<(Tensor, HashMap<String, Tensor>, Vec<String>)> {
        let space = architecture.param_space()?;
        let buffers = architecture.buffers()?;
        if space.dim() == 0 {
            return Err(CheckpointError::NoParameters { path: self.path.clone() }.into());
        }
        let expected: Vec<(&str, &[usize])> = space
            .tensors()
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
            .chain(buffers.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())))
            .collect();
        let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        let named = self.under_names(&names)?;
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        for (name, shape) in expected {
            match named.tensors.get(name) {
                None => missing.push(name.to_owned()),
                Some(tensor) if tensor.dims() != shape => {
                    misshapen.push(format!("{name}: got {:?}, expected {shape:?}", tensor.dims()));
                }
                Some(_) => {}
            }
        }
        if !(missing.is_empty() && misshapen.is_empty()) {
            let (path, others) = (self.path.clone(), named.others);
            return Err(CheckpointError::Tensors { path, missing, misshapen, others }.into());
        }
        let wide = |name: &str| -> Result<Tensor> {
            let values = named.tensors[name].to_dtype(DType::F64)?;
            self.check_finite(name, &values)?;
            Ok(values)
        };
        let parts: Vec<Tensor> =
            space.tensors().iter().map(|tensor| Ok(wide(&tensor.name)?.flatten_all()?)).collect::<Result<_>>()?;
        let theta = Tensor::cat(&parts, 0)?;
        let buffers = buffers.iter().map(|(name, _)| Ok((name.clone(), wide(name)?))).collect::<Result<_>>()?;
        Ok((theta, buffers, named.notes()))
    }

    /// That a tensor of f64 holds finite numbers.
    fn check_finite(&self, name: &str, values: &Tensor) -> Result<()> {
        let count = values.flatten_all()?.to_vec1::<f64>()?.iter().filter(|value| !value.is_finite()).count();
        match count {
            0 => Ok(()),
            count => Err(CheckpointError::NotFinite { path: self.path.clone(), name: name.into(), count }.into()),
        }
    }

    /// What stands in front of a network's names in this file, such as `module.` or `state_dict.model.`: the prefix under
    /// which most of them are there.
    ///
    /// # Errors
    /// [`CheckpointError::SeveralFit`] where all of them are there under several.
    fn prefix_of(&self, names: &[&str]) -> Result<String> {
        let within = |prefix: &str| match &self.weights_key {
            None => true,
            Some(key) => prefix.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('.')),
        };
        let mut prefixes: BTreeSet<&str> = BTreeSet::new();
        for tensor in self.tensors.keys() {
            let found = names.iter().filter_map(|name| tensor.strip_suffix(name));
            prefixes.extend(found.filter(|prefix| (prefix.is_empty() || prefix.ends_with('.')) && within(prefix)));
        }
        let count = |prefix: &str| {
            let is_there = |name: &&&str| self.tensors.contains_key(&format!("{prefix}{name}"));
            names.iter().filter(is_there).count()
        };
        let counted: Vec<(usize, &str)> = prefixes.into_iter().map(|prefix| (count(prefix), prefix)).collect();
        let most = counted.iter().map(|(count, _)| *count).max().unwrap_or(0);
        let best: Vec<&str> = counted.iter().filter(|(count, _)| *count == most).map(|(_, prefix)| *prefix).collect();
        match (best.as_slice(), &self.weights_key) {
            // The names as they are come first.
            ([first, _, ..], _) if !first.is_empty() && most == names.len() => {
                let keys = best.iter().map(|prefix| prefix.trim_end_matches('.').to_owned()).collect();
                Err(CheckpointError::SeveralFit { path: self.path.clone(), keys }.into())
            }
            ([first, ..], _) => Ok((*first).to_owned()),
            ([], Some(key)) => Err(CheckpointError::NoWeightsKey { path: self.path.clone(), key: key.clone() }.into()),
            ([], None) => Ok(String::new()),
        }
    }

    /// The tensors under a network's `names` for them.
    ///
    /// # Errors
    /// [`CheckpointError::SeveralFit`]; [`CheckpointError::NoWeightsKey`].
    pub(crate) fn under_names(&self, names: &[&str]) -> Result<Named> {
        let prefix = self.prefix_of(names)?;
        let own = self.tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor)));
        let tensors = own.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        let used: HashSet<String> = names.iter().map(|name| format!("{prefix}{name}")).collect();
        let is_other = |name: &&String| !used.contains(*name) && !name.ends_with("num_batches_tracked");
        let others = self.tensors.keys().filter(is_other).cloned().collect();
        Ok(Named { tensors, prefix, others })
    }
}

/// The tensors of a file under a network's names for them.
pub(crate) struct Named {
    /// By name.
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// What stands in front of the names in the file.
    prefix: String,
    /// Tensors that the network has no use for; batch norm's counters do not count.
    others: Vec<String>,
}

impl Named {
    /// What is worth saying of how they were found.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.prefix.is_empty() {
            notes.push(format!("the names of the weights begin with `{}` in the file", self.prefix));
        }
        if !self.others.is_empty() {
            notes.push(format!("tensors of the file that the network has no use for: {}", ten(&self.others)));
        }
        notes
    }
}

type Contents = (BTreeMap<String, String>, BTreeMap<String, Tensor>);

fn read_safetensors(path: &Path, bytes: &[u8]) -> Result<Contents> {
    let corrupt = |reason: String| CheckpointError::Corrupt { path: path.into(), format: "safetensors", reason };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| corrupt(error.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let tensors =
        candle_core::safetensors::load_buffer(bytes, &Device::Cpu).map_err(|error| corrupt(error.to_string()))?;
    Ok((metadata, tensors.into_iter().collect()))
}

/// Parameters and buffers by name.
fn exported_tensors(exported: &Exported) -> Result<BTreeMap<String, Tensor>> {
    let space = &exported.program.parameters;
    let names = space.tensors().iter().map(|tensor| tensor.name.clone());
    let buffers = exported.buffers.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
    Ok(names.zip(space.split(&exported.theta)?).chain(buffers).collect())
}

/// Keys under which training scripts keep dictionaries of weights.
const KEYS: [&str; 10] = [
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "module",
    "model_ema",
    "state_dict_ema",
    "ema",
    "weights",
];

/// All tensors at the top, and those of dictionaries under the usual keys as `KEY.NAME`.
fn read_pytorch(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let corrupt = |reason: String| CheckpointError::Corrupt { path: path.into(), format: "PyTorch", reason };
    let mut last = "no tensors inside".to_owned();
    let mut all = BTreeMap::new();
    match candle_core::pickle::read_all_with_key(path, None) {
        Ok(tensors) => all.extend(tensors),
        Err(error) => last = error.to_string(),
    }
    for key in KEYS {
        if let Ok(tensors) = candle_core::pickle::read_all_with_key(path, Some(key)) {
            all.extend(tensors.into_iter().map(|(name, tensor)| (format!("{key}.{name}"), tensor)));
        }
    }
    if all.is_empty() { Err(corrupt(last).into()) } else { Ok(all) }
}
