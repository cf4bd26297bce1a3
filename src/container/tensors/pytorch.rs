//! What `torch.save` writes: a pickle and the storages of its tensors, in a zip archive or (before PyTorch 1.6) one after the
//! other.

use std::collections::HashMap;
use std::ops::Range;

use super::contents::Failure;
use super::rebuild::{Rebuild, storage_of};
use crate::container::{Archive, Pickle, Value};

/// The number at the start of the older form, as a pickled whole number of ten bytes.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// What `read` takes from a zip archive.
pub(super) fn zipped<T>(bytes: &[u8], read: impl FnOnce(Rebuild<'_>) -> Result<T, String>) -> Result<T, Failure> {
    let damaged = |reason| Failure::Damaged { format: "PyTorch", reason };
    let archive = Archive::open(bytes).map_err(damaged)?;
    if let Some((what, remedy)) = other_archive(&archive) {
        return Err(Failure::Foreign { what, remedy });
    }
    read_zipped(&archive, bytes.len(), read).map_err(damaged)
}

/// Archives of other programs.
fn other_archive(archive: &Archive<'_>) -> Option<(&'static str, &'static str)> {
    let any = |test: &dyn Fn(&str) -> bool| archive.names().any(test);
    if any(&|name| name.contains("/code/") || name.ends_with("/constants.pkl")) {
        let remedy = "save its weights with `torch.save(torch.jit.load(FILE).state_dict(), …)`";
        return Some(("a TorchScript archive", remedy));
    }
    if any(&|name| name.ends_with(".npy")) {
        return Some((
            "a NumPy archive",
            "it may serve as data (docs/data.md); save weights with torch.save or safetensors",
        ));
    }
    if any(&|name| name == "model.weights.h5") {
        return Some(("a Keras archive", "save the weights with torch.save or safetensors"));
    }
    None
}

fn read_zipped<T>(
    archive: &Archive<'_>,
    len: usize,
    read: impl FnOnce(Rebuild<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let name = match archive.ending("/data.pkl") {
        Ok(name) => name,
        Err(_) if archive.names().any(|name| name == "data.pkl") => "data.pkl",
        Err(reason) => return Err(reason),
    };
    let root = name.trim_end_matches("data.pkl");
    if archive.entry(&format!("{root}byteorder")).is_ok_and(|order| order == b"big") {
        return Err("its numbers are big-endian: save it again on a little-endian machine".into());
    }
    let pickle = Pickle::read(archive.entry(name)?)?;
    let mut storages = HashMap::new();
    for value in pickle.values() {
        let Some((key, ..)) = storage_of(&pickle, value) else { continue };
        if let (false, Ok(place)) = (storages.contains_key(key), archive.place(&format!("{root}data/{key}"))) {
            storages.insert(key, place);
        }
    }
    read(Rebuild::new(&pickle, storages, len))
}

/// What `read` takes from a pickle in the open: the older form of `torch.save`, or a pickle of anything.
///
/// The older form is five pickles (the magic number, a version, facts of the system, the object, the keys of its storages), then
/// each storage behind the number of its elements.
pub(super) fn pickled<T>(bytes: &[u8], read: impl FnOnce(Rebuild<'_>) -> Result<T, String>) -> Result<T, String> {
    let first = Pickle::read(bytes)?;
    if *first.get(first.root()) != Value::Bytes(&MAGIC) {
        return read(Rebuild::new(&first, HashMap::new(), bytes.len()));
    }
    let mut start = first.end;
    let mut next = || -> Result<Pickle<'_>, String> {
        let pickle = Pickle::read(&bytes[start..])?;
        start += pickle.end;
        Ok(pickle)
    };
    let (_version, _system, pickle, keys) = (next()?, next()?, next()?, next()?);
    let widths: HashMap<&str, usize> = pickle
        .values()
        .iter()
        .filter_map(|value| storage_of(&pickle, value))
        .filter_map(|(key, element, _)| Some((key, element?.width())))
        .collect();
    let mut storages: HashMap<&str, Range<usize>> = HashMap::new();
    for &key in keys.items(keys.root()).ok_or("the keys of its storages are missing")? {
        let key = keys.text(key).ok_or("the key of a storage is not text")?;
        let cut = || format!("its storage `{key}` is cut short");
        let count = bytes.get(start..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(cut)?;
        let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|_| cut())?;
        let width = widths.get(key).ok_or_else(|| format!("the type of its storage `{key}` is not supported"))?;
        let from = start + 8;
        let to = count.checked_mul(*width).and_then(|len| from.checked_add(len)).filter(|&to| to <= bytes.len());
        start = to.ok_or_else(cut)?;
        storages.insert(key, from..start);
    }
    read(Rebuild::new(&pickle, storages, bytes.len()))
}
