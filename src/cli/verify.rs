//! `flatness verify`: whether results are still what their `run.json` says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{CliError, Ui};
use crate::checkpoint::TensorFile;
use crate::data::{DataError, DataSpec};
use crate::path_text::to_text;
use crate::report::Recorded;
use crate::report::tables::{Column, read_table};
use crate::{Error, Result, path_text};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Folders of results; those inside are checked too, as the cells of `flatness run`
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
}

/// Folders inside folders are looked into so far: cells and analyses of a comparison lie two deep.
const DEPTH: usize = 6;

pub(super) fn run(args: &VerifyArgs, ui: &mut Ui) -> Result<u8> {
    let (mut differing, mut inputs) = (Vec::new(), Inputs::default());
    let mut answer = Vec::new();
    for folder in &args.folders {
        let mut results = Vec::new();
        find(folder, DEPTH, &mut results);
        let missing = unrecorded(folder)?;
        if results.is_empty() && missing.is_empty() {
            differing.push(format!("{} holds no run.json", folder.display()));
        }
        differing.extend(missing.iter().map(|folder| format!("{} has no run.json", folder.display())));
        for result in results {
            let found = look(&result, &mut inputs);
            found.notes.iter().for_each(|note| ui.say(&format!("note: {}: {note}", result.display())));
            answer.push(json!({
                "folder": to_text(&result),
                "verified": found.faults.is_empty(),
                "checked": found.checked,
                "faults": found.faults,
                "notes": found.notes,
            }));
            if found.faults.is_empty() {
                ui.print(&format!("{}: {}", result.display(), found.checked.join(", ")));
            } else {
                differing.push(format!("{}: {}", result.display(), found.faults.join(", ")));
            }
        }
    }
    ui.answer(&json!({"results": answer, "faults": differing}));
    if differing.is_empty() { Ok(0) } else { Err(CliError::Unverified { differing }.into()) }
}

/// `folder` and all inside that hold a `run.json`, in the order of their names.
fn find(folder: &Path, depth: usize, results: &mut Vec<PathBuf>) {
    if folder.join("run.json").exists() {
        results.push(folder.into());
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // What links lead to is another's, and may lead back here.
    let inner = entries.filter(|entry| depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut inner: Vec<PathBuf> = inner.map(|entry| entry.path()).collect();
    inner.sort();
    inner.iter().for_each(|folder| find(folder, depth - 1, results));
}

/// Of an experiment, the folders that a finished cell should have left a `run.json` in, its own first.
fn unrecorded(folder: &Path) -> Result<Vec<PathBuf>> {
    let path = folder.join("cells.parquet");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let table = read_table(&path)?;
    let Some(Column::Text(states)) = table.column("state") else { return Ok(vec![folder.into()]) };
    let steps = table.columns.iter().filter(|(name, _)| name.ends_with("_folder"));
    let finished = steps.filter_map(|(_, column)| match column {
        Column::Text(names) => {
            Some(names.iter().zip(states).filter(|(name, state)| *state == "finished" && !name.is_empty()))
        }
        _ => None,
    });
    let steps = finished.flatten().map(|(name, _)| folder.join(name));
    let mut missing: Vec<PathBuf> = std::iter::once(folder.to_owned()).chain(steps).collect();
    missing.retain(|folder| !folder.join("run.json").exists());
    // Cells may share a step.
    missing.sort();
    missing.dedup();
    Ok(missing)
}

/// What a look at a result found.
#[derive(Default)]
struct Found {
    /// What is as `run.json` says.
    checked: Vec<String>,
    faults: Vec<String>,
    notes: Vec<String>,
}

fn look(folder: &Path, inputs: &mut Inputs) -> Found {
    let mut found = Found::default();
    let recorded = match Recorded::read(folder) {
        Ok(recorded) if recorded.has_hashes() => recorded,
        Ok(_) => {
            found.faults.push("written before results carried hashes of their files".into());
            return found;
        }
        Err(error) => {
            found.faults.push(error.to_string());
            return found;
        }
    };
    found.faults = recorded.faults(|_| true);
    if recorded.run["complete"] == false {
        found.notes.push("the result is not complete".into());
    }
    found.checked.push(format!("{} files", recorded.num_files()));
    inputs.look(&recorded.run, &mut found);
    found
}

/// Checkpoints and data that several results may come from: each is read once.
#[derive(Default)]
struct Inputs {
    checkpoints: HashMap<PathBuf, Result<String, String>>,
    /// By specification; `None` where they are not there.
    data: HashMap<String, Option<Result<String, String>>>,
}

impl Inputs {
    fn look(&mut self, run: &Value, found: &mut Found) {
        let directory = &path_text::from_text(run["directory"].as_str().unwrap_or("."));
        for (path, expected) in checkpoints(run) {
            let places = [path.clone(), directory.join(&path)];
            let Some(place) = places.into_iter().find(|place| place.is_file()) else {
                found.notes.push(format!("not checked: the checkpoint {} is not there", path.display()));
                continue;
            };
            let hash = self.checkpoints.entry(place.clone());
            let hash =
                hash.or_insert_with(|| TensorFile::read(&place).map(|file| file.sha256).map_err(|e| e.to_string()));
            found.compare(&format!("the checkpoint {}", path.display()), hash, expected);
        }
        let configuration = if run["configuration"]["data"].is_null() { run } else { &run["configuration"] };
        let Some(expected) = configuration["data_sha256"].as_str() else { return };
        let key = format!("{} {}", directory.display(), configuration["data"]);
        let hash = self.data.entry(key).or_insert_with(|| data_hash(&configuration["data"], directory));
        match hash {
            Some(hash) => found.compare("the data", hash, expected),
            None => found.notes.push("not checked: the data are not there".into()),
        }
    }
}

impl Found {
    fn compare(&mut self, what: &str, hash: &Result<String, String>, expected: &str) {
        match hash {
            Ok(hash) if hash == expected => self.checked.push(what.to_owned()),
            Ok(_) => self.faults.push(format!("{what} differs from what went in")),
            Err(error) => self.faults.push(format!("{what}: {error}")),
        }
    }
}

/// Paths of the checkpoints that went in, and their hashes.
fn checkpoints(run: &Value) -> Vec<(PathBuf, &str)> {
    let configuration = &run["configuration"];
    let others = configuration["landscape"]["sources"]["other_checkpoints_sha256"].as_array();
    let hashes = std::iter::once(&configuration["checkpoint_sha256"]).chain(others.into_iter().flatten());
    let paths = std::iter::once(&run["checkpoint"]).chain(run["checkpoints"].as_array().into_iter().flatten());
    let known = paths.filter_map(Value::as_str).zip(hashes.filter_map(Value::as_str));
    known.map(|(path, hash)| (path_text::from_text(path), hash)).collect()
}

/// The hash of the rows that `spec` describes; `None` where they are not there.
fn data_hash(spec: &Value, directory: &Path) -> Option<Result<String, String>> {
    let spec: DataSpec = match serde_json::from_value(spec.clone()) {
        Ok(spec) => spec,
        Err(error) => return Some(Err(error.to_string())),
    };
    match spec.or_seen_from(directory).load() {
        Ok(data) => Some(Ok(data.sha256)),
        Err(Error::Data(DataError::Missing { .. } | DataError::NoFiles { .. })) => None,
        Err(error) => Some(Err(error.to_string())),
    }
}
