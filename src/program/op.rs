//! The list of all operations.

use serde::{Deserialize, Serialize};

use super::cost::Cost;
use super::fact::{Fact, Tracked};
use super::operation::{Affinity, Operation};
use super::operations::*;
use super::run::{Run, Slot};
use super::start::Start;
use crate::Result;
use crate::autodiff::Value;

/// Declares [`Op`], an enum over all operations that passes each question on. Those behind the semicolon exist in fused
/// programs alone, which are never stored.
macro_rules! operations {
    ($($stored:ident),* ; $($fused:ident),* $(,)?) => {
        /// Any of the operations.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "op", rename_all = "snake_case")]
        #[allow(missing_docs)] // each is documented at its type
        pub enum Op {
            $($stored($stored),)*
            $(#[serde(skip)] $fused($fused),)*
        }

        operations!(@answers $($stored,)* $($fused,)*);
    };
    (@answers $($name:ident,)*) => {
        impl Op {
            /// PyTorch's name.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(operation) => operation.name(),)* }
            }

            /// PyTorch's names of the operands, in its order.
            pub fn operands(&self) -> &'static [&'static str] {
                match self { $(Self::$name(operation) => operation.operands(),)* }
            }

            /// PyTorch's names of the settings with their values, in its order, without what the name says already.
            pub fn settings(&self) -> Vec<(String, serde_json::Value)> {
                let value = match self { $(Self::$name(operation) => serde_json::to_value(operation),)* };
                match value {
                    Ok(serde_json::Value::Object(fields)) => {
                        fields.into_iter().filter(|(_, value)| value.as_str() != Some(self.name())).collect()
                    }
                    _ => Vec::new(),
                }
            }

            pub(crate) fn result(&self, operands: &[Option<&Fact>], rows: usize) -> Result<Fact, String> {
                match self { $(Self::$name(operation) => operation.result(operands, rows),)* }
            }

            pub(crate) fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
                match self { $(Self::$name(operation) => operation.cost(operands, result),)* }
            }

            pub(crate) fn start(&self, place: usize, shapes: &[Option<&[usize]>], in_transformer: bool) -> Start {
                match self { $(Self::$name(operation) => operation.start(place, shapes, in_transformer),)* }
            }

            pub(crate) fn affinity(&self, in_training: bool) -> Affinity {
                match self { $(Self::$name(operation) => operation.affinity(in_training),)* }
            }

            pub(crate) fn rows(&self, operands: &[Option<&Fact>], result: &Fact, in_training: bool) -> Tracked {
                match self { $(Self::$name(operation) => operation.rows(operands, result, in_training),)* }
            }

            pub(crate) fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
                match self { $(Self::$name(operation) => operation.forward(run, operands),)* }
            }
        }

        $(impl From<$name> for Op {
            fn from(operation: $name) -> Self {
                Self::$name(operation)
            }
        })*
    };
}

operations! {
    Linear, Matmul, Einsum, Rnn,
    Conv2d, ConvTranspose2d, Conv3d,
    BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm,
    Unary, Pow, Softmax, LogSoftmax, LogSumExp,
    Clamp, Extremum, Step, RoundedDiv,
    Add, Sub, Mul,
    Mean, Sum, Variance, Norm, Amax, Prod,
    TopK, Cumsum, Cumprod,
    MaxPool2d, MaxPool, AdaptiveMaxPool, AvgPool2d, AvgPool, AdaptiveAvgPool, Upsample,
    Flatten, View, Unflatten, Permute, Transpose, Unsqueeze, Squeeze, Expand,
    Select, Slice, Chunk, Cat, Pad, Rearrange, Fold, Roll,
    Index, Gather, IndexPut, Scatter, SliceScatter, ViewAs,
    ScaledDotProductAttention,
    Dropout, Draw,
    Arange, Full, Fill, To, PerChannel,
    Embedding, EmbeddingBag, GroupedMm, Histc, Compare, Logical, Where,
    Expect;
    Fused, Tokens, HardGate,
}
