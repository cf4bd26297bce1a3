//! Layer lists: a nested list of layers with their fields and tensor names, lowered to a program.

mod block;
mod layer;
mod list;
mod lower;
mod parse;
mod tokens;

pub(super) use block::{BlockActivation, NormPlace, TransformerBlock};
pub use layer::{Extent, GeluForm, KINDS, Layer};
pub use list::LayerList;
pub(super) use lower::lower;
pub(super) use parse::unknown_field;

use super::ModelError;
