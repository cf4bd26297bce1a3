//! A network with its files, and the member of a comparison that they make.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::numbers;
use crate::Result;
use crate::analysis::compare::Member;
use crate::checkpoint::{TRAIN_KEY, TensorFile};
use crate::cli::CliError;
use crate::report::read_run_json;
use crate::report::tables::{Table, read_table};

/// A network with its files; missing ones are found or made later.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Its name: that of its folder or file.
    pub(super) name: String,
    /// The folder of the experiment that it is a cell of.
    pub(super) experiment: Option<PathBuf>,
    /// Its group, if it is a cell of an experiment: the variant and the axes.
    pub(super) group: Option<String>,
    pub(super) seed: Option<u64>,
    pub(super) checkpoint: Option<PathBuf>,
    pub(super) train: Option<PathBuf>,
    pub(super) analysis: Option<PathBuf>,
    pub(super) sharpness: Option<PathBuf>,
    pub(super) llc: Option<PathBuf>,
    pub(super) evaluation: Option<PathBuf>,
    /// The folder of the earlier comparison that it comes from, and what is recorded there.
    pub(super) comparison: Option<PathBuf>,
    pub(super) recorded: Option<Box<Member>>,
}

impl Found {
    /// Reads the tables. `by` is a setting of the training that makes the groups; `None` for the optimiser's name.
    pub(super) fn member(&self, by: Option<&str>) -> Result<Member> {
        let no_group = |key: &str| CliError::NoGroup { member: self.name.clone(), key: key.into() };
        if let Some(member) = &self.recorded {
            let group = match by {
                None => member.group.clone(),
                Some("folder") => self.name.clone(),
                Some(key) => value_of(&member.training, key).ok_or_else(|| no_group(key))?,
            };
            return Ok(Member { group, ..(**member).clone() });
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
            training,
            ..Member::default()
        };
        member.numbers.extend(self.train.iter().flat_map(|folder| numbers::trained(folder)));
        if let Some(folder) = &self.analysis {
            let (summary, eigenvalues) = (table(folder, "summary")?, table(folder, "eigenvalues")?);
            conditions(&summary.configuration, &mut member);
            member.numbers.extend(numbers::analyzed(&summary, &eigenvalues));
        }
        if let Some(folder) = &self.sharpness {
            let table = table(folder, "sharpness")?;
            same_checkpoint(&member, &table, folder, "sharpness")?;
            member.numbers.extend(numbers::headlines(&table));
        }
        if let Some(folder) = &self.llc {
            let table = table(folder, "llc")?;
            same_checkpoint(&member, &table, folder, "learning coefficient")?;
            // It belongs to this temperature and this localisation.
            if let (Some(conditions), Some(row)) =
                (member.conditions.as_object_mut(), numbers::headline_rows(&table).next())
            {
                let settings = json!({"n_beta": table.number("n_beta", row), "gamma": table.number("gamma", row)});
                conditions.insert("llc".into(), settings);
            }
            member.numbers.extend(numbers::headlines(&table));
        }
        if let Some(folder) = &self.evaluation {
            member.numbers.extend(numbers::evaluated(&table(folder, "evaluation")?));
        }
        Ok(member)
    }

    /// The settings of the training, from `run.json` or the checkpoint's metadata; null if there are none.
    fn training(&self) -> Result<Value> {
        if let Some(run) = self.train.as_deref().and_then(read_run_json).filter(|run| run["train"].is_object()) {
            return Ok(run["train"].clone());
        }
        let Some(checkpoint) = &self.checkpoint else { return Ok(Value::Null) };
        let metadata = TensorFile::read(checkpoint)?.metadata;
        Ok(metadata.get(TRAIN_KEY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null))
    }
}

/// The setting under a key such as `optimizer.kind`; a key without a dot may also be a setting of the optimiser.
fn value_of(training: &Value, key: &str) -> Option<String> {
    let found = key.split('.').try_fold(training, |value, part| value.get(part)).or(training["optimizer"].get(key))?;
    Some(match found {
        Value::String(text) => text.clone(),
        Value::Null => return None,
        other => format!("{key}={other}"),
    })
}

/// What the numbers of an analysis were computed for.
fn conditions(configuration: &Value, member: &mut Member) {
    let of = |key: &str| configuration[key].clone();
    member.checkpoint_sha256 = of("checkpoint_sha256").as_str().unwrap_or_default().to_owned();
    let name = of("architecture").as_str().unwrap_or_default().to_owned();
    member.architecture = (name, of("num_params").as_u64().unwrap_or(0));
    let keys = ["data_sha256", "rows", "loss", "reduction", "weight_decay", "batch_norm", "dtype"];
    let conditions = keys.into_iter().map(|key| (key.to_owned(), of(key)));
    member.conditions =
        Value::Object(conditions.chain([("scope".to_owned(), configuration["analysis"]["scope"].clone())]).collect());
}

/// The table `name` of a result.
pub(super) fn table(folder: &Path, name: &str) -> Result<Table> {
    Ok(read_table(&folder.join(format!("{name}.parquet")))?)
}

fn same_checkpoint(member: &Member, table: &Table, folder: &Path, what: &str) -> Result<()> {
    let own = table.configuration["checkpoint_sha256"].as_str().unwrap_or_default();
    if member.checkpoint_sha256.is_empty() || own == member.checkpoint_sha256 {
        return Ok(());
    }
    let reason = format!("its {what} and its curvature were measured on different checkpoints");
    Err(CliError::NotComparable { path: folder.into(), reason }.into())
}
