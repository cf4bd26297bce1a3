//! From arguments to members: checkpoints, folders of `train` and `analyze`, results of `flatness run` and of `compare`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cells::cells;
use super::recorded::{self, MEMBERS};
use crate::analysis::compare::{Member, MemberNumber};
use crate::checkpoint::{TRAIN_KEY, TensorFile};
use crate::cli::CliError;
use crate::report::tables::{Column, Table, read_table};
use crate::report::{Recorded, read_run_json};
use crate::{Result, path_text};

/// A network by its files; what is missing is found or made later.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Where the name comes from.
    pub(super) name: String,
    /// The folder of the experiment that it is a cell of.
    pub(super) experiment: Option<PathBuf>,
    /// Set where the argument says it: the variant of an experiment.
    pub(super) group: Option<String>,
    pub(super) seed: Option<u64>,
    pub(super) checkpoint: Option<PathBuf>,
    pub(super) train: Option<PathBuf>,
    pub(super) analysis: Option<PathBuf>,
    pub(super) sharpness: Option<PathBuf>,
    /// The folder of the comparison that it was taken from, and all that it says.
    pub(super) comparison: Option<PathBuf>,
    pub(super) recorded: Option<Box<Member>>,
}

/// What `path` names.
pub(super) fn find(path: &Path) -> Result<Vec<Found>> {
    let unusable = |reason: &str| CliError::NotComparable { path: path.into(), reason: reason.into() };
    if !path.exists() {
        return Err(unusable("it is not there").into());
    }
    let name = |path: &Path| path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
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
        let checkpoint = read_run_json(path).and_then(|run| run["checkpoint"].as_str().map(path_text::from_text));
        let train =
            checkpoint.as_ref().and_then(|path| path.parent()).filter(|folder| folder.join("metrics.parquet").exists());
        let found = Found {
            name: name(path),
            train: train.map(Path::to_owned),
            checkpoint: checkpoint.filter(|path| path.exists()),
            analysis: Some(path.into()),
            ..Found::default()
        };
        return Ok(vec![found]);
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
    Err(unusable("it is neither a checkpoint nor a result of train, analyze, run or compare").into())
}

/// Refuses members whose tables are not those that their `run.json` lists; returns how many folders list none, as results
/// of earlier versions do.
pub(super) fn check_hashes(found: &[Found]) -> Result<usize> {
    let folders = found
        .iter()
        .flat_map(|found| [&found.experiment, &found.train, &found.analysis, &found.sharpness, &found.comparison]);
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

impl Found {
    /// Reads the tables. `by` names a key of the training, or is `None` for the optimiser's name.
    pub(super) fn member(&self, by: Option<&str>) -> Result<Member> {
        let no_group = |key: &str| CliError::NoGroup { member: self.name.clone(), key: key.into() };
        if let Some(member) = &self.recorded {
            return match by {
                None => Ok((**member).clone()),
                Some("folder") => Ok(Member { group: self.name.clone(), ..(**member).clone() }),
                Some(key) => Err(no_group(key).into()),
            };
        }
        let training = self.training()?;
        let group = match (by, &self.group) {
            (Some("folder"), _) => Some(self.name.clone()),
            (Some(key), _) => value_of(&training, key),
            (None, Some(group)) => Some(group.clone()),
            (None, None) => value_of(&training, "optimizer.kind"),
        };
        let group = group.ok_or_else(|| no_group(by.unwrap_or("optimizer.kind")))?;
        let mut member = Member {
            group,
            seed: self.seed.or_else(|| training["seed"].as_u64()).unwrap_or(0),
            folder: self.name.clone(),
            ..Member::default()
        };
        member.numbers.extend(self.train.iter().flat_map(|folder| trained(folder)));
        if let Some(folder) = &self.analysis {
            analyzed(folder, &mut member)?;
        }
        if let Some(folder) = &self.sharpness {
            let table = table(folder, "sharpness")?;
            same_checkpoint(&member, &table, folder)?;
            member.numbers.extend(sharpness(&table));
        }
        Ok(member)
    }

    /// The training facts, of the run or of the checkpoint's metadata; null where there are none.
    pub(super) fn training(&self) -> Result<Value> {
        if let Some(run) = self.train.as_deref().and_then(read_run_json).filter(|run| run["train"].is_object()) {
            return Ok(run["train"].clone());
        }
        let Some(checkpoint) = &self.checkpoint else { return Ok(Value::Null) };
        let metadata = TensorFile::read(checkpoint)?.metadata;
        Ok(metadata.get(TRAIN_KEY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null))
    }
}

/// `optimizer.kind` and the like; a key without a dot is looked for among the optimiser's settings too.
fn value_of(training: &Value, key: &str) -> Option<String> {
    let found = key.split('.').try_fold(training, |value, part| value.get(part)).or(training["optimizer"].get(key))?;
    Some(match found {
        Value::String(text) => text.clone(),
        Value::Null => return None,
        other => format!("{key}={other}"),
    })
}

pub(super) fn table(folder: &Path, name: &str) -> Result<Table> {
    Ok(read_table(&folder.join(format!("{name}.parquet")))?)
}

fn plain(quantity: &str, value: f64) -> MemberNumber {
    MemberNumber {
        quantity: quantity.into(),
        value,
        std_err_numeric: f64::NAN,
        std_err_data: f64::NAN,
        converged: true,
    }
}

/// The last row of the metrics.
fn trained(folder: &Path) -> Vec<MemberNumber> {
    let Ok(table) = table(folder, "metrics") else { return Vec::new() };
    let last = |name: &str| match table.column(name) {
        Some(Column::Number(values)) => values.last().copied().filter(|value| value.is_finite()),
        _ => None,
    };
    // Loss and NLL are the same for cross-entropy without smoothing.
    let nll = last("test_nll").or(last("test_loss"));
    let numbers = [
        ("test_accuracy", last("test_accuracy")),
        ("test_nll", nll),
        ("train_loss", last("train_loss")),
        ("train_wrong_fitted", last("train_wrong_fitted")),
    ];
    numbers.into_iter().filter_map(|(name, value)| Some(plain(name, value?))).collect()
}

/// Rows of a long table as tuples of operator, scope, quantity, value and errors.
pub(super) struct Rows<'a>(pub(super) &'a Table);

impl Rows<'_> {
    pub(super) fn text(&self, name: &str, index: usize) -> &str {
        match self.0.column(name) {
            Some(Column::Text(values)) => values.get(index).map_or("", String::as_str),
            _ => "",
        }
    }

    fn number(&self, name: &str, index: usize) -> f64 {
        match self.0.column(name) {
            Some(Column::Number(values)) => values.get(index).copied().unwrap_or(f64::NAN),
            _ => f64::NAN,
        }
    }

    fn flag(&self, name: &str, index: usize) -> bool {
        matches!(self.0.column(name), Some(Column::Flag(values)) if values.get(index) == Some(&true))
    }

    fn len(&self) -> usize {
        self.0.columns.first().map_or(0, |(_, column)| column.len())
    }

    pub(super) fn member(&self, quantity: &str, index: usize) -> MemberNumber {
        MemberNumber {
            quantity: quantity.into(),
            value: self.number("value", index),
            std_err_numeric: self.number("std_err_numeric", index),
            std_err_data: self.number("std_err_data", index),
            converged: self.flag("converged", index),
        }
    }
}

/// What an analysis says of the Hessian on its whole scope, and what its numbers were taken of.
fn analyzed(folder: &Path, member: &mut Member) -> Result<()> {
    let summary = table(folder, "summary")?;
    let configuration = &summary.configuration;
    let of = |key: &str| configuration[key].clone();
    member.checkpoint_sha256 = of("checkpoint_sha256").as_str().unwrap_or_default().to_owned();
    let name = of("architecture").as_str().unwrap_or_default().to_owned();
    member.architecture = (name, of("num_params").as_u64().unwrap_or(0));
    let keys = ["data_sha256", "rows", "loss", "reduction", "weight_decay", "batch_norm", "dtype"];
    let conditions = keys.into_iter().map(|key| (key.to_owned(), of(key)));
    member.conditions =
        Value::Object(conditions.chain([("scope".to_owned(), configuration["analysis"]["scope"].clone())]).collect());
    let rows = Rows(&summary);
    let scope = configuration["analysis"]["scope"].as_str().unwrap_or("all");
    let find = |operator: &str, quantity: &str| {
        (0..rows.len()).find(|index| {
            let whole = rows.text("scope", *index) == scope || operator.is_empty();
            whole && rows.text("operator", *index) == operator && rows.text("quantity", *index) == quantity
        })
    };
    member.numbers.extend(find("", "parameter_norm").map(|index| rows.member("parameter_norm", index)));
    for quantity in ["lambda_max", "lambda_min", "trace", "negative_mass", "effective_dimension"] {
        member.numbers.extend(find("hessian", quantity).map(|index| rows.member(quantity, index)));
    }
    // The traces of Hessian and GGN agree exactly on ReLU networks; their Frobenius norms tell what the residual adds.
    if let (Some(ggn), Some(hessian)) = (find("ggn", "frobenius_norm"), find("hessian", "frobenius_norm")) {
        let (ggn, hessian) = (rows.member("", ggn), rows.member("", hessian));
        let value = ggn.value / hessian.value;
        let std_err_numeric = value * (ggn.std_err_numeric / ggn.value).hypot(hessian.std_err_numeric / hessian.value);
        let converged = ggn.converged && hessian.converged;
        member.numbers.push(MemberNumber { value, std_err_numeric, converged, ..plain("ggn_share", value) });
    }
    member.numbers.extend(eigenvalue_ratio(&table(folder, "eigenvalues")?, scope));
    Ok(())
}

/// `λ₁/λ₅` of the Hessian.
fn eigenvalue_ratio(eigenvalues: &Table, scope: &str) -> Option<MemberNumber> {
    let rows = Rows(eigenvalues);
    let Some(Column::Count(places)) = eigenvalues.column("index") else { return None };
    let at = |place: usize| {
        (0..rows.len()).find(|index| {
            let text = |name| rows.text(name, *index);
            text("operator") == "hessian" && text("scope") == scope && text("end") == "top" && places[*index] == place
        })
    };
    let (first, fifth) = (at(0)?, at(4)?);
    let value = |index| rows.number("eigenvalue", index);
    let relative = |index| rows.number("residual_norm", index) / value(index);
    let ratio = value(first) / value(fifth);
    let converged = rows.flag("converged", first) && rows.flag("converged", fifth);
    Some(MemberNumber {
        std_err_numeric: ratio * relative(first).hypot(relative(fifth)),
        converged,
        ..plain("lambda_ratio", ratio)
    })
}

fn sharpness(table: &Table) -> Vec<MemberNumber> {
    let rows = Rows(table);
    let headlines = (0..rows.len()).filter(|index| rows.flag("headline", *index));
    headlines.map(|index| rows.member(rows.text("quantity", index), index)).collect()
}

fn same_checkpoint(member: &Member, table: &Table, folder: &Path) -> Result<()> {
    let own = table.configuration["checkpoint_sha256"].as_str().unwrap_or_default();
    if member.checkpoint_sha256.is_empty() || own == member.checkpoint_sha256 {
        return Ok(());
    }
    let reason = "its sharpness was measured on another checkpoint than its curvature".into();
    Err(CliError::NotComparable { path: folder.into(), reason }.into())
}

/// Refuses a seed twice in a group, and curvature of other rows or another loss among members of a seed (or among all,
/// where groups have other seeds).
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
        let note = format!("conditions differ in {key}: differences may come from that");
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

/// What the file of members says of where numbers come from.
pub(super) fn provenance(found: &[Found]) -> Value {
    let path = |path: &Option<PathBuf>| json!(path.as_ref().map(path_text::to_text));
    let member = |found: &Found| {
        json!({"name": found.name, "checkpoint": path(&found.checkpoint), "train": path(&found.train),
               "analysis": path(&found.analysis), "sharpness": path(&found.sharpness),
               "comparison": path(&found.comparison)})
    };
    found.iter().map(member).collect()
}
