//! The element types of kernels.

/// f32 or f64.
pub trait Element: candle_core::WithDType {}
impl Element for f32 {}
impl Element for f64 {}
