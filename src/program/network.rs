//! A program with the values of its buffers, ready to run.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::plan::{Outcome, Parameters, Plan, Programs};
use super::run::Slot;
use super::{BatchNormMode, Loss, Mode, Program, ProgramError, fuse, per_sample_loss};
use crate::Result;
use crate::autodiff::{ParamSpace, Tape, Value, Var};
use crate::data::{Batch, Normalisation};
use crate::kernels::Linear;

/// What a description says of a network beside what it computes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct About {
    /// For titles.
    pub name: String,
    /// The loss it was described with.
    pub loss: Option<Loss>,
    /// Shape of one sample.
    pub input_shape: Option<Vec<usize>>,
    /// Of its training data.
    pub normalisation: Option<Normalisation>,
    /// The L2 coefficient it was trained with: `wd/2 ‖θ‖²`.
    pub weight_decay: f64,
    /// Statistics used in analysis.
    pub batch_norm_mode: BatchNormMode,
    /// The description itself, as checkpoints store it.
    pub description: String,
}

/// What a forward pass needs besides the parameters' values.
#[derive(Debug, Clone)]
pub struct Network {
    /// What it says of itself.
    pub about: About,
    analysis: Ready,
    /// The program of training, where it is another one.
    training: Option<Ready>,
    /// From the outputs to the program's own loss, where it brings one; else the parameter that the loss reads besides.
    head: Option<Result<Ready, String>>,
    buffers: HashMap<String, Tensor>,
}

/// A program ready to run.
#[derive(Debug, Clone)]
struct Ready {
    written: Arc<Program>,
    runs: Arc<Program>,
    plan: Arc<Plan>,
}

impl Ready {
    fn new(written: Arc<Program>, runs: Arc<Program>) -> Result<Self, ProgramError> {
        let plan = Arc::new(Plan::new(&runs)?);
        Ok(Self { written, runs, plan })
    }

    fn run<V: Value>(
        &self,
        buffers: &HashMap<String, Tensor>,
        tape: &mut Tape<V>,
        parameters: Parameters<'_, V>,
        inputs: Vec<Slot<V>>,
        mode: Mode,
    ) -> Result<Outcome<V>> {
        let programs = Programs { runs: &self.runs, written: &self.written, buffers };
        self.plan.run(programs, tape, parameters, inputs, mode)
    }

    fn fused(program: Program) -> Result<Self, ProgramError> {
        let fused = fuse(&program);
        Self::new(Arc::new(program), Arc::new(fused))
    }

    fn unfused(&self) -> Result<Self, ProgramError> {
        Self::new(self.written.clone(), self.written.clone())
    }

    /// Without what was computed from the values of the buffers.
    fn anew(&self) -> Result<Self, ProgramError> {
        Self::new(self.written.clone(), self.runs.clone())
    }
}

impl Network {
    /// Binds a program to the values of its buffers, by name.
    ///
    /// # Errors
    /// Names that do not exist, or twice.
    pub fn new(program: Program, buffers: HashMap<String, Tensor>, about: About) -> Result<Self, ProgramError> {
        let head = match program.loss_head() {
            None => None,
            Some(Ok(head)) => Some(Ok(Ready::fused(head)?)),
            Some(Err(parameter)) => Some(Err(parameter)),
        };
        Ok(Self { about, analysis: Ready::fused(program)?, training: None, head, buffers })
    }

    /// The same network with another program for training, on the same inputs, parameters and buffers.
    ///
    /// # Errors
    /// Names that do not exist, or twice; inputs, parameters or buffers that are not those of the network.
    pub(crate) fn with_training(self, program: Program) -> Result<Self, ProgramError> {
        let own = self.program();
        let unlike = |what: &str| Err(ProgramError::Training { what: what.into() });
        if program.inputs != own.inputs {
            return unlike("inputs");
        }
        if program.parameters != own.parameters {
            return unlike("parameters");
        }
        if !program.buffers.iter().all(|buffer| own.buffers.contains(buffer)) {
            return unlike("buffers");
        }
        Ok(Self { training: Some(Ready::fused(program)?), ..self })
    }

    /// The same network without fusion: every operation by itself. Results agree to rounding.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn unfused(&self) -> Result<Self, ProgramError> {
        let training = self.training.as_ref().map(Ready::unfused).transpose()?;
        Ok(Self { analysis: self.analysis.unfused()?, training, ..self.clone() })
    }

    /// The same network with other values of its buffers.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_buffers(&self, buffers: HashMap<String, Tensor>) -> Result<Self, ProgramError> {
        let training = self.training.as_ref().map(Ready::anew).transpose()?;
        let head = match &self.head {
            Some(Ok(head)) => Some(Ok(head.anew()?)),
            other => other.clone(),
        };
        Ok(Self { analysis: self.analysis.anew()?, training, head, buffers, about: self.about.clone() })
    }

    /// The program as its description says it.
    pub fn program(&self) -> &Program {
        &self.analysis.written
    }

    /// The program as it runs, after [`fuse`].
    pub fn fused(&self) -> &Program {
        &self.analysis.runs
    }

    /// The program of training, where it is another one.
    pub fn training_program(&self) -> Option<&Program> {
        self.training.as_ref().map(|training| &*training.written)
    }

    /// Whether steps of training need a stream of random numbers, see [`Mode::Train`].
    pub(crate) fn draws_in_training(&self) -> bool {
        self.training.is_some() || self.program().draws()
    }

    /// The trainable parameters in order.
    pub fn space(&self) -> &ParamSpace {
        &self.program().parameters
    }

    /// The buffers' values by name.
    pub fn buffers(&self) -> &HashMap<String, Tensor> {
        &self.buffers
    }

    /// Names of the parameters, then of the buffers.
    pub(crate) fn tensor_names(&self) -> Vec<String> {
        let buffers = self.program().buffers.iter().map(|(name, _)| name.clone());
        self.space().tensors().iter().map(|tensor| tensor.name.clone()).chain(buffers).collect()
    }

    /// Runs a network of one input on a batch `x` `[N, …]`, with the parameters `values` as the first leaves of the tape.
    ///
    /// # Errors
    /// An operation whose input does not fit it, by its place; a batch without a number in it; a missing buffer.
    pub fn forward<V: Value>(&self, tape: &mut Tape<V>, values: &[V], x: Tensor, mode: Mode) -> Result<Outcome<V>> {
        self.forward_with_fixed(tape, Parameters { values, fixed: &[] }, vec![x], mode)
    }

    /// The same on all inputs in the program's order, where some of the parameters are held fixed. The gradients of the others
    /// are those of [`Network::forward`], bit for bit.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward_with_fixed<V: Value>(
        &self,
        tape: &mut Tape<V>,
        parameters: Parameters<'_, V>,
        inputs: Vec<Tensor>,
        mode: Mode,
    ) -> Result<Outcome<V>> {
        let (got, expected) = (inputs.len(), self.program().inputs.len());
        if got != expected {
            return Err(ProgramError::Inputs { got, expected }.into());
        }
        let inputs = inputs.into_iter().map(|input| Slot::input(tape, input)).collect();
        let ready = match (&mode, &self.training) {
            (Mode::Train { draws: Some(_) }, Some(training)) => training,
            _ => &self.analysis,
        };
        ready.run(&self.buffers, tape, parameters, inputs, mode)
    }

    /// That `loss` depends on the parameters through the outputs alone, as Gauss-Newton matrices need it.
    ///
    /// # Errors
    /// As [`Network::loss`].
    pub(crate) fn check_loss_of_outputs(&self, loss: &Loss) -> Result<()> {
        if matches!(loss, Loss::Program {}) { self.head().map(drop) } else { Ok(()) }
    }

    fn head(&self) -> Result<&Ready> {
        match &self.head {
            Some(Ok(head)) => Ok(head),
            Some(Err(parameter)) => Err(ProgramError::LossSeesParameters { parameter: parameter.clone() }.into()),
            None => Err(ProgramError::NoLoss.into()),
        }
    }

    /// The loss of each row, `[N, 1]`, as a function of the outputs: with `output` on the tape, whatever else the
    /// tape holds.
    ///
    /// # Errors
    /// Targets that the loss cannot take; [`ProgramError::NoLoss`] where the program brings none;
    /// [`ProgramError::LossSeesParameters`] where its own reads parameters past the outputs.
    pub fn loss<V: Value>(&self, tape: &mut Tape<V>, loss: &Loss, output: &Var<V>, batch: &Batch) -> Result<Var<V>> {
        if !matches!(loss, Loss::Program {}) {
            return per_sample_loss(tape, loss, output, &batch.targets);
        }
        let head = self.head()?;
        let batch = batch.inputs().into_iter().map(|input| Slot::input(tape, input));
        let inputs = std::iter::once(Slot::Float(output.clone())).chain(batch).collect();
        let loss = head.run(&self.buffers, tape, Parameters { values: &[], fixed: &[] }, inputs, Mode::Eval)?.output;
        let from = loss.dims()?.to_vec();
        Ok(tape.linear(Linear::Reshape { to: vec![from[0], 1], from }, &loss)?)
    }
}
