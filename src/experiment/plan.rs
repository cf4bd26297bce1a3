//! The folders that a grid needs: one for each training, which also contains the analyses of its checkpoint.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Cell, Experiment, StepKind, identity};
use crate::Result;

/// A step of a cell, with its settings resolved by the command.
#[derive(Debug, Clone)]
pub struct ResolvedStep {
    /// Everything that determines its numbers, and nothing else.
    pub configuration: Value,
    /// Arguments of the command, without its result folder.
    pub arguments: Vec<OsString>,
    /// The argument that continues an interrupted one.
    pub go_on: &'static str,
}

/// One command of a run.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which command.
    pub kind: StepKind,
    /// Its result folder.
    pub folder: PathBuf,
    /// The whole command line without the program's name, to start from scratch.
    pub arguments: Vec<OsString>,
    /// The argument to add to continue an interrupted one.
    pub go_on: &'static str,
    /// What determines its numbers.
    pub configuration: Value,
}

impl Step {
    /// The name of its folder: `train`, or `analyze-` and a hash, and so on.
    pub fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// A training and the analyses of its checkpoint, or another command that begins a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The name of its folder: the label of its first cell, and the hash of the training.
    pub name: String,
    /// Where it is, or will be.
    pub folder: PathBuf,
    /// In the order in which they run.
    pub steps: Vec<Step>,
}

/// A cell with its place.
#[derive(Debug, Clone)]
pub struct PlannedCell {
    /// The point of the grid.
    pub cell: Cell,
    /// In [`Plan::runs`].
    pub run: usize,
    /// In [`Run::steps`].
    pub steps: Vec<usize>,
}

/// All cells of an experiment with the runs that they need; cells of equal configuration share runs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The folder of results.
    pub folder: PathBuf,
    /// In the order of the grid.
    pub cells: Vec<PlannedCell>,
    /// In the order of their first cells.
    pub runs: Vec<Run>,
}

impl Plan {
    /// The plan of `experiment` under `folder` (absolute). `resolve` gives a cell's steps, `train` first.
    ///
    /// A folder whose name ends in the hash of a training belongs to that training, whatever label comes before. So a new
    /// axis or a renamed variant does not repeat existing runs.
    ///
    /// # Errors
    /// What `resolve` refuses.
    pub fn new(
        experiment: &Experiment,
        folder: &Path,
        resolve: &mut dyn FnMut(&Cell) -> Result<Vec<ResolvedStep>>,
    ) -> Result<Self> {
        let present = names_in(folder);
        let mut plan = Self { folder: folder.into(), cells: Vec::new(), runs: Vec::new() };
        let mut places: HashMap<String, usize> = HashMap::new();
        for cell in experiment.cells() {
            let resolved = resolve(&cell)?;
            let hash = identity(&resolved.first().map_or(Value::Null, |step| step.configuration.clone()));
            let run = places.get(&hash).copied().unwrap_or_else(|| {
                let ending = format!("-{hash}");
                let name = present.iter().find(|name| name.ends_with(&ending)).cloned();
                let name = name.unwrap_or_else(|| {
                    file_name(&cell.label(&experiment.steps[..experiment.steps.len().min(1)])) + &ending
                });
                places.insert(hash, plan.runs.len());
                plan.runs.push(Run { folder: folder.join(&name), name, steps: Vec::new() });
                plan.runs.len() - 1
            });
            let steps = plan.runs.get_mut(run).map_or(Vec::new(), |run| run.add(experiment, resolved));
            plan.cells.push(PlannedCell { cell, run, steps });
        }
        Ok(plan)
    }

    /// The step of that kind of a cell.
    pub fn step(&self, cell: &PlannedCell, kind: StepKind) -> Option<&Step> {
        let run = self.runs.get(cell.run)?;
        cell.steps.iter().filter_map(|number| run.steps.get(*number)).find(|step| step.kind == kind)
    }

    /// The names of all axes, in the order of the cells.
    pub fn axis_names(&self) -> Vec<&str> {
        names(self.cells.iter().flat_map(|cell| cell.cell.axes.iter().map(|(name, _)| name.as_str())))
    }

    /// Indices of the runs in part `part` (from 1) of `parts`: every run is in exactly one part.
    pub fn part(&self, part: usize, parts: usize) -> Vec<usize> {
        (0..self.runs.len()).filter(|run| run % parts.max(1) + 1 == part).collect()
    }
}

impl Run {
    /// Adds the steps that are not there yet; returns the indices of all of them.
    fn add(&mut self, experiment: &Experiment, resolved: Vec<ResolvedStep>) -> Vec<usize> {
        let begin = resolved.first().map_or(Value::Null, |step| step.configuration.clone());
        let mut numbers = Vec::new();
        for (kind, resolved) in experiment.steps.iter().zip(resolved) {
            let folder = self.folder.join(match kind.needs_checkpoint() {
                false => kind.name().to_owned(),
                true => format!("{}-{}", kind.name(), identity(&json!([begin, resolved.configuration]))),
            });
            let number = self.steps.iter().position(|step| step.folder == folder);
            numbers.push(number.unwrap_or(self.steps.len()));
            if number.is_none() {
                // A training that samples is evaluated as the average of its samples.
                let samples = *kind == StepKind::Evaluate && !begin["train"]["samples_per_cycle"].is_null();
                let weights = if samples { "samples" } else { "checkpoint" };
                self.steps.push(self.step(*kind, folder, resolved, weights));
            }
        }
        numbers
    }

    /// A step, of the file of that name where it needs one of `train`.
    fn step(&self, kind: StepKind, folder: PathBuf, resolved: ResolvedStep, weights: &str) -> Step {
        let mut arguments: Vec<OsString> = vec![kind.name().into()];
        if kind.needs_checkpoint() {
            arguments.push(self.folder.join(format!("train/{weights}.safetensors")).into());
        }
        arguments.extend(resolved.arguments);
        arguments.extend(["--out".into(), folder.clone().into()]);
        Step { kind, folder, arguments, go_on: resolved.go_on, configuration: resolved.configuration }
    }
}

/// Each name once, in the order of appearance.
pub(super) fn names<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// At most 100 characters, none of which are special to shells and file systems.
fn file_name(label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "=._+-".contains(c) { c } else { '_' };
    label.chars().map(plain).take(100).collect()
}

/// Names of the folders in `folder`, sorted.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(folder: &Path, text: &str) -> Plan {
        let experiment = Experiment::parse(text, Path::new("plan.toml"), None).unwrap();
        // Stands in for the commands: every setting but `threads` decides.
        Plan::new(&experiment, folder, &mut |cell| {
            let resolved = experiment.steps.iter().map(|kind| {
                let mut settings = cell.settings[kind].clone();
                settings.remove("threads");
                ResolvedStep { configuration: json!(settings), arguments: vec!["--x".into()], go_on: "--resume" }
            });
            Ok(resolved.collect())
        })
        .unwrap()
    }

    const GRID: &str = r#"
        name = "plan"
        seeds = [0, 1]
        [grid]
        train.rate = [1, 2]
        analyze.rows = [10, 20, 30]
    "#;

    #[test]
    fn an_axis_of_the_analysis_trains_once() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), GRID);
        assert_eq!((plan.cells.len(), plan.runs.len()), (12, 4));
        assert!(plan.runs.iter().all(|run| run.steps.len() == 4));
        let labels: Vec<&str> = plan.runs.iter().map(|run| run.name.rsplit_once('-').unwrap().0).collect();
        assert_eq!(labels, ["rate=1-s0", "rate=1-s1", "rate=2-s0", "rate=2-s1"]);
        for cell in &plan.cells {
            let run = &plan.runs[cell.run];
            let [train, analysis] = cell.steps[..] else { panic!("{:?}", cell.steps) };
            assert_eq!((train, run.steps[0].name()), (0, "train".to_owned()));
            assert_eq!(run.steps[analysis].configuration["rows"].to_string(), cell.cell.axes[0].1);
            let line: Vec<_> =
                run.steps[analysis].arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
            let checkpoint = run.folder.join("train/checkpoint.safetensors");
            let out = run.steps[analysis].folder.to_str().unwrap();
            assert_eq!(line, ["analyze", checkpoint.to_str().unwrap(), "--x", "--out", out]);
        }
    }

    #[test]
    fn equal_trainings_share_a_folder_and_keep_it_under_another_label() {
        let folder = tempfile::tempdir().unwrap();
        let twins = "[[variant]]\nname = \"a\"\ntrain.threads = 1\n[[variant]]\nname = \"b\"\ntrain.threads = 2\n";
        let first = plan(folder.path(), &format!("name = \"twins\"\nsteps = [\"train\"]\n{twins}"));
        assert_eq!((first.cells.len(), first.runs.len()), (2, 1));
        assert!(first.runs[0].name.starts_with("a-s0-"), "{}", first.runs[0].name);
        std::fs::create_dir(&first.runs[0].folder).unwrap();
        let renamed = twins.replace("\"a\"", "\"c\"");
        let second = plan(folder.path(), &format!("name = \"twins\"\nsteps = [\"train\"]\n{renamed}"));
        assert_eq!(second.runs[0].folder, first.runs[0].folder);
        let other = plan(folder.path(), &format!("name = \"twins\"\ntrain.rate = 1\nsteps = [\"train\"]\n{twins}"));
        assert_ne!(other.runs[0].folder, first.runs[0].folder);
    }

    #[test]
    fn folders_have_plain_names() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(300);
        let values = format!("[\"sam:rho=0.1,a=../b\", \"{long}\", \"{long}y\"]");
        let plan = plan(folder.path(), &format!("name = \"a\"\nsteps = [\"train\"]\ngrid.train.optimizer = {values}"));
        assert!(plan.runs[0].name.starts_with("optimizer=sam_rho=0.1_a=.._b-s0-"), "{}", plan.runs[0].name);
        assert!(plan.runs.len() == 3 && plan.runs.iter().all(|run| run.name.len() <= 113));
    }

    #[test]
    fn parts_hold_every_run_once() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), GRID);
        for parts in [1, 2, 3, 4, 7] {
            let mut runs: Vec<usize> = (1..=parts).flat_map(|part| plan.part(part, parts)).collect();
            runs.sort();
            assert_eq!(runs, [0, 1, 2, 3]);
        }
        assert_eq!(plan.part(2, 3), [1]);
    }
}
