//! How flat is this minimum, how sure are we, and is it flatter than that one?
//!
//! ```text
//! data ──► train ──► checkpoint.safetensors ──► analyze ──► tables (Parquet) ──► figures, report
//!            │                                   │
//!            └────────── autodiff ◄──── nn ──────┘        gradients and curvature come from ONE engine
//! ```

pub mod analysis;
pub mod curvature;
pub mod data;
pub mod error;
pub mod kernels;
pub mod observer;
pub mod random;
pub mod report;
pub mod spectral;

pub use error::{Error, Result};
pub use observer::{Observer, Step};
