//! States of unfinished work: tensors, and the configuration that they belong to.

use std::path::Path;

use candle_core::Tensor;
use serde_json::Value;

use super::{CheckpointError, TensorFile, write_tensors};
use crate::Result;

/// Metadata key of the configuration.
const CONFIGURATION: &str = "flatness.configuration";
/// Metadata key of what is no tensor.
const FACTS: &str = "flatness.state";

/// Writes named tensors and `facts`, atomically, with the configuration of the work that they belong to.
///
/// # Errors
/// The folder cannot be written.
pub fn write_state(path: &Path, tensors: &[(String, Tensor)], configuration: &Value, facts: &Value) -> Result<()> {
    let entries = [(CONFIGURATION, configuration.to_string()), (FACTS, facts.to_string())];
    let metadata = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    write_tensors(path, tensors, &metadata)
}

/// The tensors and facts of a state that belongs to `configuration`.
///
/// # Errors
/// [`CheckpointError::UnreadableState`] for a file that is damaged or no state; [`CheckpointError::OtherState`] with the
/// keys that differ where it belongs to another configuration.
pub fn read_state(path: &Path, configuration: &Value) -> Result<(TensorFile, Value)> {
    let unreadable = |reason| CheckpointError::UnreadableState { reason };
    // The hint for a damaged checkpoint, to copy it again, would be no help.
    let file = TensorFile::read(path).map_err(|error| unreadable(error.to_string()))?;
    let entry = |key: &str| file.metadata.get(key).and_then(|text| serde_json::from_str(text).ok());
    let kept: Value = entry(CONFIGURATION)
        .ok_or_else(|| unreadable(format!("{} says not of which configuration", path.display())))?;
    let differing = differences(&kept, configuration);
    if !differing.is_empty() {
        return Err(CheckpointError::OtherState { path: path.into(), differing }.into());
    }
    let facts = entry(FACTS).unwrap_or(Value::Null);
    Ok((file, facts))
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
        let (file, facts) = read_state(&path, &json!({"seed": 1})).unwrap();
        assert_eq!(facts, json!([2]));
        assert_eq!(file.get("a").unwrap().to_vec1::<f64>().unwrap()[0], 0.1);
        let error = read_state(&path, &json!({"seed": 3})).err().unwrap().to_string();
        assert!(error.contains("seed 1 there, 3 here"), "{error}");
        std::fs::write(&path, b"no state").unwrap();
        let error = read_state(&path, &json!({})).err().unwrap().to_string();
        assert!(error.starts_with("cannot go on from the state: "), "{error}");
    }
}
