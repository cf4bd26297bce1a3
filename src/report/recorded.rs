//! What `run.json` says of the files of its result, and whether it is still so.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use super::ReportError;
use crate::digest::sha256_hex;
use crate::{digest, input, path_text};

/// Key of the files: name in the folder to `sha256` and `bytes`.
const FILES: &str = "files";
/// Key of the SHA-256 of `run.json` itself: of its compact form without this key.
const OWN: &str = "sha256";

/// `provenance` with the hashes of `files`, which lie in `folder`, and with its own.
pub(super) fn with_hashes(folder: &Path, provenance: &Value, files: &[PathBuf]) -> Result<Value, ReportError> {
    let mut listed: Vec<(String, Value)> = Vec::new();
    for path in files {
        let (sha256, bytes) = hash(path).map_err(|source| ReportError::Read { path: path.clone(), source })?;
        listed.push((name_in(folder, path), json!({"sha256": sha256, "bytes": bytes})));
    }
    listed.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut run = provenance.clone();
    run[FILES] = Value::Object(Map::from_iter(listed));
    run[OWN] = json!(sha256_hex(run.to_string().as_bytes()));
    Ok(run)
}

/// With `/` between its parts, whatever the system.
fn name_in(folder: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(folder).unwrap_or(path).components();
    parts.map(path_text::to_text).collect::<Vec<_>>().join("/")
}

/// SHA-256 in hex, and length.
fn hash(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = input::open(path)?;
    Ok((digest::hex(&digest::sum(&mut file)?), file.metadata()?.len()))
}

/// A result's `run.json` as it was read.
#[derive(Debug, Clone)]
pub struct Recorded {
    folder: PathBuf,
    /// All that it says.
    pub run: Value,
    own: Option<Value>,
}

impl Recorded {
    /// Reads the `run.json` in `folder`.
    ///
    /// # Errors
    /// [`ReportError::Read`] where there is none, or one that cannot be read; [`ReportError::RunJson`] where it is no
    /// JSON object.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join("run.json");
        let bytes = input::read(&path).map_err(|source| ReportError::Read { path: path.clone(), source })?;
        let run: Result<Map<String, Value>, _> = serde_json::from_slice(&bytes);
        let mut run = run.map_err(|error| ReportError::RunJson { path, reason: error.to_string() })?;
        let own = run.remove(OWN);
        Ok(Self { folder: folder.into(), run: Value::Object(run), own })
    }

    /// Whether it carries hashes; results of earlier versions do not.
    pub fn has_hashes(&self) -> bool {
        self.own.is_some() || self.run[FILES].is_object()
    }

    /// How many files it lists.
    pub fn num_files(&self) -> usize {
        self.run[FILES].as_object().map_or(0, Map::len)
    }

    /// What does not match, in words, of itself and of those files whose names `concerns` holds for.
    pub fn faults(&self, concerns: impl Fn(&str) -> bool) -> Vec<String> {
        let mut faults = Vec::new();
        if self.own != Some(json!(sha256_hex(self.run.to_string().as_bytes()))) {
            faults.push("run.json differs".to_owned());
        }
        let files = self.run[FILES].as_object().into_iter().flatten();
        faults.extend(files.filter(|(name, _)| concerns(name)).filter_map(|(name, said)| self.fault(name, said)));
        faults
    }

    fn fault(&self, name: &str, said: &Value) -> Option<String> {
        let path = path_text::from_text(name);
        // A name may come from a stranger: it leads to nothing outside the folder.
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Some(format!("{name} is not the name of a file in the folder"));
        }
        let path = self.folder.join(&path);
        let Ok(about) = std::fs::metadata(&path) else { return Some(format!("{name} is missing")) };
        if !about.is_file() || said["bytes"] != about.len() {
            return Some(format!("{name} differs"));
        }
        match hash(&path) {
            Ok((sha256, _)) if said["sha256"] == sha256 => None,
            Ok(_) => Some(format!("{name} differs")),
            Err(error) => Some(format!("{name} cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::write_run_json;
    use rand::{RngExt, SeedableRng};

    /// A folder with a result of two files.
    fn result() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("figures")).unwrap();
        let files = ["table.bin", "figures/a.svg"].map(|name| folder.path().join(name));
        files.iter().for_each(|path| std::fs::write(path, path.display().to_string().repeat(9)).unwrap());
        write_run_json(folder.path(), &json!({"seed": 0.1, "complete": true}), &files).unwrap();
        folder
    }

    fn faults(folder: &Path) -> Vec<String> {
        Recorded::read(folder).map_or_else(|error| vec![error.to_string()], |recorded| recorded.faults(|_| true))
    }

    #[test]
    fn a_bit_that_flipped_anywhere_is_a_fault() {
        let folder = result();
        assert!(faults(folder.path()).is_empty());
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        for name in ["table.bin", "figures/a.svg", "run.json"] {
            let path = folder.path().join(name);
            let sound = std::fs::read(&path).unwrap();
            for _ in 0..200 {
                let mut damaged = sound.clone();
                let bit = rng.random_range(0..8 * sound.len());
                damaged[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, damaged).unwrap();
                let faults = faults(folder.path());
                assert!(
                    !faults.is_empty() && faults.iter().any(|fault| fault.contains(name)),
                    "{name} {bit}: {faults:?}"
                );
            }
            std::fs::write(&path, [&sound[..], b" "].concat()).unwrap();
            // A blank at the end of JSON says nothing.
            assert_eq!(faults(folder.path()).is_empty(), name == "run.json");
            std::fs::write(&path, sound).unwrap();
        }
    }

    #[test]
    fn faults_are_named_and_may_be_limited() {
        let folder = result();
        std::fs::remove_file(folder.path().join("table.bin")).unwrap();
        std::fs::write(folder.path().join("figures/a.svg"), b"other").unwrap();
        assert_eq!(faults(folder.path()), ["figures/a.svg differs", "table.bin is missing"]);
        let recorded = Recorded::read(folder.path()).unwrap();
        assert_eq!(recorded.faults(|name| name.ends_with(".svg")), ["figures/a.svg differs"]);
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_not_followed() {
        let folder = result();
        let [inner, outer] = ["inner", "outer"].map(|name| folder.path().join(name));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&outer, b"x").unwrap();
        write_run_json(&inner, &json!({}), std::slice::from_ref(&outer)).unwrap();
        let text = std::fs::read_to_string(inner.join("run.json")).unwrap();
        for name in ["../outer", "/etc/hostname"] {
            std::fs::write(inner.join("run.json"), text.replace(&name_in(&inner, &outer), name)).unwrap();
            assert!(faults(&inner).contains(&format!("{name} is not the name of a file in the folder")), "{name}");
        }
    }

    #[test]
    fn a_result_of_an_earlier_version_has_no_hashes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("run.json"), "{\"complete\": true}").unwrap();
        assert!(!Recorded::read(folder.path()).unwrap().has_hashes());
        std::fs::write(folder.path().join("run.json"), "[1]").unwrap();
        assert!(faults(folder.path())[0].contains("run.json"));
    }
}
