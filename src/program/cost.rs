//! What operations cost.

use super::fact::Fact;

/// What a program or one operation costs for the batch at hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds of one forward pass, counted as direct products.
    pub multiply_adds: usize,
    /// Elements of all activations.
    pub activations: usize,
    /// Elements of the largest.
    pub largest_activation: usize,
    /// Elements of the largest table that an operation makes for itself while it runs.
    pub scratch: usize,
}

impl Cost {
    /// Of an operation that makes nothing but its result.
    pub(crate) fn of_result(result: &Fact) -> Self {
        Self::with_activations(0, &[result.len()])
    }

    /// Of a view: the same numbers in another shape.
    pub(crate) const VIEW: Self = Self { multiply_adds: 0, activations: 0, largest_activation: 0, scratch: 0 };

    /// [`Cost::VIEW`], whatever the result.
    pub(crate) fn of_view(_result: &Fact) -> Self {
        Self::VIEW
    }

    /// Of this many multiply-adds, which leave activations of these sizes.
    pub(crate) fn with_activations(multiply_adds: usize, sizes: &[usize]) -> Self {
        let largest_activation = sizes.iter().copied().max().unwrap_or(0);
        Self { multiply_adds, activations: sizes.iter().sum(), largest_activation, scratch: 0 }
    }

    /// The same with a table of this many elements.
    pub(crate) fn with_scratch(self, scratch: usize) -> Self {
        Self { scratch, ..self }
    }

    /// Of two operations together.
    pub fn and(self, other: Self) -> Self {
        Self {
            multiply_adds: self.multiply_adds.saturating_add(other.multiply_adds),
            activations: self.activations.saturating_add(other.activations),
            largest_activation: self.largest_activation.max(other.largest_activation),
            scratch: self.scratch.max(other.scratch),
        }
    }
}
