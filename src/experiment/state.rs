//! What state a run is in, as its folder shows it, and who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Run, Step};
use crate::report::write_atomic;
use crate::{Error, Result};

/// How far a run, or a cell's part of it, has come.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Nothing is there.
    Pending,
    /// A process is at it.
    Running,
    /// Something is there, and it can go on.
    Interrupted,
    /// All steps are complete.
    Finished,
    /// A step failed; it is not tried again unless that is asked for.
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
    /// Whether it had gone on from what was there: if so, another try starts from nothing.
    pub resumed: bool,
}

/// Whether `folder` holds a result that is complete, by its `run.json`.
pub fn is_complete(folder: &Path) -> bool {
    run_json(folder).is_some_and(|run| run["complete"] == true)
}

/// What the `run.json` in `folder` holds.
pub(super) fn run_json(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("run.json")).ok()?).ok()
}

/// Whether anything is in `folder`.
pub(super) fn has_content(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

impl Run {
    /// The state of those of its steps that `steps` numbers.
    pub fn state(&self, steps: &[usize]) -> State {
        let steps: Vec<&Step> = steps.iter().filter_map(|number| self.steps.get(*number)).collect();
        if steps.iter().all(|step| is_complete(&step.folder)) {
            return State::Finished;
        }
        if is_held(&self.folder) {
            return State::Running;
        }
        let failure = steps.iter().find_map(|step| self.failure(step));
        if let Some(failure) = failure {
            return State::Failed(failure);
        }
        let begun = steps.iter().any(|step| has_content(&step.folder));
        if begun { State::Interrupted } else { State::Pending }
    }

    /// How `step` failed, where it did.
    pub(super) fn failure(&self, step: &Step) -> Option<Failure> {
        serde_json::from_slice(&std::fs::read(self.failure_path(step)).ok()?).ok()
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

/// Which process runs a folder, or ran it last. The system locks the file as long as that process, or a step that it
/// started, lives: so no kill leaves a lock behind, and a number that another process has by now does not mislead.
const HOLDER: &str = "runner.json";

/// A run folder that this process alone may change.
#[derive(Debug)]
pub struct Held {
    pub(super) file: File,
}

impl Held {
    /// Holds `folder`, which exists; `None` where another process does.
    ///
    /// A file system without locks holds nobody back.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder is not writable.
    pub fn acquire(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(HOLDER);
        let error = |source| Error::Io { path: path.clone(), source };
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(error)?;
        // A glance of `flatness status` holds it for an instant.
        let mut locked = file.try_lock();
        for _ in 0..5 {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            locked = file.try_lock();
        }
        if matches!(locked, Err(TryLockError::WouldBlock)) {
            return Ok(None);
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let holder = json!({"pid": std::process::id(), "unix_time_s": now.map_or(0, |time| time.as_secs())});
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{holder}")).map_err(error)?;
        Ok(Some(Self { file }))
    }
}

/// Whether a process holds `folder`.
fn is_held(folder: &Path) -> bool {
    let file = File::open(folder.join(HOLDER));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Since when (seconds since 1970) the process that holds `folder` has been at it.
pub fn held_since(folder: &Path) -> Option<u64> {
    let holder: Value = serde_json::from_slice(&std::fs::read(folder.join(HOLDER)).ok()?).ok()?;
    holder["unix_time_s"].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::StepKind;

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
        let held = Held::acquire(folder.path()).unwrap().unwrap();
        assert_eq!(state(&[0, 1]), "running");
        assert!(held_since(folder.path()).unwrap() > 1_600_000_000);
        // Another handle stands for another process: locks belong to the handle.
        assert!(Held::acquire(folder.path()).unwrap().is_none());
        drop(held);
        assert_eq!(state(&[0, 1]), "pending");
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
