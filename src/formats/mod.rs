//! Front ends: what people write or have, as programs. Layer lists ([`Architecture`]) and families ([`family`]) are short
//! forms; none of them executes anything.

mod error;
mod families;
mod layers;

pub use error::ModelError;
pub use families::{FAMILIES, family};
pub use layers::{Architecture, Extent, GeluForm, KINDS, Layer};
