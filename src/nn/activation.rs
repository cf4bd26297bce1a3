//! Smooth activations.

use crate::Result;
use crate::kernels::Pointwise;
use crate::models::{GeluForm, Layer};

/// The scalar function of an activation layer.
pub(super) fn function(layer: &Layer) -> Result<Pointwise> {
    Ok(match layer {
        Layer::Gelu { form: GeluForm::Erf } => Pointwise::GeluErf,
        Layer::Gelu { form: GeluForm::Tanh } => Pointwise::GeluTanh,
        Layer::Silu => Pointwise::Silu,
        Layer::Tanh => Pointwise::Tanh,
        Layer::Sigmoid => Pointwise::Sigmoid,
        Layer::Softplus => Pointwise::Softplus,
        other => return Err(candle_core::Error::Msg(format!("{} is no smooth activation", other.kind())).into()),
    })
}
