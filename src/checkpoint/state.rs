//! States of unfinished work: tensors, the configuration that they belong to, and a hash over both.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde_json::Value;

use super::CheckpointError;
use super::safetensors::{Outline, SEAL, is_sealed, layout, write_sealed};
use crate::Result;
use crate::container::{Stored, safetensors_element, safetensors_header};

/// Metadata key of the configuration.
const CONFIGURATION: &str = "flatness.configuration";
/// Metadata key of everything that is not a tensor.
const FACTS: &str = "flatness.state";

/// Writes named tensors and `facts`, atomically, with the configuration of the work that they belong to; the file ends
/// in the SHA-256 of everything before.
///
/// # Errors
/// The folder cannot be written.
pub fn write_state(path: &Path, tensors: &[(String, Tensor)], configuration: &Value, facts: &Value) -> Result<()> {
    let mut each = tensors.iter().map(|(_, tensor)| Ok(tensor.clone()));
    write_state_as_it_comes(path, &layout(tensors), &mut each, configuration, facts)
}

/// The same for tensors of a known layout that are made when their turn comes.
///
/// # Errors
/// As [`write_state`]; what a tensor says in its place.
pub(crate) fn write_state_as_it_comes(
    path: &Path,
    layout: &[Outline],
    tensors: &mut dyn Iterator<Item = Result<Tensor>>,
    configuration: &Value,
    facts: &Value,
) -> Result<()> {
    let entries = [(CONFIGURATION, configuration.to_string()), (FACTS, facts.to_string())];
    let metadata = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    write_sealed(path, layout, tensors, &metadata)
}

/// The tensors and facts of a state that belongs to `configuration`.
///
/// # Errors
/// [`CheckpointError::UnreadableState`] for a file that is damaged or no state; [`CheckpointError::OtherState`] with the
/// keys that differ where it belongs to another configuration.
pub(crate) fn read_state(path: &Path, configuration: &Value) -> Result<(StateTensors, Value)> {
    let unreadable = |reason| CheckpointError::UnreadableState { reason };
    let sealed = is_sealed(path).map_err(|error| unreadable(format!("cannot read {}: {error}", path.display())))?;
    if !sealed {
        let reason = format!("{} is damaged, or of an earlier version: its SHA-256 is another", path.display());
        return Err(unreadable(reason).into());
    }
    let (tensors, metadata) =
        StateTensors::open(path).map_err(|reason| unreadable(format!("{} is no state: {reason}", path.display())))?;
    let entry = |key: &str| metadata.get(key).and_then(|text| serde_json::from_str(text).ok());
    let kept: Value = entry(CONFIGURATION)
        .ok_or_else(|| unreadable(format!("{} does not record its configuration", path.display())))?;
    let differing = differences(&kept, configuration);
    if !differing.is_empty() {
        return Err(CheckpointError::OtherState { path: path.into(), differing }.into());
    }
    let facts = entry(FACTS).unwrap_or(Value::Null);
    Ok((tensors, facts))
}

/// The tensors of a state, read when they are asked for: together they may be as large as the memory.
#[derive(Debug)]
pub(crate) struct StateTensors {
    path: PathBuf,
    file: File,
    /// Each with its bytes in the file.
    entries: BTreeMap<String, (Range<u64>, Stored)>,
}

impl StateTensors {
    /// With the metadata.
    ///
    /// # Errors
    /// In words: a file that cannot be read, or is none that [`write_state`] has written.
    fn open(path: &Path) -> Result<(Self, BTreeMap<String, String>), String> {
        let said = |error: std::io::Error| error.to_string();
        let file = File::open(path).map_err(said)?;
        let len = file.metadata().map_err(said)?.len();
        let (header, start) = safetensors_header(len, |range| read(&file, &range).map_err(said))?;
        let mut entries = BTreeMap::new();
        for (name, info) in header.tensors().into_iter().filter(|(name, _)| name != SEAL) {
            let [from, to] = [info.data_offsets.0, info.data_offsets.1].map(|place| start + place as u64);
            let element = safetensors_element(info.dtype).ok_or_else(|| format!("tensor `{name}` has no numbers"))?;
            let stored = Stored::contiguous(element, info.shape.clone(), 0..(to - from) as usize)
                .map_err(|reason| format!("tensor `{name}`: {reason}"))?;
            entries.insert(name, (from..to, stored));
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok((Self { path: path.into(), file, entries }, metadata))
    }

    /// Names of all tensors, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// A file that has none, or cannot be read any more.
    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        let Some((range, stored)) = self.entries.get(name) else {
            let (path, present) = (self.path.clone(), self.names());
            return Err(CheckpointError::NoTensor { path, name: name.into(), present }.into());
        };
        let path = &self.path;
        let bytes = read(&self.file, range).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
        let numbers = |reason| CheckpointError::Numbers { path: path.clone(), name: name.into(), reason };
        Ok(stored.read(&bytes).map_err(numbers)?)
    }

    /// All tensors by name.
    ///
    /// # Errors
    /// As [`StateTensors::get`].
    pub(crate) fn into_tensors(self) -> Result<BTreeMap<String, Tensor>> {
        self.entries.keys().map(|name| Ok((name.clone(), self.get(name)?))).collect()
    }
}

fn read(mut file: &File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.seek(SeekFrom::Start(range.start))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Keys whose values differ, with both values, nested ones with dots between.
pub fn differences(kept: &Value, now: &Value) -> Vec<String> {
    match (kept.as_object(), now.as_object()) {
        (Some(kept), Some(now)) => {
            let mut keys: Vec<&String> = kept.keys().chain(now.keys()).collect();
            keys.sort();
            keys.dedup();
            let get = |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
            keys.into_iter()
                .flat_map(|key| {
                    let inner = differences(&get(kept, key), &get(now, key));
                    inner.into_iter().map(move |text| {
                        if text.starts_with(' ') { format!("{key}{text}") } else { format!("{key}.{text}") }
                    })
                })
                .collect()
        }
        _ if kept == now => Vec::new(),
        _ => vec![format!(" {kept} there, {now} here")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differing_keys_are_listed_with_both_values() {
        let kept = json!({"seed": 1, "data": {"rows": 5, "source": "mnist"}, "same": [1]});
        let now = json!({"seed": 2, "data": {"rows": 6, "source": "mnist"}, "same": [1], "new": true});
        let expected = ["data.rows 5 there, 6 here", "new null there, true here", "seed 1 there, 2 here"];
        assert_eq!(differences(&kept, &now), expected);
        assert!(differences(&kept, &kept).is_empty());
    }

    #[test]
    fn a_state_comes_back_for_its_own_configuration_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let tensor = Tensor::new(&[0.1f64, f64::NAN], &candle_core::Device::Cpu).unwrap();
        write_state(&path, &[("a".into(), tensor)], &json!({"seed": 1}), &json!([2])).unwrap();
        let (tensors, facts) = read_state(&path, &json!({"seed": 1})).unwrap();
        assert_eq!((facts, tensors.names()), (json!([2]), vec!["a".to_owned()]));
        assert_eq!(tensors.get("a").unwrap().to_vec1::<f64>().unwrap()[0], 0.1);
        assert!(tensors.get("b").unwrap_err().to_string().contains("`b`"));
        let error = read_state(&path, &json!({"seed": 3})).err().unwrap().to_string();
        assert!(error.contains("seed 1 there, 3 here"), "{error}");
    }

    #[test]
    fn a_bit_that_flipped_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let tensors = [("a", vec![0.1f64; 9]), ("empty", vec![])];
        let tensors = tensors.map(|(name, values)| {
            let tensor = Tensor::new(values.as_slice(), &candle_core::Device::Cpu).unwrap();
            (name.to_owned(), tensor)
        });
        let configuration = json!({"seed": 1});
        write_state(&path, &tensors, &configuration, &json!({"steps": 7})).unwrap();
        let sound = std::fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error = read_state(&path, &configuration).err().unwrap().to_string();
            assert!(error.starts_with("cannot resume from the state: ") && error.contains("is damaged"), "{error}");
        };
        for bit in 0..8 * sound.len() {
            let mut damaged = sound.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            refused(&damaged);
        }
        (0..sound.len()).for_each(|len| refused(&sound[..len]));
        refused(&[&sound[..], &[0]].concat());
        // Nor is what an earlier version wrote without a hash.
        crate::checkpoint::write_tensors(&path, &tensors, &Default::default()).unwrap();
        refused(&std::fs::read(&path).unwrap());
    }
}
