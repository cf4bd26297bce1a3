//! How tensors begin a training, read off the operations that use them.

use std::collections::HashMap;

use super::Program;

/// How a tensor begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// Uniform on `(−bound, bound)`.
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// The same number everywhere.
    Constant(f64),
}

impl Start {
    /// timm's `trunc_normal_(std=.02)`.
    pub const NARROW: Self = Self::Normal { std: 0.02 };

    /// A learned token, as timm draws it.
    pub const TOKEN: Self = Self::Normal { std: 1e-6 };

    /// PyTorch's law for weights with so many inputs, and for the biases beside them.
    pub fn fan_in(inputs: usize) -> Self {
        Self::Uniform { bound: 1.0 / (inputs.max(1) as f64).sqrt() }
    }
}

impl Program {
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
