//! Architectures as data: a nested list of layers with their fields and tensor names.

mod architecture;
mod block;
mod error;
mod families;
mod layer;
mod network;
mod parse;
mod tokens;

pub(crate) use architecture::element_count;
pub use architecture::{Architecture, BatchNormMode, Loss};
pub use error::ModelError;
pub use families::{FAMILIES, family};
pub use layer::{Extent, GeluForm, KINDS, Layer};
pub use network::Network;
