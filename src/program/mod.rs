//! One description for every network, whoever wrote it: a flat list of operations with named operands.
//!
//! Operations have PyTorch's names (`conv2d`, `layer_norm`, `scaled_dot_product_attention`) and mean what PyTorch documents. Front ends ([`crate::formats`]) write programs and nothing else; [`fuse`] rewrites them into
//! operations that have kernels of their own; [`Network::forward`] runs them over a tape, so that derivatives of every
//! kind follow. What can be said of a program without running it (shapes, costs, whether rows touch one another, whether the
//! outputs are piecewise affine in each parameter) is read off the operations, each of which answers every question: see
//! [`Operation`].

mod affinity;
mod call;
mod composites;
mod cost;
mod error;
mod fact;
mod factor;
mod fusion;
mod infer;
mod json;
mod loss;
mod network;
mod node;
mod op;
mod operand;
mod operation;
mod operations;
mod plan;
mod rows;
mod run;
mod scores;
mod size;
mod start;

use std::collections::{HashMap, HashSet};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

pub use call::{Argument, Call, Lines, Results};
pub use cost::Cost;
pub use error::ProgramError;
pub use fact::{Fact, Kind, RowAxis};
pub(crate) use fact::{MAX_ELEMENTS, element_count};
pub(crate) use factor::{Factor, PlaceColumns};
pub use fusion::fuse;
pub use infer::Inferred;
pub(crate) use json::number;
pub use loss::{BatchNormMode, CrossEntropy, Loss, per_sample_loss, row_weights};
pub(crate) use loss::{counted_outputs, drawn_labels_loss};
pub use network::{About, Network};
pub use node::Node;
pub use op::Op;
pub use operand::{Operand, Place};
pub use operation::{Affinity, Operation};
pub(crate) use operations::read;
pub use operations::*;
pub use plan::{Outcome, Parameters};
pub use run::{BatchStatistics, Mode};
pub(crate) use scores::Answers;
pub use scores::ClassScores;
pub use size::Size;
pub use start::Start;

use crate::autodiff::ParamSpace;

/// A network as a list of operations in the order of execution. Each value is named once and never changes.
///
/// Its JSON form, which checkpoints store, has these fields.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// What a batch brings, rows along axis 0.
    pub inputs: Vec<Input>,
    /// The trainable parameters in their order in the flat vector.
    #[serde(with = "json::parameters")]
    pub parameters: ParamSpace,
    /// Tensors that belong to a checkpoint and are not trained, such as running statistics: names and shapes.
    pub buffers: Vec<(String, Vec<usize>)>,
    /// Tensors that belong to the program itself: f64, i64 for whole numbers, u8 for truth values.
    #[serde(with = "json::constants")]
    pub constants: Vec<(String, Tensor)>,
    /// The operations.
    pub nodes: Vec<Node>,
    /// Name of the network's output, `[N, outputs]` for the losses that the library knows.
    pub output: String,
    /// Name of a loss per row, `[N]`, where the program brings one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
}

/// One input of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Floats, whole numbers or truth values.
    pub kind: Kind,
}

impl Program {
    /// The names that operations, the output and the loss read.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &str> {
        let operands = self.nodes.iter().flat_map(|node| &node.operands).filter_map(Operand::name);
        operands.chain([self.output.as_str()]).chain(self.loss.as_deref())
    }

    /// Whether any operation is one that `wanted` picks.
    pub fn any(&self, wanted: impl Fn(&Op) -> bool) -> bool {
        self.nodes.iter().any(|node| wanted(&node.operation))
    }

    /// Whether any operation normalises over the batch in training.
    pub(crate) fn has_batch_norm(&self) -> bool {
        self.any(|operation| matches!(operation, Op::BatchNorm(_)))
    }

    /// The buffers that batch normalisations keep running averages in.
    pub fn running_statistics(&self) -> HashSet<&str> {
        let norms = self.nodes.iter().filter(|node| matches!(node.operation, Op::BatchNorm(_)));
        norms.flat_map(|node| node.operands.iter().skip(3).take(2)).filter_map(Operand::name).collect()
    }

    /// Whether any operation is attention.
    pub(crate) fn has_attention(&self) -> bool {
        self.any(|operation| matches!(operation, Op::ScaledDotProductAttention(_)))
    }

    /// Whether any operation draws random numbers in training.
    pub fn draws(&self) -> bool {
        self.any(|operation| match operation {
            Op::Dropout(dropout) => dropout.p > 0.0,
            Op::ScaledDotProductAttention(attention) => attention.dropout_p > 0.0,
            Op::Draw(_) => true,
            _ => false,
        })
    }

    /// Names of the last linear map's weight and bias.
    pub(crate) fn head(&self) -> Vec<&str> {
        let last = self.nodes.iter().rev().find(|node| matches!(node.operation, Op::Linear(_)));
        last.map_or(&[][..], |node| &node.operands[1..]).iter().filter_map(Operand::name).collect()
    }

    /// Gives the last linear map this number of outputs where it has fewer.
    pub(crate) fn grow_outputs(&mut self, outputs: usize) {
        let head = self.head();
        let resized = self.parameters.tensors().iter().map(|tensor| {
            let mut shape = tensor.shape.clone();
            if let (true, Some(first)) = (head.contains(&tensor.name.as_str()), shape.first_mut()) {
                *first = outputs.max(*first);
            }
            (tensor.name.clone(), shape, tensor.kind)
        });
        self.parameters = ParamSpace::new(resized);
    }

    /// Gives parameters the names of others, which take their place.
    pub(crate) fn tie(&mut self, rename: &impl Fn(&mut String)) {
        for operand in self.nodes.iter_mut().flat_map(|node| &mut node.operands) {
            if let Operand::Name(name) = operand {
                rename(name);
            }
        }
        let kept = self.parameters.tensors().iter().filter(|tensor| {
            let mut name = tensor.name.clone();
            rename(&mut name);
            name == tensor.name
        });
        self.parameters = ParamSpace::new(kept.map(|tensor| (tensor.name.clone(), tensor.shape.clone(), tensor.kind)));
    }

    /// The part from the outputs to the program's own loss as a program of its own, whose inputs are the outputs and the
    /// batch; `None` where there is no such loss. The name of a parameter where the loss reads one past the outputs.
    pub(crate) fn loss_head(&self) -> Option<Result<Self, String>> {
        let loss = self.loss.as_ref()?;
        if let (true, Some(tensor)) = (*loss == self.output, self.parameters.tensors().first()) {
            return Some(Err(tensor.name.clone()));
        }
        let mut needed: HashSet<&str> = HashSet::from([loss.as_str()]);
        let mut nodes: Vec<Node> = Vec::new();
        for node in self.nodes.iter().rev() {
            if needed.contains(node.name.as_str()) && node.name != self.output {
                needed.extend(node.operands.iter().filter_map(Operand::name));
                nodes.push(node.clone());
            }
        }
        nodes.reverse();
        if let Some(tensor) = self.parameters.tensors().iter().find(|tensor| needed.contains(tensor.name.as_str())) {
            return Some(Err(tensor.name.clone()));
        }
        let outputs = Input { name: self.output.clone(), kind: Kind::Float };
        let inputs = std::iter::once(outputs).chain(self.inputs.clone()).collect();
        let (buffers, constants) = (self.buffers.clone(), self.constants.clone());
        let parameters = ParamSpace::default();
        Some(Ok(Self { inputs, parameters, buffers, constants, nodes, output: loss.clone(), loss: None }))
    }

    /// The program with one more operation on its output.
    pub fn then(mut self, operation: Op, kind: &str) -> Self {
        let name = format!("{}.{kind}", self.output);
        let mut operands = vec![Operand::None; operation.operands().len()];
        if let Some(first) = operands.first_mut() {
            *first = Operand::Name(std::mem::replace(&mut self.output, name.clone()));
        }
        let place = Place { module: "output".into(), kind: kind.into() };
        self.nodes.push(Node { name, operation, operands, place });
        self
    }

    /// How each parameter and buffer begins, by name: as the first operation that uses it says.
    pub fn starts(&self) -> HashMap<&str, Start> {
        let shapes: HashMap<&str, &[usize]> = (self.parameters.tensors().iter())
            .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
            .chain(self.buffers.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())))
            .collect();
        let transformer = self.has_attention();
        let mut starts = HashMap::new();
        for node in &self.nodes {
            let own: Vec<Option<&[usize]>> =
                node.operands.iter().map(|operand| operand.name().and_then(|name| shapes.get(name).copied())).collect();
            for (index, operand) in node.operands.iter().enumerate() {
                if let (Some(name), Some(Some(_))) = (operand.name(), own.get(index)) {
                    starts.entry(name).or_insert_with(|| node.operation.start(index, &own, transformer));
                }
            }
        }
        starts
    }
}
