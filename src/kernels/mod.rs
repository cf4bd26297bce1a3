//! Fast tensor primitives on candle tensors: CPU SIMD and threads; other devices use candle's own operations.
//!
//! Kernels use the rayon pool they are called in; called outside of one they stay on their thread. Work is cut into
//! chunks that depend on the shapes only and partial sums are added in chunk order, so the number of threads never
//! changes a bit of the result.

pub mod conv;
pub mod element;
pub mod simd;
