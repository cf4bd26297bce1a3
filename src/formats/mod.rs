//! Front ends: what people write or have, as programs. Layer lists ([`Architecture`]) and families ([`family`]) are short
//! forms, [`Exported`] is what torch.export writes; none of them executes anything.

mod architecture;
mod error;
mod families;
mod layers;
mod pt2;

pub use architecture::{Architecture, Body};
pub use error::ModelError;
pub use families::{FAMILIES, family};
pub use layers::{Extent, GeluForm, KINDS, Layer, LayerList};
pub use pt2::Exported;
