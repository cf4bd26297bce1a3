//! Finds the networks that the arguments name: checkpoints, folders of `train` and `analyze`, results of `run` and `compare`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cells::cells;
use super::found::Found;
use super::recorded::{self, MEMBERS};
use crate::analysis::compare::Member;
use crate::cli::CliError;
use crate::report::{Recorded, read_run_json};
use crate::{Result, path_text};

/// The networks that `path` names.
pub(super) fn find(path: &Path) -> Result<Vec<Found>> {
    let unusable = |reason: &str| CliError::NotComparable { path: path.into(), reason: reason.into() };
    if !path.exists() {
        return Err(unusable("it does not exist").into());
    }
    if path.is_file() {
        let folder = path.parent().filter(|folder| folder.join("metrics.parquet").exists()).map(Path::to_owned);
        let name = if folder.is_some() { name(path.parent().unwrap_or(path)) } else { name(path) };
        return Ok(vec![Found { name, checkpoint: Some(path.into()), train: folder, ..Found::default() }]);
    }
    if path.join("cells.parquet").exists() {
        return cells(path);
    }
    if path.join(MEMBERS).exists() {
        return recorded::find(path);
    }
    if path.join("summary.parquet").exists() {
        return Ok(vec![Found { analysis: Some(path.into()), ..measured(path) }]);
    }
    if path.join("llc.parquet").exists() {
        return Ok(vec![Found { llc: Some(path.into()), ..measured(path) }]);
    }
    let checkpoint = path.join("checkpoint.safetensors");
    if checkpoint.exists() {
        return Ok(vec![Found {
            name: name(path),
            checkpoint: Some(checkpoint),
            train: Some(path.into()),
            ..Found::default()
        }]);
    }
    Err(unusable("it is neither a checkpoint nor a result of train, analyze, llc, run or compare").into())
}

fn name(path: &Path) -> String {
    path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

/// The network that the result in the folder `path` is about.
fn measured(path: &Path) -> Found {
    let checkpoint = read_run_json(path).and_then(|run| run["checkpoint"].as_str().map(path_text::from_text));
    let train =
        checkpoint.as_ref().and_then(|path| path.parent()).filter(|folder| folder.join("metrics.parquet").exists());
    Found {
        name: name(path),
        train: train.map(Path::to_owned),
        checkpoint: checkpoint.filter(|path| path.exists()),
        ..Found::default()
    }
}

/// Refuses members whose tables differ from what their `run.json` lists; returns how many folders list none, as in results
/// of earlier versions.
pub(super) fn check_hashes(found: &[Found]) -> Result<usize> {
    let folders = found.iter().flat_map(|found| {
        let Found { experiment, train, analysis, sharpness, llc, evaluation, comparison, .. } = found;
        [experiment, train, analysis, sharpness, llc, evaluation, comparison]
    });
    let folders: BTreeSet<&PathBuf> = folders.flatten().collect();
    let (mut differing, mut unknown) = (Vec::new(), 0);
    for folder in folders {
        match Recorded::read(folder).ok().filter(Recorded::has_hashes) {
            None => unknown += 1,
            Some(recorded) => {
                let faults = recorded.faults(|name| name.ends_with(".parquet"));
                let fault = || format!("{}: {}", folder.display(), faults.join(", "));
                differing.extend((!faults.is_empty()).then(fault));
            }
        }
    }
    if differing.is_empty() { Ok(unknown) } else { Err(CliError::Unverified { differing }.into()) }
}

/// Refuses a seed that occurs twice in a group, and curvature of different rows or losses among members of one seed (among
/// all members, if the groups have different seeds).
pub(super) fn check(members: &[Member], allow_mixed: bool) -> Result<Vec<String>> {
    for (index, member) in members.iter().enumerate() {
        if members[..index].iter().any(|other| other.group == member.group && other.seed == member.seed) {
            return Err(CliError::SeedTwice { group: member.group.clone(), seed: member.seed }.into());
        }
    }
    let known: Vec<&Member> = members.iter().filter(|member| member.conditions != Value::Null).collect();
    let mut notes = Vec::new();
    for (index, member) in known.iter().enumerate() {
        let comparable = |other: &&&Member| other.seed == member.seed || !shares_seeds(&known);
        let Some(other) = known[..index].iter().find(comparable) else { continue };
        let differs = member
            .conditions
            .as_object()
            .and_then(|own| own.iter().find(|(key, value)| other.conditions[*key] != **value));
        let Some((key, value)) = differs else { continue };
        if !allow_mixed {
            return Err(CliError::MixedConditions {
                key: key.clone(),
                members: Box::new([
                    (other.folder.clone(), other.conditions[key].to_string()),
                    (member.folder.clone(), value.to_string()),
                ]),
            }
            .into());
        }
        let note = format!("conditions differ in {key}, which may explain differences");
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    Ok(notes)
}

/// Whether all groups have the same seeds.
fn shares_seeds(members: &[&Member]) -> bool {
    let seeds = |group: &str| {
        let mut seeds: Vec<u64> =
            members.iter().filter(|member| member.group == group).map(|member| member.seed).collect();
        seeds.sort_unstable();
        seeds
    };
    members.iter().all(|member| seeds(&member.group) == seeds(&members[0].group))
}

/// Where the numbers come from, for `run.json`.
pub(super) fn provenance(found: &[Found]) -> Value {
    let path = |path: &Option<PathBuf>| json!(path.as_ref().map(path_text::to_text));
    let member = |found: &Found| {
        json!({"name": found.name, "checkpoint": path(&found.checkpoint), "train": path(&found.train),
               "analysis": path(&found.analysis), "sharpness": path(&found.sharpness),
               "llc": path(&found.llc), "evaluation": path(&found.evaluation),
               "comparison": path(&found.comparison)})
    };
    found.iter().map(member).collect()
}
