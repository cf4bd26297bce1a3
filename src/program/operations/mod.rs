//! The operations, one file a family: in it all that an operation is.

mod arithmetic;
mod attention;
mod axes;
mod batch_norm;
mod checks;
mod choice;
mod composed;
mod constants;
mod convolution;
mod einsum;
mod experts;
mod extremes;
mod fused;
mod grids;
mod indices;
mod interpolation;
mod losses;
mod moments;
mod normalisation;
mod padding;
mod parts;
mod piecewise;
mod pointwise;
mod pooling;
mod products;
mod quotients;
mod random;
mod rearranged;
mod recurrent;
mod reductions;
mod resampling;
mod sampling;
mod scans;
mod scatter;
mod shapes;
mod volumes;
mod windows;
mod writes;

pub use arithmetic::{Add, Mul, Sub};
pub use attention::{LogSoftmax, LogSumExp, ScaledDotProductAttention, Softmax};
pub use axes::{Expand, Permute, Squeeze, Transpose, Unsqueeze};
pub use batch_norm::BatchNorm;
pub use checks::{Expect, Expected};
pub use choice::{Gather, Index, Roll};
pub use constants::{Connective, Cumsum, Fill, Full, Logical, PerChannel, To};
pub use convolution::{Conv2d, ConvTranspose2d};
pub use einsum::Einsum;
pub use experts::{EmbeddingBag, GroupedMm, Histc};
pub use extremes::{Amax, TopK};
pub(super) use fused::HARD_GATE;
pub use fused::{First, Fused, HardGate, Tokens};
pub use indices::{Arange, Compare, Comparison, Embedding, Where};
pub use interpolation::{Interpolated, Upsample};
pub use moments::{Norm, Variance};
pub use normalisation::{GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
pub use parts::{Cat, Chunk, Pad, Select, Slice};
pub use piecewise::{Clamp, Extremum, RoundedDiv, Step, Steps};
pub use pointwise::{Function, Pow, Unary};
pub use pooling::{AvgPool2d, MaxPool2d};
pub use products::{Linear, Matmul};
pub use random::{Draw, Dropout, Law};
pub use rearranged::{Fold, Picked, Rearrange};
pub use recurrent::{Cell, Recurrent, Rnn};
pub use reductions::{Mean, Sum};
pub use resampling::{AdaptiveAvgPool, AvgPool};
pub use scans::{Cumprod, Prod};
pub use scatter::{IndexPut, Scatter};
pub use shapes::{Flatten, Unflatten, View};
pub use volumes::Conv3d;
pub use windows::{AdaptiveMaxPool, MaxPool, Windows};
pub use writes::{SliceScatter, ViewAs};

use super::{Call, Fact, Operand, Results};

/// Every family that reads calls of PyTorch's.
const FAMILIES: [fn(&mut Call<'_>) -> Option<Results>; 35] = [
    arithmetic::read,
    attention::read,
    axes::read,
    batch_norm::read,
    choice::read,
    composed::read,
    constants::read,
    convolution::read,
    einsum::read,
    experts::read,
    extremes::read,
    grids::read,
    indices::read,
    interpolation::read,
    losses::read,
    moments::read,
    normalisation::read,
    padding::read,
    parts::read,
    piecewise::read,
    pointwise::read,
    products::read,
    quotients::read,
    random::read,
    rearranged::read,
    recurrent::read,
    reductions::read,
    resampling::read,
    sampling::read,
    scans::read,
    scatter::read,
    shapes::read,
    volumes::read,
    windows::read,
    writes::read,
];

/// Forms of operations that also make what their adjoints need, which no program reads.
const WITH_MORE: [&str; 8] = [
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "native_layer_norm",
    "native_group_norm",
    "native_dropout",
    "_fused_rms_norm",
    "_scaled_dot_product_flash_attention_for_cpu",
];

/// Reads a call by the family that knows it; `None` where none does.
pub(crate) fn read(call: &mut Call<'_>) -> Option<Results> {
    let mut results = FAMILIES.iter().find_map(|read| read(call))?;
    if let Ok(made) = &mut results
        && WITH_MORE.contains(&call.name)
    {
        made.resize(call.count, Operand::None);
    }
    Some(results)
}

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
