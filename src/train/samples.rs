//! Samples of the weights along a run with a cyclical schedule.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::epoch::Run;
use super::running;
use crate::Result;
use crate::checkpoint::{ARCH_KEY, DATA_KEY, SampleWriter, TRAIN_KEY, VERSION_KEY};
use crate::data::{DataSpec, Dataset};
use crate::plan::{NormStatistics, TrainConfig};

/// Name of the file of samples.
const FILE: &str = "samples.safetensors";

/// Where a run keeps its samples: the file `samples.safetensors` of the run, under another name until it is whole.
#[derive(Debug)]
pub struct SampleFolder {
    path: PathBuf,
    spec: Value,
}

/// Samples as they are taken.
#[derive(Debug)]
pub(super) struct Sampling {
    /// Steps done at each, ascending.
    steps: Vec<usize>,
    writer: SampleWriter,
}

impl SampleFolder {
    /// In the run's `folder`, which exists, for a training on `spec`.
    pub fn new(folder: &Path, spec: &DataSpec) -> Self {
        Self { path: folder.join(FILE), spec: json!(spec.resolved()) }
    }

    /// The file, where a run has finished it.
    pub fn file(&self) -> Option<PathBuf> {
        self.path.exists().then(|| self.path.clone())
    }

    /// Removes what an earlier run left.
    pub fn clear(&self) {
        for path in [SampleWriter::partial(&self.path), self.path.clone()] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// The samples of `run`, with those that its state counts; `None` where it takes none.
    ///
    /// # Errors
    /// As [`steps`]; a file that does not have the samples that count.
    pub(super) fn open(&self, run: &Run<'_>) -> Result<Option<Sampling>> {
        let steps = steps(run.config, run.data)?;
        if steps.is_empty() {
            return Ok(None);
        }
        let taken = steps.partition_point(|step| *step <= run.state.steps);
        let training = json!({
            "config": run.config,
            "weights": "samples",
            "steps": steps,
            "norm_statistics": run.config.norm_statistics,
            "data_sha256": run.data.sha256,
        });
        let network = run.objective.network();
        let entries = [
            (ARCH_KEY, network.about.description.clone()),
            (DATA_KEY, self.spec.to_string()),
            (TRAIN_KEY, training.to_string()),
            (VERSION_KEY, env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let metadata = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let theta = run.part.whole(&run.state.weights.theta)?;
        let writer = SampleWriter::open(&self.path, (network, &theta), metadata, (taken, steps.len()))?;
        Ok(Some(Sampling { steps, writer }))
    }
}

impl Sampling {
    /// Gives the file its name, with the last sample.
    pub(super) fn finish(self) -> Result<()> {
        self.writer.finish().map(drop)
    }
}

/// Steps done at each sample that the configuration asks for on these rows.
///
/// # Errors
/// [`crate::optim::SettingError`] where the cycles have no room for as many.
pub(super) fn steps(config: &TrainConfig, data: &Dataset) -> Result<Vec<usize>> {
    let Some(count) = config.samples_per_cycle else { return Ok(Vec::new()) };
    Ok(config.schedule.sample_steps(count, data.len().div_ceil(config.batch_size), config.epochs)?)
}

impl Run<'_> {
    /// After a step: keeps the weights, if this is the step of the next sample, with batch-norm statistics of their own.
    pub(super) fn sample(&mut self) -> Result<()> {
        let due = |sampling: &Sampling| sampling.steps.get(sampling.writer.taken()) == Some(&self.state.steps);
        if !self.samples.as_ref().is_some_and(due) {
            return Ok(());
        }
        let weights = &self.state.weights;
        let theta = self.part.whole(&weights.theta)?;
        let network = self.objective.network();
        let reestimates = self.config.norm_statistics == NormStatistics::Reestimated
            && !network.program().running_statistics().is_empty();
        let buffers = match reestimates {
            true => running::reestimate(self.objective, self.data, self.config, &theta)?,
            false => weights.buffers.clone(),
        };
        let network = network.with_buffers(buffers)?;
        self.samples.as_mut().map_or(Ok(()), |samples| samples.writer.append(&network, &theta))
    }
}
