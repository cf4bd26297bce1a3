//! How tensors begin a training.

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
    pub(crate) const NARROW: Self = Self::Normal { std: 0.02 };

    /// A learned token, as timm draws it.
    pub(crate) const TOKEN: Self = Self::Normal { std: 1e-6 };

    /// PyTorch's law for weights with this number of inputs, and for their biases.
    pub fn fan_in(inputs: usize) -> Self {
        Self::Uniform { bound: 1.0 / (inputs.max(1) as f64).sqrt() }
    }
}
