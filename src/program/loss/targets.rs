//! Targets as a loss sees them.

use std::borrow::Cow;

use candle_core::Tensor;

use super::definition::Loss;
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::data::{TargetBatch, Targets};
use crate::program::ProgramError;

/// The error of targets that do not fit the outputs.
pub(super) fn misfit(loss: &Loss, output: &[usize], given: Given<'_>) -> crate::Error {
    ProgramError::Targets { loss: loss.describe(), targets: given.describe(), outputs: output.to_vec() }.into()
}

/// The values of outputs, as every forward pass has them.
pub(super) fn primal<V: Value>(output: &Var<V>) -> Result<&Tensor> {
    Ok(output.value().primal().ok_or_else(|| candle_core::Error::Msg("a forward value without primal".into()))?)
}

/// The kind of targets, and the shape of one row's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::program) enum Given<'a> {
    /// Whole numbers.
    Labels(&'a [usize]),
    /// Real numbers.
    Values(&'a [usize]),
}

impl<'a> Given<'a> {
    pub(in crate::program) fn of(target: &'a TargetBatch) -> Self {
        match target {
            TargetBatch::Classes(_) => Self::Labels(&[]),
            TargetBatch::Tokens { sample_shape, .. } => Self::Labels(sample_shape),
            TargetBatch::Values(values) => Self::Values(values.dims().get(1..).unwrap_or(&[])),
        }
    }

    pub(super) fn of_all(targets: &'a Targets) -> Self {
        match targets {
            Targets::Classes { .. } => Self::Labels(&[]),
            Targets::Tokens { sample_shape, .. } => Self::Labels(sample_shape),
            Targets::Values { sample_shape, .. } => Self::Values(sample_shape),
        }
    }

    /// In words.
    fn describe(self) -> String {
        let (kind, shape) = match self {
            Self::Labels(shape) => ("class labels", shape),
            Self::Values(shape) => ("real targets", shape),
        };
        let sizes: String = shape.iter().map(|size| format!(", {size}")).collect();
        format!("{kind} [N{sizes}]")
    }
}

/// Whole-number targets, row-major; `None` for real ones.
pub(in crate::program) fn labels(target: &TargetBatch) -> Option<Cow<'_, [i64]>> {
    match target {
        TargetBatch::Classes(labels) => Some(labels.iter().map(|&label| i64::from(label)).collect()),
        TargetBatch::Tokens { labels, .. } => Some(Cow::Borrowed(labels)),
        TargetBatch::Values(_) => None,
    }
}
