//! What `analyze`, `estimate`, `matvec` and `check` have in common: a checkpoint, its data, and how the loss is defined.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{CliError, Ui};
use crate::checkpoint::{AdamState, Checkpoint, CheckpointError, TensorFile, read_architecture};
use crate::curvature::Preconditioner;
use crate::data::{DataSpec, Dataset, NormalisationChoice, RowRange, Source, Split, Subset};
use crate::formats::Architecture;
use crate::objective::{Objective, ObjectiveOptions};
use crate::plan::{DataArgs, DefaultRows, L2Term, Precision, SessionArgs, TrainPlan, is_architecture};
use crate::program::{About, Loss};
use crate::report::read_run_json;
use crate::team::team;
use crate::vocabulary::Scope;
use crate::{Result, path_text};

/// Rows that an analysis takes where nothing says how many.
const DEFAULT_ROWS: usize = 1_000;

/// A checkpoint with its data, and how the loss is defined.
pub struct Session {
    /// Network and weights.
    pub checkpoint: Checkpoint,
    pub(super) spec: DataSpec,
    /// Rows.
    pub data: Arc<Dataset>,
    /// Loss, precision, threads and memory.
    pub options: ObjectiveOptions,
    /// What Adam kept, where a command asked for it.
    pub(super) optimizer: Option<AdamState>,
}

impl SessionArgs {
    /// The checkpoint alone.
    pub(super) fn read_checkpoint(&self) -> Result<Checkpoint> {
        if let Some(given) = &self.given {
            return Ok((*given.checkpoint).clone());
        }
        let architecture = self.model.arch.as_deref().map(|arch| self.architecture(arch)).transpose()?;
        Checkpoint::read_with(&self.model.checkpoint, architecture, self.model.choices())
    }

    /// The architecture of the networks in `file`.
    pub(super) fn architecture_of(&self, file: &TensorFile) -> Result<Architecture> {
        let given = self.model.arch.as_deref().map(|arch| self.architecture(arch)).transpose()?;
        let architecture = given.map_or_else(|| file.architecture(), |given| Ok(Some(given)))?;
        Ok(architecture.ok_or_else(|| CheckpointError::NoArchitecture { path: file.path().into() })?)
    }

    /// A file, or a family's short form with the sample shape of the data and the classes of the weights.
    fn architecture(&self, arch: &Path) -> Result<Architecture> {
        if is_architecture(arch) || arch.exists() {
            return read_architecture(arch);
        }
        let checkpoint = || self.model.checkpoint.clone();
        let spec = self.data.spec(None).ok_or_else(|| CliError::NoData { checkpoint: checkpoint() })?;
        let one = DataSpec { rows: Some(RowRange::new(0, 1)?), subset: None, ..spec };
        let plan = TrainPlan { model: Some(arch.to_string_lossy().into_owned()), ..TrainPlan::default() };
        let architecture = plan.network(&one.load_within(self.compute.memory)?, None)?;
        // Labels say only which classes occur among the rows.
        let space = architecture.param_space()?;
        let names: Vec<&str> = space.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        let weights = TensorFile::read_with(&self.model.checkpoint, self.model.choices())?.under_names(&names)?;
        let outputs = architecture.head().and_then(|name| weights.get(name)?.dims().first().copied());
        Ok(match outputs {
            Some(outputs) => architecture.with_outputs(outputs),
            None => architecture,
        })
    }

    /// Reads and checks everything; `default_dtype` where `--dtype` is silent.
    pub(super) fn open(&self, default_dtype: Precision, ui: &mut Ui) -> Result<Session> {
        let execution = self.compute.execution();
        self.loss.loss(None)?;
        let checkpoint = self.read_checkpoint()?;
        ui.notes(&checkpoint.notes);
        if checkpoint.widened {
            ui.say("note: half-precision weights were converted to single precision");
        }
        let path = || self.model.checkpoint.clone();
        let about = &checkpoint.network.about;
        let loss = self.loss.loss(about.loss.clone())?;
        let (spec, data) = match &self.given {
            Some(given) => given.rows(&self.data)?,
            None => {
                let spec = self.data.spec(stored_data(&checkpoint));
                let spec = spec.ok_or_else(|| CliError::NoData { checkpoint: path() })?;
                let spec = self.as_trained(self.chosen(spec), about);
                let (spec, data) = self.load(spec, execution.memory_bytes, ui)?;
                (spec, Arc::new(data))
            }
        };
        let by_default = || {
            let loss = Loss::for_labels(&data.targets)?;
            ui.say(&format!(
                "note: the loss is {}, because the labels are whole numbers; choose another with --loss",
                loss.describe()
            ));
            Some(loss)
        };
        let loss = loss.or_else(by_default).ok_or_else(|| CliError::NoLoss { checkpoint: path() })?;
        let mut options = ObjectiveOptions::new(loss);
        options.dtype = self.dtype.unwrap_or(default_dtype).dtype();
        options.batch_norm = self.batch_norm.unwrap_or(about.batch_norm_mode);
        options.execution = execution;
        if self.l2 == L2Term::In {
            options.weight_decay = about.weight_decay;
        }
        Ok(Session { checkpoint, spec, data, options, optimizer: None })
    }

    /// The rows of a command that takes test rows where the options choose none.
    fn chosen(&self, mut spec: DataSpec) -> DataSpec {
        let DataArgs { split, rows, subset, noise, .. } = &self.data;
        if self.default_rows == DefaultRows::Test && split.is_none() && spec.source.has_test_split() {
            spec.split = Split::Test;
            if rows.is_none() && subset.is_none() {
                (spec.rows, spec.subset) = (None, None);
            }
            spec.noise = *noise;
        }
        spec
    }

    /// The weights expect inputs as they were trained on, whatever the habit of a source that the arguments name.
    fn as_trained(&self, mut spec: DataSpec, about: &About) -> DataSpec {
        if let (Some(_), Some(normalisation)) = (&self.data.data, &about.normalisation) {
            spec.normalisation = NormalisationChoice::Custom(normalisation.clone());
        }
        spec
    }

    fn load(&self, mut spec: DataSpec, memory_bytes: usize, ui: &mut Ui) -> Result<(DataSpec, Dataset)> {
        let all = self.default_rows == DefaultRows::Test;
        if self.data.rows.is_none() && self.data.subset.is_none() && !all {
            let available = spec.num_rows(memory_bytes)?;
            if available > DEFAULT_ROWS {
                spec.subset = Some(Subset { count: DEFAULT_ROWS, seed: self.data.subset_seed });
                ui.say(&format!(
                    "note: using {DEFAULT_ROWS} of {available} rows (seed {}); choose others with --subset N or --rows A..B",
                    self.data.subset_seed
                ));
            }
        }
        let data = spec.load_within(memory_bytes)?;
        ui.notes(&data.notes);
        Ok((spec.resolved(), data))
    }
}

/// The data that the trainer wrote down; relative places also as seen from where it ran.
fn stored_data(checkpoint: &Checkpoint) -> Option<DataSpec> {
    let spec = checkpoint.data()?;
    let run = checkpoint.path.parent().and_then(read_run_json);
    Some(match run.as_ref().and_then(|run| run["directory"].as_str()) {
        Some(directory) => spec.or_seen_from(&path_text::from_text(directory)),
        None => spec,
    })
}

/// `mean cross-entropy`; a mean already says so.
fn of_mean(loss: &str) -> String {
    if loss.starts_with("mean ") { loss.to_owned() } else { format!("mean {loss}") }
}

/// Makes sure that the ranks can share the rows of one computation.
///
/// # Errors
/// [`TeamError::CoupledRows`], [`TeamError::Differ`]; a message that is lost.
pub(super) fn share_rows(objective: &Objective<'_>, configuration: &Value) -> Result<()> {
    let coupling = objective.couples_rows().then_some("batch norm in train mode");
    team().shares(coupling, ("checkpoints, data or options", configuration.to_string()))
}

impl Session {
    /// Reads the state of Adam at `path`, or the one that belongs to the checkpoint.
    pub(super) fn read_optimizer(&mut self, path: Option<&Path>, ui: &mut Ui) -> Result<()> {
        let state = AdamState::read(path, &self.checkpoint)?;
        ui.notes(&state.notes);
        self.optimizer = Some(state);
        Ok(())
    }

    /// Its preconditioner of the parameters in `scope`; `None` where no state was asked for.
    pub(super) fn preconditioner(&self, scope: &Scope) -> Result<Option<Preconditioner>> {
        let space = self.checkpoint.network.space();
        self.optimizer.as_ref().map(|state| state.preconditioner(space, scope)).transpose()
    }

    /// How loss and data were defined, in one line.
    pub fn statement(&self) -> String {
        let options = &self.options;
        let decay = match options.weight_decay {
            0.0 => "without L2 term".to_owned(),
            decay => format!("with L2 term {decay}"),
        };
        let rows = match self.spec.source {
            Source::Memory(_) => format!("{} rows passed in memory", self.data.len()),
            _ => self.rows_of_files(),
        };
        let norm = if self.checkpoint.network.program().has_batch_norm() {
            format!(", batch norm {:?}", options.batch_norm).to_lowercase()
        } else {
            String::new()
        };
        format!("{} {decay}, {rows}{norm}, {}", of_mean(&options.loss.describe()), options.dtype.as_str())
    }

    fn rows_of_files(&self) -> String {
        let spec = &self.spec;
        let labels = match &spec.labels {
            Some(source) if spec.split == Split::Train => format!(" with labels {}", source.set),
            _ => String::new(),
        };
        let noise = spec.noise.map_or(String::new(), |noise| format!(" with label noise {noise}"));
        let (rows, split, source) = (self.data.len(), spec.split.name(), spec.source_name());
        format!("{rows} {split} rows of {source}{labels}{noise}, no augmentation")
    }

    /// The configuration that decides the numbers of `objective`, with the hashes of what went in.
    pub(super) fn configuration(&self, objective: &Objective<'_>) -> Value {
        let mut configuration = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "checkpoint_sha256": self.checkpoint.sha256,
            "architecture": self.checkpoint.network.about.name,
            "num_params": self.checkpoint.network.space().dim(),
            "data": self.spec,
            "data_sha256": self.data.sha256,
            "rows": self.data.len(),
            "loss": self.options.loss,
            "reduction": "mean over rows",
            "weight_decay": self.options.weight_decay,
            "batch_norm": self.options.batch_norm,
            "dtype": self.options.dtype.as_str(),
            "num_shards": objective.num_shards(),
            "memory_bytes": self.options.execution.memory_bytes,
            "seed": self.options.seed,
        });
        if let Some(state) = &self.optimizer {
            configuration["optimizer_state"] = state.facts();
        }
        configuration
    }
}
