//! The operations, one file a family: in it all that an operation is.

mod arithmetic;
mod attention;
mod checks;
mod convolution;
mod fused;
mod indices;
mod normalisation;
mod parts;
mod pointwise;
mod pooling;
mod products;
mod random;
mod reductions;
mod shapes;

pub use arithmetic::{Add, Mul, Sub};
pub use attention::{ScaledDotProductAttention, Softmax};
pub use checks::{Expect, Expected};
pub use convolution::Conv2d;
pub use fused::{First, Fused, Tokens};
pub use indices::{Arange, Compare, Comparison, Embedding, Where};
pub use normalisation::{BatchNorm, GroupNorm, LayerNorm};
pub use parts::{Cat, Pad, Select, Slice};
pub use pointwise::{Function, Unary};
pub use pooling::{AvgPool2d, MaxPool2d};
pub use products::{Linear, Matmul};
pub use random::Dropout;
pub use reductions::{Mean, Sum};
pub use shapes::{Expand, Flatten, Permute, Unflatten, View};

use super::Fact;

/// `[N, C, H, W]` with `channels` channels.
fn image(fact: &Fact, channels: Option<usize>) -> Result<[usize; 4], String> {
    match *fact.shape {
        [n, c, h, w] if channels.is_none_or(|channels| channels == c) => Ok([n, c, h, w]),
        _ => {
            let channels = channels.map_or("C".into(), |channels| channels.to_string());
            Err(format!("expects images [N, {channels}, H, W], but its input is {:?}", fact.shape))
        }
    }
}
