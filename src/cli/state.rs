//! Survey states on disk: written at intervals, so that a killed analysis goes on with `--resume`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::Ui;
use crate::Result;
use crate::analysis::Stores;
use crate::checkpoint::{StateTensors, read_state, write_state_as_it_comes};
use crate::spectral::{Store, SurveyState};
use crate::team::team;

/// Options that change when a survey ends, but no number before.
const BUDGETS: [&str; 2] = ["max_matvecs", "max_time_s"];

/// When states are written and taken up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saving {
    /// Time between two states; one is written also where the run is interrupted.
    pub(super) every: Duration,
    /// Whether to go on from what is there.
    pub(super) resume: bool,
}

/// Parses a time in seconds.
pub(super) fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..1e9).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "must be a number of seconds, 0 or more".into())
}

impl Saving {
    /// For analyses that take seconds.
    pub(super) const NEVER: Self = Self { every: Duration::MAX, resume: false };
}

/// The states of one analysis: a file for each operator.
pub(super) struct StateFiles {
    folder: PathBuf,
    configuration: Value,
    /// A larger state is not written.
    memory_bytes: usize,
    saving: Saving,
    /// What went wrong with writing, once.
    complaint: Option<String>,
    /// Surveys that went on from a state.
    resumed: Vec<String>,
    names: Vec<String>,
}

impl StateFiles {
    /// In `folder`, for the computation that `configuration` describes.
    pub(super) fn new(folder: &Path, configuration: &Value, memory_bytes: usize, saving: Saving) -> Self {
        let configuration = without_budgets(configuration.clone());
        let folder = folder.to_owned();
        Self { folder, configuration, memory_bytes, saving, complaint: None, resumed: vec![], names: vec![] }
    }

    /// Says which surveys went on from a state, and what went wrong with writing one.
    pub(super) fn tell(&self, ui: &mut Ui) {
        for name in &self.resumed {
            ui.say(&format!("note: the {name} survey continues from {}", self.path(name).display()));
        }
        if let Some(complaint) = &self.complaint {
            ui.say(&format!(
                "note: the state could not be saved, so --resume would start from the beginning: {complaint}"
            ));
        }
    }

    /// Removes the states: the analysis is complete.
    pub(super) fn remove(&self) {
        for name in &self.names {
            let _ = std::fs::remove_file(self.path(name));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("state-{name}.safetensors"))
    }
}

impl Stores for StateFiles {
    fn store(&mut self, name: &str) -> Box<dyn Store + '_> {
        self.names.push(name.to_owned());
        Box::new(StateFile { path: self.path(name), name: name.to_owned(), files: self, last: Instant::now() })
    }
}

struct StateFile<'a> {
    files: &'a mut StateFiles,
    name: String,
    path: PathBuf,
    last: Instant,
}

impl StateFile<'_> {
    fn read(&mut self) -> Result<Option<StateTensors>> {
        if !self.files.saving.resume || !self.path.exists() {
            return Ok(None);
        }
        let (file, _) = read_state(&self.path, &self.files.configuration)?;
        self.files.resumed.push(self.name.clone());
        Ok(Some(file))
    }
}

impl Store for StateFile<'_> {
    fn load(&mut self) -> Result<Option<SurveyState>> {
        let found = if team().leads() { self.read() } else { Ok(None) };
        let mut file = None;
        let known = found.map(|found| {
            file = found;
            file.as_ref().map(StateTensors::names)
        });
        let Some(names) = team().of_leader(known)? else { return Ok(None) };
        let state = SurveyState::read(&names, |name| {
            let own = match &file {
                Some(file) => file.get(name),
                None => Ok(Tensor::zeros(0, DType::F32, &Device::Cpu)?),
            };
            team().of_leader(own)
        });
        state.map(Some)
    }

    fn wants(&mut self, bytes: usize, last: bool) -> bool {
        if !team().leads() {
            return false;
        }
        let due = last && self.files.saving.every < Duration::MAX || self.last.elapsed() >= self.files.saving.every;
        if due && bytes > self.files.memory_bytes && self.files.complaint.is_none() {
            self.files.complaint = Some(format!("it would take {} MiB, more than --memory", bytes >> 20));
        }
        due && self.files.complaint.is_none()
    }

    fn save(&mut self, state: &SurveyState) {
        self.last = Instant::now();
        let (layout, mut tensors) = (state.layout(), state.gathered());
        if team().leads() {
            let configuration = &self.files.configuration;
            let written = write_state_as_it_comes(&self.path, &layout, &mut tensors, configuration, &Value::Null);
            self.files.complaint = written.err().map(|error| error.to_string());
        }
        // Other ranks send their parts; those that a failed write has left are received, so that no message stays behind.
        tensors.for_each(drop);
    }
}

fn without_budgets(mut configuration: Value) -> Value {
    if let Some(analysis) = configuration.get_mut("analysis").and_then(Value::as_object_mut) {
        BUDGETS.iter().for_each(|key| _ = analysis.remove(*key));
    }
    configuration
}
