//! The state of a run between two epochs, and the folder that stores it.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::averages::Averages;
use super::track::TrackedRow;
use super::{EpochMetrics, TrainError, metrics};
use crate::Result;
use crate::checkpoint::{CheckpointError, read_state, write_state};
use crate::optim::OptimizerState;
use crate::report::tables::write_table;
use crate::team::{Wire, team};

/// Parameters of some epoch with their running statistics.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub(super) theta: Tensor,
    pub(super) buffers: HashMap<String, Tensor>,
}

/// Wall-clock time of an epoch in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EpochSeconds {
    /// All of it, evaluation and tracked curvature included.
    pub total: f64,
    /// The steps alone.
    pub training: f64,
    /// Of the steps' time, what was spent waiting for rows to be decoded and augmented.
    pub waiting: f64,
}

/// Everything that the next epoch depends on, and what the finished ones left.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// The trained parameters and all running statistics.
    pub(super) weights: Weights,
    pub(super) optimizer: OptimizerState,
    pub(super) steps: usize,
    pub(super) averages: Averages,
    /// The epoch of the best test accuracy, and its weights.
    pub(super) best: Option<(usize, Weights)>,
    pub(super) epochs: Vec<EpochMetrics>,
    pub(super) seconds: Vec<EpochSeconds>,
    pub(super) tracked: Vec<TrackedRow>,
}

/// What a state stores besides tensors.
#[derive(Serialize, Deserialize)]
struct Facts {
    steps: usize,
    optimizer_steps: u64,
    swa_count: usize,
    best_epoch: usize,
    tracked: Vec<TrackedRow>,
}

impl State {
    fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = weights_under("", &self.weights);
        tensors.extend(self.optimizer.tensors.iter().map(|(name, t)| (format!("optimizer/{name}"), t.clone())));
        tensors.extend(self.averages.tensors());
        if let Some((_, weights)) = &self.best {
            tensors.extend(weights_under("best/", weights));
        }
        let metrics: Vec<f64> = self.epochs.iter().flat_map(EpochMetrics::values).collect();
        tensors.push(("metrics".into(), table(metrics, EpochMetrics::COLUMNS.len())?));
        let seconds = self.seconds.iter().flat_map(|s| [s.total, s.training, s.waiting]).collect();
        tensors.push(("seconds".into(), table(seconds, 3)?));
        let numbers = self.tracked.iter().flat_map(TrackedRow::numbers).collect();
        tensors.push(("tracked".into(), table(numbers, 3)?));
        Ok(tensors)
    }

    fn facts(&self) -> Value {
        serde_json::json!(Facts {
            steps: self.steps,
            optimizer_steps: self.optimizer.steps,
            swa_count: self.averages.swa_count,
            best_epoch: self.best.as_ref().map_or(0, |(epoch, _)| *epoch),
            tracked: self.tracked.clone(),
        })
    }

    fn from_parts(mut tensors: BTreeMap<String, Tensor>, facts: Facts) -> Option<Self> {
        let metrics = rows::<15>(&tensors.remove("metrics")?)?;
        let seconds = rows::<3>(&tensors.remove("seconds")?)?;
        let numbers = rows::<3>(&tensors.remove("tracked")?)?;
        let best = take_weights("best/", &mut tensors).map(|weights| (facts.best_epoch, weights));
        let averages = Averages::from_tensors(&mut tensors, facts.swa_count);
        let weights = take_weights("", &mut tensors)?;
        let optimizer = tensors
            .into_iter()
            .filter_map(|(name, tensor)| name.strip_prefix("optimizer/").map(|name| (name.to_owned(), tensor)));
        let mut tracked = facts.tracked;
        tracked.iter_mut().zip(&numbers).for_each(|(row, numbers)| row.set_numbers(*numbers));
        Some(Self {
            weights,
            optimizer: OptimizerState { steps: facts.optimizer_steps, tensors: optimizer.collect() },
            steps: facts.steps,
            averages,
            best,
            epochs: metrics.into_iter().map(EpochMetrics::from_values).collect(),
            seconds: seconds
                .into_iter()
                .map(|[total, training, waiting]| EpochSeconds { total, training, waiting })
                .collect(),
            tracked,
        })
    }
}

impl Wire for State {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        self.tensors().map_err(io::Error::other)?.put(to)?;
        self.facts().to_string().put(to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        let (tensors, facts) = (Vec::get(from)?, String::get(from)?);
        let facts = serde_json::from_str(&facts)?;
        Self::from_parts(tensors.into_iter().collect(), facts).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Numbers that must come back bit for bit, NaN included, which JSON cannot promise.
fn table(values: Vec<f64>, columns: usize) -> Result<Tensor> {
    let rows = values.len() / columns;
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

fn rows<const N: usize>(table: &Tensor) -> Option<Vec<[f64; N]>> {
    let values = table.flatten_all().ok()?.to_dtype(DType::F64).ok()?.to_vec1::<f64>().ok()?;
    values.chunks(N).map(|row| row.try_into().ok()).collect()
}

fn weights_under(prefix: &str, weights: &Weights) -> Vec<(String, Tensor)> {
    let mut names: Vec<&String> = weights.buffers.keys().collect();
    names.sort();
    let theta = std::iter::once((format!("{prefix}theta"), weights.theta.clone()));
    let buffers = names.into_iter().map(|name| (format!("{prefix}buffer/{name}"), weights.buffers[name].clone()));
    theta.chain(buffers).collect()
}

fn take_weights(prefix: &str, tensors: &mut BTreeMap<String, Tensor>) -> Option<Weights> {
    let theta = tensors.remove(&format!("{prefix}theta"))?;
    let start = format!("{prefix}buffer/");
    let names: Vec<String> = tensors.keys().filter(|name| name.starts_with(&start)).cloned().collect();
    let buffers = names.into_iter().filter_map(|name| {
        let tensor = tensors.remove(&name)?;
        Some((name[start.len()..].to_owned(), tensor))
    });
    Some(Weights { buffers: buffers.collect(), theta })
}

/// Where a run keeps its state: one file `state-STEP.safetensors`, replaced from time to time.
#[derive(Debug)]
pub struct StateFolder {
    folder: PathBuf,
    /// Epochs between two states.
    every: usize,
    resume: bool,
    /// The step from which the run was resumed.
    pub resumed_from: Option<usize>,
    /// Why a state could not be written; the run continues regardless.
    pub complaint: Option<String>,
}

impl StateFolder {
    /// Stores a state in `folder`, which exists, every `every` epochs; with `resume`, the run starts from a state found
    /// there.
    pub fn new(folder: &Path, every: usize, resume: bool) -> Self {
        Self { folder: folder.into(), every: every.max(1), resume, resumed_from: None, complaint: None }
    }

    /// Removes all states, because the run is complete or starts again.
    pub fn clear(&self) {
        self.files().into_iter().for_each(|(_, path)| _ = std::fs::remove_file(path));
    }

    /// Whether there is a state.
    pub fn holds_state(&self) -> bool {
        !self.files().is_empty()
    }

    /// The newest state that rank 0 finds, on every rank.
    pub(super) fn load(&mut self, configuration: &Value) -> Result<Option<State>> {
        let found = if team().leads() { self.newest(configuration) } else { Ok(None) };
        team().of_leader(found)
    }

    fn newest(&mut self, configuration: &Value) -> Result<Option<State>> {
        let files = self.files();
        let Some((step, path)) = files.first().filter(|_| self.resume) else { return Ok(None) };
        let (file, facts) = read_state(path, configuration)?;
        let unreadable = || CheckpointError::UnreadableState { reason: format!("{} lacks a part", path.display()) };
        let facts: Facts = serde_json::from_value(facts).map_err(|_| unreadable())?;
        let state = State::from_parts(file.into_tensors()?, facts).ok_or_else(unreadable)?;
        self.resumed_from = Some(*step);
        Ok(Some(state))
    }

    /// After epoch `epoch`, which may be the last of this process. Rank 0 writes.
    pub(super) fn after_epoch(&mut self, state: &State, configuration: &Value, last: bool) -> Result<()> {
        let due = last || state.epochs.len().is_multiple_of(self.every);
        if !due || self.complaint.is_some() || !team().leads() {
            return Ok(());
        }
        let path = self.folder.join(format!("state-{}.safetensors", state.steps));
        if path.exists() {
            return Ok(());
        }
        match write_state(&path, &state.tensors()?, configuration, &state.facts()) {
            Err(error) => self.complaint = Some(error.to_string()),
            // The new one is whole and on the disk before an old one goes.
            Ok(()) => self.files().into_iter().skip(1).for_each(|(_, path)| _ = std::fs::remove_file(path)),
        }
        // For whoever watches; the end of the run writes it again, and complains where that fails.
        let _ = write_table(&self.folder.join("metrics.parquet"), &metrics::columns(&state.epochs), configuration);
        Ok(())
    }

    /// Step and path of each state, the newest first.
    fn files(&self) -> Vec<(usize, PathBuf)> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<(usize, PathBuf)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let step = name.strip_prefix("state-")?.strip_suffix(".safetensors")?.parse().ok()?;
                Some((step, entry.path()))
            })
            .collect();
        files.sort();
        files.reverse();
        files
    }
}

/// The trained parameters must be as many as the network has.
pub(super) fn check_length(state: &State, dim: usize) -> Result<()> {
    let got = state.weights.theta.elem_count();
    if got == dim { Ok(()) } else { Err(TrainError::StateLength { got, expected: dim }.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(steps: usize) -> State {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let weights = |x: f32| Weights {
            theta: tensor(&[x, -0.0, f32::MIN_POSITIVE]),
            buffers: HashMap::from([
                ("bn.running_mean".to_owned(), tensor(&[x])),
                ("bn.running_var".to_owned(), tensor(&[2.0])),
            ]),
        };
        let mut metrics: [f64; 15] = std::array::from_fn(|index| 0.1 + index as f64);
        metrics[9] = f64::NAN;
        State {
            weights: weights(0.1),
            optimizer: OptimizerState { steps: 7, tensors: vec![("velocity".into(), tensor(&[0.3, 0.2, 0.1]))] },
            steps,
            averages: Averages { ema: Some(tensor(&[1.0])), swa: None, swa_count: 0 },
            best: Some((2, weights(0.7))),
            epochs: vec![EpochMetrics::from_values(metrics); 2],
            seconds: vec![EpochSeconds { total: 1.0, training: 0.5, waiting: 0.1 }; 2],
            tracked: vec![TrackedRow::synthetic(1.0 / 3.0)],
        }
    }

    fn text(state: &State) -> String {
        let bits: Vec<u64> = state.epochs.iter().flat_map(|m| m.values().map(f64::to_bits)).collect();
        let tensors: Vec<String> = state.tensors().unwrap().iter().map(|(name, t)| format!("{name} {t}")).collect();
        format!("{bits:?} {tensors:?} {}", state.facts())
    }

    #[test]
    fn a_state_comes_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut states = StateFolder::new(folder.path(), 1, true);
        let configuration = json!({"seed": 1});
        assert!(states.load(&configuration).unwrap().is_none());
        states.after_epoch(&state(9), &configuration, false).unwrap();
        states.after_epoch(&state(10), &configuration, false).unwrap();
        // Only the newest stays.
        assert_eq!(states.files().into_iter().map(|(step, _)| step).collect::<Vec<_>>(), [10]);
        let back = states.load(&configuration).unwrap().unwrap();
        assert_eq!(text(&back), text(&state(10)));
        let mut bytes = Vec::new();
        back.put(&mut bytes).unwrap();
        assert_eq!(text(&State::get(&mut bytes.as_slice()).unwrap()), text(&back));
        assert!(State::get(&mut &bytes[..bytes.len() - 9]).is_err());
        assert_eq!((states.resumed_from, back.best.unwrap().0), (Some(10), 2));
        assert!(states.load(&json!({"seed": 2})).unwrap_err().to_string().contains("seed 1 there, 2 here"));
        assert!(StateFolder::new(folder.path(), 1, false).load(&configuration).unwrap().is_none());
        states.clear();
        assert!(!states.holds_state());
    }

    #[test]
    fn a_damaged_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut states = StateFolder::new(folder.path(), 1, true);
        states.after_epoch(&state(9), &json!(1), false).unwrap();
        let path = folder.path().join("state-9.safetensors");
        let sound = std::fs::read(&path).unwrap();
        for bit in (0..8 * sound.len()).step_by(61) {
            let mut damaged = sound.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, damaged).unwrap();
            assert!(states.load(&json!(1)).unwrap_err().to_string().contains("is damaged"), "bit {bit}");
        }
    }

    #[test]
    fn states_are_as_rare_as_asked_for_and_a_full_disk_is_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut states = StateFolder::new(folder.path(), 3, true);
        states.after_epoch(&state(4), &json!(1), false).unwrap();
        assert!(!states.holds_state());
        states.after_epoch(&state(4), &json!(1), true).unwrap();
        assert!(states.holds_state());
        let mut nowhere = StateFolder::new(&folder.path().join("missing"), 1, true);
        nowhere.after_epoch(&state(4), &json!(1), true).unwrap();
        assert!(nowhere.complaint.is_some());
    }
}
