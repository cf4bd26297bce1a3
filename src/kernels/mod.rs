//! Fast tensor primitives on candle tensors: CPU SIMD and threads; other devices use candle's own operations.
//!
//! Every differentiable operation is one of three families, closed under differentiation: [`Linear`], [`Bilinear`]
//! and [`Pointwise`]. An operand may be *stacked*: it then carries `K` directions in front, `[K, …shape]`, and has one
//! axis more than the operation's own shape.
//!
//! Kernels use the rayon pool they are called in. Called outside of one, or by one of several items of
//! [`Workers`](crate::Workers), they stay on their thread. Work is cut into chunks that depend on the shapes alone, and partial
//! sums are added in the order of the chunks, so the number of threads never changes a bit of the result.

mod access;
mod accumulate;
mod apply;
mod attention;
mod bilinear;
mod channels;
pub mod conv;
mod element;
mod elementwise;
pub mod fallback;
mod gemm;
mod linear;
mod matmul;
mod memory;
mod parallel;
mod permute;
mod pointwise;
mod pool;
mod rows;
pub mod scratch;
mod simd;
mod stacked;
mod tiles;
mod vectors;

pub use accumulate::Accumulator;
pub(crate) use apply::matrix_product;
pub use apply::{add, affine};
pub use attention::{Attention, Qkv};
pub use bilinear::{Adjoint, Bilinear, Side};
pub use channels::{AffineAdjoint, AffineCotangents, AffineOperands, Channels};
pub use conv::ConvGeometry;
pub use element::Element;
pub use linear::Linear;
pub use matmul::MatMul;
pub(crate) use memory::DEFAULT_MEMORY;
pub use memory::{KeepingAllocator, keep_freed_memory};
pub use pointwise::{Bounds, Pointwise};
pub use pool::{PoolGeometry, max_pool_indices};
pub use rows::{Norm, NormCotangents, OwnParts, Parts, Softmax};
pub use vectors::row_dots;

pub(crate) use access::{Slice, with_float};
#[cfg(target_arch = "x86_64")]
pub(crate) use simd::has_avx2;
pub(crate) use vectors::{column_dots, dot, norm, norm_of};
