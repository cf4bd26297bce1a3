//! Settings of the trainings in which groups differ, other than the one that defines them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Settings of how a training is monitored, or of which repetition it is.
const IRRELEVANT: [&str; 5] = ["seed", "evaluate_every", "track_every", "track_rows", "noise_seed"];

/// A line for each group whose training settings differ from the baseline's: `sam against sgd, trainings also differ in
/// epochs (3 against 10)`. `members` are groups with the settings of their trainings; `by` is the setting that defines the
/// groups. A setting that only one of the two groups has belongs to its method and is not reported.
pub(super) fn confounders(members: &[(&str, &Value)], baseline: &str, by: &str) -> Vec<String> {
    let mut groups: Vec<(&str, BTreeMap<String, BTreeSet<String>>)> = Vec::new();
    for (group, training) in members {
        let place = groups.iter().position(|(name, _)| name == group).unwrap_or_else(|| {
            groups.push((group, BTreeMap::new()));
            groups.len() - 1
        });
        collect("", training, &mut groups[place].1);
    }
    let Some(base) = groups.iter().position(|(name, _)| *name == baseline) else { return Vec::new() };
    let (_, base) = groups.remove(base);
    let line = |(group, settings): &(&str, BTreeMap<String, BTreeSet<String>>)| {
        let differs = |(key, values): (&String, &BTreeSet<String>)| {
            let other = base.get(key).filter(|other| *other != values && !is_of_group(key, by))?;
            Some(format!("{} ({} against {})", key.replace('_', " "), list(values), list(other)))
        };
        let all: Vec<String> = settings.iter().filter_map(differs).collect();
        (!all.is_empty()).then(|| format!("{group} against {baseline}, trainings also differ in {}", all.join(", ")))
    };
    groups.iter().filter_map(line).collect()
}

fn is_of_group(key: &str, by: &str) -> bool {
    key == by || key.rsplit('.').next() == Some(by)
}

/// Every number and word of `settings` under its path.
fn collect(path: &str, settings: &Value, into: &mut BTreeMap<String, BTreeSet<String>>) {
    match settings {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(key, _)| !IRRELEVANT.contains(&key.as_str())) {
                collect(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, into);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(into.entry(path.to_owned()).or_default().insert(text.clone())),
        other => drop(into.entry(path.to_owned()).or_default().insert(other.to_string())),
    }
}

fn list(values: &BTreeSet<String>) -> String {
    values.iter().cloned().collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_is_named_and_what_makes_the_groups_is_not() {
        let training = |kind: &str, momentum: f64, epochs: usize, seed: usize| json!({"epochs": epochs, "seed": seed, "optimizer": {"kind": kind, "momentum": momentum}, "augment": null});
        let mut sam = training("sam", 0.9, 10, 0);
        sam["optimizer"]["rho"] = json!(0.05);
        let (first, second, none) = (training("sgd", 0.0, 20, 0), training("sgd", 0.0, 20, 1), json!(null));
        let members = [("sgd", &first), ("sgd", &second), ("sam", &sam), ("bare", &none)];
        let words =
            "sam against sgd, trainings also differ in epochs (10 against 20), optimizer.momentum (0.9 against 0.0)";
        assert_eq!(confounders(&members, "sgd", "optimizer.kind"), [words]);
        // The groups are those of the momentum.
        let words =
            "sam against sgd, trainings also differ in epochs (10 against 20), optimizer.kind (sam against sgd)";
        assert_eq!(confounders(&members, "sgd", "momentum"), [words]);
        assert!(confounders(&members[..2], "sgd", "optimizer.kind").is_empty());
    }
}
