//! Writes safetensors files with a fixed order of keys.
//!
//! The `safetensors` crate serialises metadata from a hash map, in an order that changes from run to run; equal runs
//! must give equal bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::digest::{self, Hashing};
use crate::files::write_atomic;

/// Name of the tensor that seals a file: the SHA-256 of all bytes before it.
pub(super) const SEAL: &str = "sha256";

/// Writes named f32 or f64 tensors and string metadata, atomically, in the given order.
///
/// # Errors
/// The folder cannot be written, or a tensor has another dtype.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<()> {
    let header = header(&layout(tensors), metadata, false);
    write_atomic(path, |file| write(file, &header, &mut tensors.iter().map(|(_, tensor)| Ok(tensor.clone()))))?;
    Ok(())
}

/// Name, dtype and shape of a tensor.
pub(super) type Outline = (String, DType, Vec<usize>);

pub(super) fn layout(tensors: &[(String, Tensor)]) -> Vec<Outline> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dtype(), tensor.dims().to_vec())).collect()
}

/// Writes tensors as they come, sealed: the last 32 bytes are the SHA-256 of all before them, header included.
pub(super) fn write_sealed(
    path: &Path,
    layout: &[Outline],
    tensors: &mut dyn Iterator<Item = Result<Tensor>>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let header = header(layout, metadata, true);
    write_atomic(path, |file| {
        let mut hashing = Hashing::new(file);
        write(&mut hashing, &header, tensors)?;
        let (file, sum) = hashing.finish();
        file.write_all(&sum)
    })?;
    Ok(())
}

/// Whether the seal of a file is that of the bytes before it.
pub(super) fn is_sealed(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut seal = digest::Sum::default();
    let Some(before) = file.metadata()?.len().checked_sub(seal.len() as u64) else { return Ok(false) };
    let sum = digest::sum(&mut (&mut file).take(before))?;
    file.read_exact(&mut seal)?;
    Ok(seal == sum)
}

pub(super) fn header(layout: &[Outline], metadata: &BTreeMap<String, String>, sealed: bool) -> String {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!(metadata));
    let mut end = 0;
    for (name, dtype, dims) in layout {
        let dtype = if *dtype == DType::F32 { "F32" } else { "F64" };
        let start = end;
        end += dims.iter().product::<usize>() * if dtype == "F32" { 4 } else { 8 };
        let entry = json!({"dtype": dtype, "shape": dims, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    if sealed {
        let len = digest::Sum::default().len();
        header.insert(SEAL.into(), json!({"dtype": "U8", "shape": [len], "data_offsets": [end, end + len]}));
    }
    let mut header = Value::Object(header).to_string();
    // The format wants tensors aligned to 8 bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    header
}

fn write(file: &mut impl Write, header: &str, tensors: &mut dyn Iterator<Item = Result<Tensor>>) -> io::Result<()> {
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for tensor in tensors {
        let bytes = tensor.and_then(|tensor| Ok(bytes(&tensor)?));
        file.write_all(&bytes.map_err(io::Error::other)?)?;
    }
    Ok(())
}

/// Little-endian f32 or f64: one tensor at a time, since all together may be as large as the memory.
pub(super) fn bytes(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => flat.to_vec1::<f32>()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => flat.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::TensorFile;

    #[test]
    fn the_crate_reads_what_we_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let a = Tensor::new(&[[1.5f32, -2.0], [0.0, 4.0]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[0.1f64, 0.2, 0.3], &Device::Cpu).unwrap();
        let metadata = BTreeMap::from([("b".to_owned(), "x\"y".to_owned()), ("a".to_owned(), "1".to_owned())]);
        write_tensors(&path, &[("b".into(), b.clone()), ("a".into(), a.clone())], &metadata).unwrap();
        let first = std::fs::read(&path).unwrap();
        let file = TensorFile::read(&path).unwrap();
        assert_eq!(file.metadata, metadata);
        assert_eq!(file.get("a").unwrap().to_vec2::<f32>().unwrap(), a.to_vec2::<f32>().unwrap());
        assert_eq!(file.get("b").unwrap().to_vec1::<f64>().unwrap(), b.to_vec1::<f64>().unwrap());
        write_tensors(&path, &[("b".into(), b), ("a".into(), a)], &metadata).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
    }
}
