//! Residual networks in four stages (He et al. 2016, section 4.1), with torchvision's names, shapes and strides.

use super::parts::{batch_norm, conv, image, linear, size};
use crate::formats::{Extent, Layer};

/// The depths that torchvision names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    D18,
    D34,
    D50,
}

impl Depth {
    fn blocks(self) -> [usize; 4] {
        match self {
            Self::D18 => [2, 2, 2, 2],
            Self::D34 | Self::D50 => [3, 4, 6, 3],
        }
    }

    /// Whether blocks narrow to 1×1, 3×3, 1×1 convolutions and widen fourfold at their end.
    fn bottleneck(self) -> bool {
        self == Self::D50
    }
}

/// How the network begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stem {
    /// A 3×3 convolution.
    Cifar,
    /// A 7×7 convolution of stride 2, then 3×3 max pooling of stride 2.
    Imagenet,
}

/// Images of this many pixels or more begin with the stem for ImageNet.
const LARGE: usize = 64;

pub(super) fn layers(depth: Depth, arguments: &[&str], input: &[usize], outputs: usize) -> Result<Vec<Layer>, String> {
    let [channels, height, width_px] = image(input)?;
    let (mut stem, mut width) = (if height.min(width_px) >= LARGE { Stem::Imagenet } else { Stem::Cifar }, 64usize);
    for argument in arguments {
        match argument.split_once('=') {
            Some(("stem", "cifar")) => stem = Stem::Cifar,
            Some(("stem", "imagenet")) => stem = Stem::Imagenet,
            Some(("stem", value)) => return Err(format!("stem `{value}` is neither `cifar` nor `imagenet`")),
            Some(("width", value)) => width = size("width", value)?,
            _ => return Err(format!("unknown argument `{argument}`")),
        }
    }
    let kernel = if stem == Stem::Cifar { 3 } else { 7 };
    let stride = if stem == Stem::Cifar { 1 } else { 2 };
    let mut layers = vec![conv("conv1", channels, width, kernel, stride), batch_norm("bn1", width), Layer::Relu];
    if stem == Stem::Imagenet {
        let (kernel, stride, padding) = (Extent([3; 2]), Some(Extent([2; 2])), Extent([1; 2]));
        layers.push(Layer::MaxPool2d { kernel, stride, padding });
    }
    let mut inputs = width;
    for (stage, blocks) in depth.blocks().into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            let (residual, out) = residual(depth, &name, [inputs, width << stage], stride);
            layers.extend([residual, Layer::Relu]);
            inputs = out;
        }
    }
    layers.extend([Layer::GlobalAvgPool2d, linear("fc", inputs, outputs)]);
    Ok(layers)
}

/// A block from `inputs` channels through `inner` ones, and its channels at the end.
fn residual(depth: Depth, name: &str, [inputs, inner]: [usize; 2], stride: usize) -> (Layer, usize) {
    let out = if depth.bottleneck() { 4 * inner } else { inner };
    // In torchvision the 3×3 convolution has the stride, not the 1×1 before it as in the paper.
    let convolutions = if depth.bottleneck() {
        vec![(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, out, 1, 1)]
    } else {
        vec![(inputs, inner, 3, stride), (inner, out, 3, 1)]
    };
    let mut main = Vec::new();
    for (index, (inputs, outputs, kernel, stride)) in convolutions.into_iter().enumerate() {
        if index > 0 {
            main.push(Layer::Relu);
        }
        main.push(conv(&format!("{name}.conv{}", index + 1), inputs, outputs, kernel, stride));
        main.push(batch_norm(&format!("{name}.bn{}", index + 1), outputs));
    }
    let shortcut = if stride == 1 && inputs == out {
        Vec::new()
    } else {
        let projection = conv(&format!("{name}.downsample.0"), inputs, out, 1, stride);
        vec![projection, batch_norm(&format!("{name}.downsample.1"), out)]
    };
    (Layer::Residual { main, shortcut }, out)
}
