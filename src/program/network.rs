//! A program with the values of its buffers, ready to run.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::plan::{Outcome, Plan};
use super::{BatchNormMode, Loss, Mode, Program, ProgramError, fuse};
use crate::Result;
use crate::autodiff::{ParamSpace, Tape, Value};
use crate::data::Normalisation;

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
        Ok(Self { about, program: Arc::new(program), fused: Arc::new(fused), plan: Arc::new(plan), buffers })
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
        Ok(Self { plan: Arc::new(Plan::new(&self.fused)?), buffers, ..self.clone() })
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

    /// Runs the network on a batch `x` `[N, …]`, with the parameters `values` as the first leaves of the tape.
    ///
    /// # Errors
    /// An operation whose input does not fit it, by its place; a batch without a number in it; a missing buffer.
    pub fn forward<V: Value>(&self, tape: &mut Tape<V>, values: &[V], x: Tensor, mode: Mode) -> Result<Outcome<V>> {
        self.forward_with_fixed(tape, (values, &[]), x, mode)
    }

    /// The same, with the tensors marked in `fixed` (by their place in the space; `false` where it is too short) held
    /// fixed: they get no gradient, and the backward pass ends at the first operation whose tensors are not fixed. All
    /// other gradients are those of [`Network::forward`], bit for bit.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward_with_fixed<V: Value>(
        &self,
        tape: &mut Tape<V>,
        (values, fixed): (&[V], &[bool]),
        x: Tensor,
        mode: Mode,
    ) -> Result<Outcome<V>> {
        self.plan.run((&self.fused, &self.buffers), tape, (values, fixed), &[x], mode)
    }
}
