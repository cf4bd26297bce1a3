//! Operations that one kernel serves on plain and dual values alike: affine maps, per-channel affine maps with what follows
//! them, per-channel moments, softmax and normalisation of rows.

mod affine;
mod attention;
mod cat;
mod channels;
mod moments;
mod norm;
mod softmax;

pub(super) use affine::affine;
pub(super) use attention::attention;
pub(super) use cat::cat;
pub(super) use channels::{Finish, channel_affine};
pub(super) use moments::{Moments, moments};
pub(super) use norm::norm;
pub(super) use softmax::softmax;

use candle_core::Result;

use crate::autodiff::{Value, Var};
use crate::kernels::{OwnParts, Parts};

/// What a kernel has made as a value.
fn own<V: Value>(parts: OwnParts) -> Result<V> {
    V::from_parts(parts.primal, parts.tangents)
}

/// The parts of an operand; none where it is absent.
fn parts<V: Value>(var: Option<&Var<V>>) -> Parts<'_> {
    var.map_or_else(Parts::default, |var| var.value().parts())
}
