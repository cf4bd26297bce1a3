//! Operations that also compute what follows them, in the same pass. Only [`crate::program::fuse`] makes them.

use serde::Serialize;

use super::{Add, BatchNorm, Clamp, Conv2d, Mul};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::Pointwise;
use crate::program::composites::Finish;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, broadcast};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Fact, Start};

/// An operation that ends in an affine map per channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)] // each is documented at its type
pub enum First {
    Conv2d(Conv2d),
    BatchNorm(BatchNorm),
}

/// The operation `first`, then the sum with its last operand where there is one, then a ReLU where asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fused {
    /// What comes first.
    #[serde(flatten)]
    pub first: First,
    /// Whether `max(·, 0)` comes last.
    pub relu: bool,
}

/// A convolution, then its places as tokens: `flatten` of the last two axes and the permutation `[0, 2, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tokens(pub Conv2d);

/// `min(max(x + 3, 0), 6)/6`, and its product with `x` where asked for: PyTorch's `hardsigmoid` and `hardswish`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HardGate {
    /// Whether it is multiplied by `x`.
    pub product: bool,
}

/// What a [`HardGate`] takes a sixth of, at `x + 3`.
pub(in crate::program) const HARD_GATE: Clamp = Clamp { min: Some(0.0), max: Some(6.0), closed: false };

impl Operation for Tokens {
    fn name(&self) -> &'static str {
        "conv2d_tokens"
    }

    fn operands(&self) -> &'static [&'static str] {
        self.0.operands()
    }

    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        let image = self.0.result(operands, rows)?;
        let [n, out, height, width] = super::image(&image, None)?;
        Ok(Fact::float(&[n, height * width, out]))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        self.0.cost(operands, result)
    }

    fn start(&self, place: usize, shapes: &[Option<&[usize]>], in_transformer: bool) -> Start {
        self.0.start(place, shapes, in_transformer)
    }

    fn affinity(&self, in_training: bool) -> Affinity {
        self.0.affinity(in_training)
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, in_training: bool) -> Tracked {
        self.0.rows(operands, result, in_training)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        Ok(Slot::Float(self.0.tokens(run, operands)?))
    }
}

/// Passes a question on to what comes first.
macro_rules! of_first {
    ($self:ident, $first:ident => $answer:expr) => {
        match &$self.first {
            First::Conv2d($first) => $answer,
            First::BatchNorm($first) => $answer,
        }
    };
}

/// The operands of what comes first, and the one that is added.
fn split<T>(operands: &[T]) -> (&[T], Option<&T>) {
    operands.split_last().map_or((operands, None), |(last, first)| (first, Some(last)))
}

impl Operation for HardGate {
    columns! {
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(1.0),
    }

    fn name(&self) -> &'static str {
        if self.product { "hardswish" } else { "hardsigmoid" }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact::float(&fact(operands, 0)?.shape))
    }

    fn affinity(&self, _in_training: bool) -> Affinity {
        if self.product { Affinity { products: &[], smooth: &[0] } } else { Affinity::AFFINE }
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        if run.tape.may_choose_within(&x) {
            let f = if self.product { Pointwise::HardSwish } else { Pointwise::HardSigmoid };
            return Ok(Slot::Float(run.tape.pointwise(f, &x)?));
        }
        let shifted = Add {}.forward(run, &[Slot::Float(x.clone()), Slot::Number(3.0)])?;
        let cut = HARD_GATE.forward(run, &[shifted])?;
        let gate = Mul {}.forward(run, &[cut, Slot::Number(1.0 / 6.0)])?;
        if self.product { Mul {}.forward(run, &[Slot::Float(x), gate]) } else { Ok(gate) }
    }
}

impl Operation for Fused {
    fn name(&self) -> &'static str {
        match (&self.first, self.relu) {
            (First::Conv2d(_), true) => "conv2d_add_relu",
            (First::Conv2d(_), false) => "conv2d_add",
            (First::BatchNorm(_), true) => "batch_norm_add_relu",
            (First::BatchNorm(_), false) => "batch_norm_add",
        }
    }

    fn operands(&self) -> &'static [&'static str] {
        match self.first {
            First::Conv2d(_) => &["input", "weight", "bias", "other"],
            First::BatchNorm(_) => &["input", "weight", "bias", "running_mean", "running_var", "other"],
        }
    }

    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
        let (operands, other) = split(operands);
        let result = of_first!(self, first => first.result(operands, rows))?;
        match other.copied().flatten() {
            None => Ok(result),
            Some(other) => Ok(Fact::float(&broadcast(&result.shape, &other.shape)?)),
        }
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        of_first!(self, first => first.cost(split(operands).0, result))
    }

    fn start(&self, place: usize, shapes: &[Option<&[usize]>], in_transformer: bool) -> Start {
        let (first_shapes, _) = split(shapes);
        match place < first_shapes.len() {
            true => of_first!(self, first => first.start(place, first_shapes, in_transformer)),
            false => Add {}.start(1, shapes, in_transformer),
        }
    }

    fn affinity(&self, in_training: bool) -> Affinity {
        of_first!(self, first => first.affinity(in_training))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, in_training: bool) -> Tracked {
        let (operands, other) = split(operands);
        let rows = of_first!(self, first => first.rows(operands, result, in_training))?;
        let first = Fact { rows, ..result.clone() };
        rows::elementwise(&[Some(&first), other.copied().flatten()], result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let place = operands.len().saturating_sub(1);
        let addend = run.optional(operands, place)?;
        let (first_operands, _) = split(operands);
        // Only equal shapes share the pass; a sum that broadcasts comes by itself.
        let like: Option<Var<V>> = Some(run.var(operands, 0)?).filter(|_| matches!(self.first, First::BatchNorm(_)));
        let alike = match (&addend, &like) {
            (Some(addend), Some(like)) => addend.dims()? == like.dims()?,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if alike {
            let finish = Finish { addend: addend.as_ref(), relu: self.relu };
            return Ok(Slot::Float(of_first!(self, first => first.forward_with(run, first_operands, finish))?));
        }
        let y = of_first!(self, first => first.forward_with(run, first_operands, Finish::default()))?;
        let sum = Add {}.forward(run, &[Slot::Float(y), operands[place].clone()])?;
        let sum = run.var(&[sum], 0)?;
        Ok(Slot::Float(if self.relu { run.tape.relu(&sum)? } else { sum }))
    }
}
