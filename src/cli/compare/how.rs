//! Options of a comparison: groups, baseline and tests.

use clap::{Args, Parser};
use serde_json::{Value, json};

use super::found::Found;
use super::recorded;
use crate::Result;
use crate::analysis::compare::{CompareOptions, Member};
use crate::experiment::Plan;
use crate::plan::{PlanError, command_line};
use crate::vocabulary::Quantity;

/// Groups and tests.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct HowArgs {
    /// What defines a group: a setting of the training, such as learning_rate or rho, or folder [default: the variant of an
    /// experiment, else the optimiser]
    #[arg(long, value_name = "KEY")]
    pub(super) by: Option<String>,
    /// Group that the others are compared with [default: the first]
    #[arg(long, value_name = "GROUP")]
    pub(super) baseline: Option<String>,
    /// Compare every pair of groups
    #[arg(long)]
    all_pairs: bool,
    /// Primary quantities, whose tests have a correction of their own; all others are exploratory [default:
    /// lambda_max,trace,test_accuracy]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) primary: Option<Vec<Quantity>>,
    /// Groups whose tests in the primary quantities are primary [default: all]
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    primary_groups: Option<Vec<String>>,
    /// Correct for multiple tests within each quantity, not over all primary and over all exploratory quantities
    #[arg(long)]
    by_quantity: bool,
    /// Compare even if rows, losses or precisions differ
    #[arg(long)]
    pub(super) allow_mixed: bool,
    /// Seed of bootstrap samples and random permutations [default: 0]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

/// `HowArgs` from options of an experiment file.
#[derive(Debug, Parser)]
struct HowParser {
    #[command(flatten)]
    how: HowArgs,
}

/// Names of groups in an error, at most.
const MOST_NAMED: usize = 12;

impl HowArgs {
    /// From arguments such as `--baseline=sam`.
    ///
    /// # Errors
    /// What the parser says.
    pub(in crate::cli) fn from_options(options: &[String]) -> Result<Self, String> {
        let line = std::iter::once("compare").chain(options.iter().map(String::as_str));
        command_line::<HowParser>(line).map(|parser| parser.how).map_err(|error| {
            error.render().to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })
    }

    /// The names of groups in it, with their options.
    fn named_groups(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let groups = self.primary_groups.iter().flatten().map(|name| ("--primary-groups", name.as_str()));
        self.baseline.iter().map(|name| ("--baseline", name.as_str())).chain(groups)
    }

    /// Refuses names of groups that are not among `groups`.
    pub(super) fn check_groups(&self, groups: &[&str]) -> Result<(), PlanError> {
        let Some((option, name)) = self.named_groups().find(|(_, name)| !groups.contains(name)) else { return Ok(()) };
        let (shown, more) = groups.split_at(groups.len().min(MOST_NAMED));
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        Err(PlanError::option(option, name, format!("unknown group; the groups are {}{more}", shown.join(", "))))
    }

    /// Refuses, before it runs, what cannot be found in the results of `plan`. Whether its groups can be compared: not where a
    /// variant is named that is a grid of several.
    pub(in crate::cli) fn check(&self, plan: &Plan) -> Result<bool, PlanError> {
        let unknown = self.primary.iter().flatten().find(|quantity| matches!(quantity, Quantity::Other(_)));
        if let Some(name) = unknown {
            return Err(PlanError::option("--primary", name.to_string(), "no step measures such a quantity"));
        }
        if self.by.is_some() {
            return Ok(true);
        }
        let mut groups: Vec<String> = plan.cells.iter().map(|planned| planned.cell.group()).collect();
        groups.dedup();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        if groups.len() < 2 {
            // There is nothing to compare.
            return Ok(true);
        }
        let is_grid = |name: &str| plan.cells.iter().any(|planned| planned.cell.variant == name);
        match self.check_groups(&groups) {
            Err(_) if self.named_groups().all(|(_, name)| groups.contains(&name) || is_grid(name)) => Ok(false),
            checked => checked.map(|()| true),
        }
    }

    pub(super) fn options(&self) -> CompareOptions {
        CompareOptions {
            baseline: self.baseline.clone(),
            all_pairs: self.all_pairs,
            primary: self.primary(),
            primary_groups: self.primary_groups.clone(),
            by_quantity: self.by_quantity,
            seed: self.seed.unwrap_or_default(),
        }
    }

    /// These settings, completed by those of the earlier comparison that all of `found` come from, if there is one.
    pub(super) fn over(&self, found: &[Found]) -> Result<Self> {
        let folder_of =
            |found: &Found| found.comparison.clone().or_else(|| recorded::beside(found.experiment.as_deref()?));
        let folder = found.first().and_then(folder_of);
        let alike = found.iter().all(|found| folder_of(found) == folder);
        let Some(folder) = folder.filter(|_| alike && self.by.is_none()) else { return Ok(self.clone()) };
        let recorded = recorded::settings(&folder)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        // The default may name quantities that are missing here.
        let primary: Option<Vec<Quantity>> = serde_json::from_value(recorded["primary"].clone()).ok();
        let primary = primary.filter(|quantities| *quantities != Quantity::PRIMARY);
        let primary_groups = serde_json::from_value(recorded["primary_groups"].clone()).unwrap_or_default();
        Ok(Self {
            by: None,
            baseline: self.baseline.clone().or_else(|| text(&recorded["baseline"])),
            all_pairs: self.all_pairs || recorded["all_pairs"] == true,
            primary: self.primary.clone().or(primary),
            primary_groups: self.primary_groups.clone().or(primary_groups),
            by_quantity: self.by_quantity || recorded["family"] == "quantity",
            allow_mixed: self.allow_mixed,
            seed: self.seed.or_else(|| recorded["seed"].as_u64()),
        })
    }

    pub(super) fn primary(&self) -> Vec<Quantity> {
        self.primary.clone().unwrap_or_else(|| Quantity::PRIMARY.to_vec())
    }

    /// Everything besides the members that determines the numbers.
    pub(super) fn configuration(&self, members: &[Member]) -> Value {
        let conditions: Vec<&Value> = members.iter().map(|member| &member.conditions).collect();
        let alike = conditions.iter().all(|own| *own == conditions[0]);
        json!({
            "by": self.by, "baseline": self.baseline, "all_pairs": self.all_pairs,
            "primary": self.primary(), "primary_groups": self.primary_groups, "family": if self.by_quantity { "quantity" } else { "role" }, "seed": self.seed.unwrap_or_default(),
            "conditions": if alike { json!(conditions.first()) } else { json!(conditions) },
            "checkpoints": members.iter().map(|member| &member.checkpoint_sha256).collect::<Vec<_>>(),
            "trainings": members.iter().map(|member| &member.training).collect::<Vec<_>>(),
            "architectures": members.iter().map(|member| &member.architecture).collect::<Vec<_>>(),
        })
    }
}
