//! A program with the values of its buffers, ready to run.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::plan::{Outcome, Plan};
use super::run::Slot;
use super::{BatchNormMode, Loss, Mode, Program, ProgramError, fuse, per_sample_loss};
use crate::Result;
use crate::autodiff::{ParamSpace, Tape, Value, Var};
use crate::data::{Normalisation, TargetBatch};
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
    program: Arc<Program>,
    fused: Arc<Program>,
    plan: Arc<Plan>,
    /// From the outputs to the program's own loss, where it brings one; else the parameter that the loss reads besides.
    head: Option<Result<Arc<(Program, Plan)>, String>>,
    buffers: HashMap<String, Tensor>,
}

impl Network {
    /// Binds a program to the values of its buffers, by name.
    ///
    /// # Errors
    /// Names that do not exist, or twice.
    pub fn new(program: Program, buffers: HashMap<String, Tensor>, about: About) -> Result<Self, ProgramError> {
        let fused = fuse(&program);
        let plan = Plan::new(&fused)?;
        let head = match program.loss_head() {
            None => None,
            Some(Ok(head)) => {
                let plan = Plan::new(&head)?;
                Some(Ok(Arc::new((head, plan))))
            }
            Some(Err(parameter)) => Some(Err(parameter)),
        };
        Ok(Self { about, program: Arc::new(program), fused: Arc::new(fused), plan: Arc::new(plan), head, buffers })
    }

    /// The same network without fusion: every operation by itself. Results agree to rounding.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn unfused(&self) -> Result<Self, ProgramError> {
        let plan = Plan::new(&self.program)?;
        Ok(Self { fused: self.program.clone(), plan: Arc::new(plan), ..self.clone() })
    }

    /// The same network with other values of its buffers.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_buffers(&self, buffers: HashMap<String, Tensor>) -> Result<Self, ProgramError> {
        // What was computed from the old values goes with the old plan.
        let head = match &self.head {
            Some(Ok(head)) => Some(Ok(Arc::new((head.0.clone(), Plan::new(&head.0)?)))),
            other => other.clone(),
        };
        Ok(Self { plan: Arc::new(Plan::new(&self.fused)?), head, buffers, ..self.clone() })
    }

    /// The program as its description says it.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The program as it runs, after [`fuse`].
    pub fn fused(&self) -> &Program {
        &self.fused
    }

    /// The trainable parameters in order.
    pub fn space(&self) -> &ParamSpace {
        &self.program.parameters
    }

    /// The buffers' values by name.
    pub fn buffers(&self) -> &HashMap<String, Tensor> {
        &self.buffers
    }

    /// Runs a network of one input on a batch `x` `[N, …]`, with the parameters `values` as the first leaves of the tape.
    ///
    /// # Errors
    /// An operation whose input does not fit it, by its place; a batch without a number in it; a missing buffer.
    pub fn forward<V: Value>(&self, tape: &mut Tape<V>, values: &[V], x: Tensor, mode: Mode) -> Result<Outcome<V>> {
        self.forward_with_fixed(tape, (values, &[]), vec![x], mode)
    }

    /// The same on all inputs in the program's order, with the tensors marked in `fixed` (by their place in the space; `false` where it is too short) held
    /// fixed: they get no gradient, and the backward pass ends at the first operation whose tensors are not fixed. All
    /// other gradients are those of [`Network::forward`], bit for bit.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward_with_fixed<V: Value>(
        &self,
        tape: &mut Tape<V>,
        (values, fixed): (&[V], &[bool]),
        inputs: Vec<Tensor>,
        mode: Mode,
    ) -> Result<Outcome<V>> {
        let (got, expected) = (inputs.len(), self.program.inputs.len());
        if got != expected {
            return Err(ProgramError::Inputs { got, expected }.into());
        }
        let inputs = inputs.into_iter().map(|input| Slot::input(tape, input)).collect();
        self.plan.run((&self.fused, &self.program, &self.buffers), tape, (values, fixed), inputs, mode)
    }

    /// That `loss` depends on the parameters through the outputs alone, as Gauss-Newton matrices need it.
    ///
    /// # Errors
    /// As [`Network::loss`].
    pub(crate) fn check_loss_of_outputs(&self, loss: &Loss) -> Result<()> {
        if matches!(loss, Loss::Program {}) { self.head().map(drop) } else { Ok(()) }
    }

    fn head(&self) -> Result<&(Program, Plan)> {
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
    pub fn loss<V: Value>(
        &self,
        tape: &mut Tape<V>,
        loss: &Loss,
        output: &Var<V>,
        (batch, targets): (&[Tensor], &TargetBatch),
    ) -> Result<Var<V>> {
        if !matches!(loss, Loss::Program {}) {
            return per_sample_loss(tape, loss, output, targets);
        }
        let head = self.head()?;
        let batch = batch.iter().map(|input| Slot::input(tape, input.clone()));
        let inputs = std::iter::once(Slot::Float(output.clone())).chain(batch).collect();
        let (program, plan) = head;
        let nothing: (&[V], &[bool]) = (&[], &[]);
        let loss = plan.run((program, program, &self.buffers), tape, nothing, inputs, Mode::Eval)?.output;
        let from = loss.dims()?.to_vec();
        Ok(tape.linear(Linear::Reshape { to: vec![from[0], 1], from }, &loss)?)
    }
}
