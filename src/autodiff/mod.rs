//! Reverse mode over values that may carry tangents: gradients written once, curvature for free.
//!
//! A [`Tape`] is generic over [`Value`]. Over plain tensors it gives gradients; over [`Dual`]s the tangents of the
//! gradient are Hessian-vector products (Pearlmutter 1994), exact and without a second graph. The tape knows only the
//! three families of [`crate::kernels`] and, behind one interface, operations with kernels of their own ([`Composite`]); so a
//! new operation is a forward function and nothing else.

mod composite;
mod dual;
mod kept;
mod node;
mod params;
mod pattern;
mod scope;
mod tape;
mod value;

pub use composite::{Composite, Cotangent};
pub use dual::Dual;
pub use kept::Kept;
pub use params::{ParamSpace, ParamTensor};
pub use pattern::Pattern;
pub(crate) use scope::ranges;
pub use tape::{Gradients, Saved, Tape, Var};
pub use value::Value;
