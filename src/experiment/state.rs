//! The state of a run, read from its folder, and the process that holds it.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Run, Step};
use crate::files::{Holder, holder, write_atomic};
use crate::report::is_complete;
use crate::{Result, input};

/// How far a run, or the part of it that a cell needs, has come.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It has not been started.
    Pending,
    /// A process is working on it.
    Running,
    /// It was started and can be continued.
    Interrupted,
    /// All steps are complete.
    Finished,
    /// A step failed; it is only tried again on request.
    Failed(Failure),
}

impl State {
    /// The state in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Finished => "finished",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The name of its folder.
    pub step: String,
    /// The error that it ended with.
    pub reason: String,
    /// Whether it had continued an interrupted one: if so, the next try starts from scratch.
    pub resumed: bool,
}

/// Whether anything is in `folder`.
pub(super) fn has_content(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

impl Run {
    /// The state of the steps with the indices `steps`.
    pub fn state(&self, steps: &[usize]) -> State {
        let steps: Vec<&Step> = steps.iter().filter_map(|number| self.steps.get(*number)).collect();
        if steps.iter().all(|step| is_complete(&step.folder)) {
            return State::Finished;
        }
        if self.holder(&steps).is_some() {
            return State::Running;
        }
        let failure = steps.iter().find_map(|step| self.failure(step));
        if let Some(failure) = failure {
            return State::Failed(failure);
        }
        let begun = steps.iter().any(|step| has_content(&step.folder));
        if begun { State::Interrupted } else { State::Pending }
    }

    /// The process that has the run, or one of the `steps`.
    fn holder(&self, steps: &[&Step]) -> Option<Holder> {
        holder(&self.folder).or_else(|| steps.iter().find_map(|step| holder(&step.folder)))
    }

    /// When (in seconds since 1970) a process began to work on it.
    pub fn held_since(&self) -> Option<u64> {
        self.holder(&self.steps.iter().collect::<Vec<_>>())?.unix_time_s
    }

    /// How `step` failed, if it did.
    pub(super) fn failure(&self, step: &Step) -> Option<Failure> {
        serde_json::from_slice(&input::read(&self.failure_path(step)).ok()?).ok()
    }

    pub(super) fn keep_failure(&self, step: &Step, failure: &Failure) -> Result<()> {
        let text = json!(failure);
        Ok(write_atomic(&self.failure_path(step), |file| writeln!(file, "{text:#}"))?)
    }

    pub(super) fn forget_failure(&self, step: &Step) {
        let _ = std::fs::remove_file(self.failure_path(step));
    }

    fn failure_path(&self, step: &Step) -> PathBuf {
        self.folder.join(format!("failed-{}.json", step.name()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::experiment::StepKind;
    use crate::files::{FolderLock, Sharing};

    fn run(folder: &Path) -> Run {
        let step = |kind, name| Step {
            kind,
            folder: folder.join(name),
            arguments: vec![],
            go_on: "--resume",
            configuration: Value::Null,
        };
        let steps = vec![step(StepKind::Train, "train"), step(StepKind::Analyze, "analyze-1")];
        Run { name: "run".into(), folder: folder.into(), steps }
    }

    fn put(folder: &Path, complete: bool) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("run.json"), json!({"complete": complete}).to_string()).unwrap();
    }

    #[test]
    fn the_folder_tells_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path());
        let state = |steps: &[usize]| run.state(steps).name();
        assert_eq!(state(&[0, 1]), "pending");
        for folder in [folder.path(), &run.steps[1].folder] {
            // Another handle stands for another process: locks belong to the handle.
            let held = FolderLock::acquire(folder, Sharing::Alone).unwrap();
            assert_eq!(state(&[0, 1]), "running");
            assert!(run.held_since().unwrap() > 1_600_000_000);
            drop(held);
            assert_eq!((state(&[0, 1]), run.held_since()), ("pending", None));
        }
        put(&run.steps[0].folder, false);
        assert_eq!(state(&[0]), "interrupted");
        put(&run.steps[0].folder, true);
        assert_eq!([state(&[0]), state(&[0, 1])], ["finished", "interrupted"]);
        let failure = Failure { step: "analyze-1".into(), reason: "no space".into(), resumed: false };
        run.keep_failure(&run.steps[1], &failure).unwrap();
        assert_eq!([state(&[0]), state(&[0, 1])], ["finished", "failed"]);
        assert_eq!(run.state(&[0, 1]), State::Failed(failure));
        put(&run.steps[1].folder, true);
        assert_eq!(state(&[0, 1]), "finished");
    }
}
