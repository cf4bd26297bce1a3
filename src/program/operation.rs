//! What every operation answers.

use serde::Serialize;

use super::cost::Cost;
use super::fact::{Fact, Tracked};
use super::run::{Run, Slot};
use super::start::Start;
use crate::Result;
use crate::autodiff::Value;

/// How a result depends on the operands, by their places: everything that is in neither list enters piecewise affinely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity {
    /// Pairs of operands that are multiplied.
    pub products: &'static [(usize, usize)],
    /// Operands that enter otherwise.
    pub smooth: &'static [usize],
}

impl Affinity {
    /// Piecewise affine in all operands together.
    pub(crate) const AFFINE: Self = Self { products: &[], smooth: &[] };
}

/// One operation: all that it is. Every question is required, so that a forgotten answer does not compile.
///
/// Operands come in PyTorch's order, then the settings, which are the fields of the type under PyTorch's names. An operand
/// that is left out is `None`.
pub trait Operation: Serialize {
    /// PyTorch's name.
    fn name(&self) -> &'static str;

    /// PyTorch's names of the operands, in its order.
    fn operands(&self) -> &'static [&'static str];

    /// Kind and shape of the result.
    ///
    /// # Errors
    /// In words, why these operands do not fit.
    fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String>;

    /// What it costs.
    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost;

    /// How a parameter or buffer that stands at a place begins, by the shapes of all that stand at some;
    /// `in_transformer` where the program has attention.
    fn start(&self, place: usize, shapes: &[Option<&[usize]>], in_transformer: bool) -> Start;

    /// How the result depends on the operands.
    fn affinity(&self, in_training: bool) -> Affinity;

    /// Where the rows of the batch are in the result.
    ///
    /// # Errors
    /// In words, how it mixes rows.
    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, in_training: bool) -> Tracked;

    /// Computes it on the tape.
    ///
    /// # Errors
    /// A kernel that fails; what the numbers or the mode of this run forbid.
    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>>;
}

/// Answers of [`Operation`] that are the same for every call, a line each: `columns! { name: "relu", cost: Cost::of_result }`.
/// What has no line needs its method. The line `moves` is four: those of an operation that gives entries of its input in another
/// order or shape, at this cost.
macro_rules! columns {
    ($($question:ident: $answer:expr),* $(,)?) => {
        $($crate::program::operation::columns!(@$question $answer);)*
    };
    (@name $answer:expr) => {
        fn name(&self) -> &'static str {
            $answer
        }
    };
    (@operands $answer:expr) => {
        fn operands(&self) -> &'static [&'static str] {
            $answer
        }
    };
    (@cost $answer:expr) => {
        fn cost(
            &self,
            _operands: &[Option<&$crate::program::Fact>],
            result: &$crate::program::Fact,
        ) -> $crate::program::Cost {
            $answer(result)
        }
    };
    (@start $answer:expr) => {
        fn start(&self, _place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> $crate::program::Start {
            $answer
        }
    };
    (@moves $cost:expr) => {
        $crate::program::operation::columns! {
            operands: &["input"],
            cost: $cost,
            start: $crate::program::Start::TOKEN,
            affinity: $crate::program::Affinity::AFFINE,
        }
    };
    (@affinity $answer:expr) => {
        fn affinity(&self, _in_training: bool) -> $crate::program::Affinity {
            $answer
        }
    };
}
pub(super) use columns;

/// The fact at a place, which the number of operands guarantees.
pub(super) fn fact<'a>(operands: &[Option<&'a Fact>], place: usize) -> Result<&'a Fact, String> {
    operands.get(place).copied().flatten().ok_or_else(|| format!("operand {} is missing", place + 1))
}
