//! The networks of an earlier comparison, from its tables alone.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::found::{Found, table};
use super::numbers::in_row;
use crate::Result;
use crate::analysis::compare::Member;
use crate::cli::CliError;
use crate::report::tables::{Column, Table, column};

/// The table of a comparison that records its networks.
pub(super) const MEMBERS: &str = "members.parquet";

/// The networks of the comparison in `folder`, in their order.
pub(super) fn find(folder: &Path) -> Result<Vec<Found>> {
    let table = table(folder, "members")?;
    let unusable = |reason| CliError::NotComparable { path: folder.into(), reason };
    let Some(Column::Count(seeds)) = table.column(column::SEED) else {
        return Err(unusable(format!("{MEMBERS} has no column `{}`", column::SEED)).into());
    };
    for name in [column::GROUP, column::MEMBER, column::CHECKPOINT_SHA256, column::QUANTITY] {
        if !matches!(table.column(name), Some(Column::Text(_))) {
            return Err(unusable(format!("{MEMBERS} has no column `{name}`")).into());
        }
    }
    let mut members: Vec<Member> = Vec::new();
    for (index, seed) in seeds.iter().enumerate() {
        let columns = [column::GROUP, column::MEMBER, column::CHECKPOINT_SHA256];
        let [group, name, sha256] = columns.map(|column| table.text(column, index));
        let is = |member: &Member| member.group == group && member.folder == name && member.seed == *seed as u64;
        if !members.last().is_some_and(is) {
            members.push(Member {
                group: group.into(),
                seed: *seed as u64,
                folder: name.into(),
                checkpoint_sha256: sha256.into(),
                ..Member::default()
            });
        }
        let number = in_row(&table, index, table.text(column::QUANTITY, index).into());
        members.last_mut().into_iter().for_each(|member| member.numbers.push(number.clone()));
    }
    if members.is_empty() {
        return Err(unusable(format!("{MEMBERS} has no rows")).into());
    }
    for (place, member) in members.iter_mut().enumerate() {
        facts(&table.configuration, place, member);
    }
    let found = |member: Member| Found {
        name: member.folder.clone(),
        comparison: Some(folder.into()),
        recorded: Some(Box::new(member)),
        ..Found::default()
    };
    Ok(members.into_iter().map(found).collect())
}

/// Architecture, training and conditions; tables of earlier versions hold one set of conditions for all.
fn facts(configuration: &Value, place: usize, member: &mut Member) {
    let own = |key: &str| match &configuration[key] {
        Value::Array(values) => values.get(place).cloned().unwrap_or_default(),
        all => all.clone(),
    };
    member.conditions = own("conditions");
    member.training = own("trainings");
    let architecture = own("architectures");
    let name = architecture[0].as_str().unwrap_or_default().to_owned();
    member.architecture = (name, architecture[1].as_u64().unwrap_or(0));
}

/// The folder of an experiment, where its comparison is in it.
pub(super) fn beside(experiment: &Path) -> Option<PathBuf> {
    experiment.join(MEMBERS).exists().then(|| experiment.to_owned())
}

/// The settings of the comparison in `folder`.
pub(super) fn settings(folder: &Path) -> Result<Value> {
    let Table { configuration, .. } = table(folder, "members")?;
    Ok(configuration)
}
