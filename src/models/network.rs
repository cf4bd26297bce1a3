//! An architecture bound to its parameter space and buffers.

use std::collections::HashMap;

use candle_core::Tensor;

use super::{Architecture, ModelError};
use crate::autodiff::ParamSpace;

/// What a forward pass needs besides the parameters' values.
#[derive(Debug, Clone)]
pub struct Network {
    /// The layers.
    pub architecture: Architecture,
    /// The parameters in order.
    pub space: ParamSpace,
    /// Running statistics by name, `[C]` each.
    pub buffers: HashMap<String, Tensor>,
}

impl Network {
    /// Binds an architecture to its buffers.
    ///
    /// # Errors
    /// Conflicting shapes or a bad `param_order`.
    pub fn new(architecture: Architecture, buffers: HashMap<String, Tensor>) -> Result<Self, ModelError> {
        let space = architecture.param_space()?;
        Ok(Self { architecture, space, buffers })
    }
}
