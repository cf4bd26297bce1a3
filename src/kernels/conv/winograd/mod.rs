//! 3×3 convolutions with stride 1 by minimal filtering F(2×2, 3×3) (Winograd 1980; Lavin and Gray 2016).
//!
//! Two by two outputs `Y` need a 4×4 tile `d` of the input: `Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` takes 16 products where the
//! direct sum takes 36. Summed over channels, these are 16 matrix products of (tiles × channels) by (channels ×
//! channels). Both adjoints are the same identity with the roles changed. All coefficients are 0, ±1 or ½, so rounding
//! stays within a small factor of the direct sum's.
//!
//! Channels lie in the vector lanes: images of any size fill them. An image passes through *strips*, a few rows with
//! their channels innermost (`strip`); transforms and products work on those (`transform`, `product`).
//!
//! For f32 alone: f64 is there to check it by.

mod correlate;
mod product;
mod strip;
mod tiles;
mod tiling;
mod transform;
mod weight_gradient;

pub(super) use correlate::correlate;
pub(super) use tiling::Tiling;
pub(super) use weight_gradient::weight_gradient;
