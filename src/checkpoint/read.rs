//! Reads `.safetensors` and zipped PyTorch files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::{ARCH_KEY, CheckpointError};
use crate::Result;
use crate::formats::{Architecture, Body, Exported};

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
        Self::read_with(path, None)
    }

    /// [`TensorFile::read`], with the output of a program that gives several.
    pub(super) fn read_with(path: &Path, output: Option<&str>) -> Result<Self> {
        if path.is_dir() {
            return Err(CheckpointError::IsDirectory { path: path.into() }.into());
        }
        let bytes = std::fs::read(path).map_err(|source| CheckpointError::Io { path: path.into(), source })?;
        let sha256 = sha256_hex(&bytes);
        if Exported::is_one(&bytes) {
            let exported = Exported::read(&bytes, &path.display().to_string(), output)?;
            let (metadata, tensors) = (BTreeMap::new(), exported_tensors(&exported)?);
            return Ok(Self { path: path.into(), sha256, metadata, tensors, exported: Some(Box::new(exported)) });
        }
        let (mut metadata, mut tensors) = if bytes.starts_with(b"PK\x03\x04") {
            (BTreeMap::new(), read_pytorch(path)?)
        } else {
            read_safetensors(path, &bytes)?
        };
        if let Some(text) = metadata.remove(Exported::KEY) {
            let exported = Exported::over_tensors(&text, &tensors, (&path.display().to_string(), output))?;
            let tensors = exported_tensors(&exported)?;
            return Ok(Self { path: path.into(), sha256, metadata, tensors, exported: Some(Box::new(exported)) });
        }
        // `module.` is the trace of DataParallel; it is stripped only where every name has it.
        let meant = |name: &String| !name.ends_with("num_batches_tracked");
        if tensors.keys().filter(|name| meant(name)).all(|name| name.starts_with("module.")) {
            tensors = tensors.into_iter().map(|(name, t)| (name.trim_start_matches("module.").to_owned(), t)).collect();
        }
        Ok(Self { path: path.into(), sha256, metadata, tensors, exported: None })
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

    /// The flat parameters and the buffers, in f64.
    pub(super) fn bind(&self, architecture: &Architecture) -> Result<(Tensor, HashMap<String, Tensor>)> {
        let space = architecture.param_space()?;
        let buffers = architecture.buffers()?;
        if space.dim() == 0 {
            return Err(CheckpointError::NoParameters { path: self.path.clone() }.into());
        }
        // A module's state dict also holds buffers that its program never reads, and tied weights under all their names.
        let is_program = matches!(architecture.body, Body::Program { .. });
        self.check_fit(
            is_program,
            space.tensors().iter().map(|tensor| (&tensor.name, &tensor.shape)),
            buffers.iter().map(|(name, shape)| (name, shape)),
        )?;
        let wide = |name: &str| -> Result<Tensor> {
            let values = self.get(name)?.to_dtype(DType::F64)?;
            self.check_finite(name, &values)?;
            Ok(values)
        };
        let parts: Vec<Tensor> =
            space.tensors().iter().map(|tensor| Ok(wide(&tensor.name)?.flatten_all()?)).collect::<Result<_>>()?;
        let theta = Tensor::cat(&parts, 0)?;
        let buffers = buffers.into_iter().map(|(name, _)| Ok((name.clone(), wide(&name)?))).collect::<Result<_>>()?;
        Ok((theta, buffers))
    }

    /// That a tensor of f64 holds finite numbers.
    fn check_finite(&self, name: &str, values: &Tensor) -> Result<()> {
        let count = values.flatten_all()?.to_vec1::<f64>()?.iter().filter(|value| !value.is_finite()).count();
        match count {
            0 => Ok(()),
            count => Err(CheckpointError::NotFinite { path: self.path.clone(), name: name.into(), count }.into()),
        }
    }

    fn check_fit<'a>(
        &self,
        allows_more: bool,
        params: impl Iterator<Item = (&'a String, &'a Vec<usize>)>,
        buffers: impl Iterator<Item = (&'a String, &'a Vec<usize>)>,
    ) -> Result<()> {
        let expected: BTreeMap<&String, &Vec<usize>> = params.chain(buffers).collect();
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        for (name, shape) in &expected {
            match self.tensors.get(*name) {
                None => missing.push((*name).clone()),
                Some(tensor) if tensor.dims() != shape.as_slice() => {
                    misshapen.push(format!("{name}: got {:?}, expected {shape:?}", tensor.dims()));
                }
                Some(_) => {}
            }
        }
        let ignored = |name: &String| allows_more || name.ends_with("num_batches_tracked");
        let unknown: Vec<String> =
            self.tensors.keys().filter(|name| !expected.contains_key(name) && !ignored(name)).cloned().collect();
        if missing.is_empty() && unknown.is_empty() && misshapen.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::Tensors { path: self.path.clone(), missing, unknown, misshapen }.into())
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

/// The state dict, at the top or under the usual keys.
fn read_pytorch(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let corrupt = |reason: String| CheckpointError::Corrupt { path: path.into(), format: "PyTorch", reason };
    let mut last = "no tensors inside".to_owned();
    for key in [None, Some("state_dict"), Some("model_state_dict"), Some("model"), Some("net")] {
        match candle_core::pickle::read_all_with_key(path, key) {
            Ok(tensors) if !tensors.is_empty() => return Ok(tensors.into_iter().collect()),
            Ok(_) => {}
            Err(error) if key.is_none() => last = error.to_string(),
            Err(_) => {}
        }
    }
    Err(corrupt(last).into())
}
