//! Layer lists: a nested list of layers with their fields and tensor names, lowered to a program.

mod architecture;
mod block;
mod layer;
mod lower;
mod parse;
mod tokens;

pub use architecture::Architecture;
pub(super) use block::{BlockActivation, NormPlace, TransformerBlock};
pub use layer::{Extent, GeluForm, KINDS, Layer};

use super::ModelError;
