//! Small convolutional networks.

use super::parts::{conv, image, linear, widths};
use crate::formats::{Extent, Layer};

/// Per width a 3×3 convolution, the activation and 2×2 max pooling; then linear.
pub(super) fn layers(arguments: &[&str], input: &[usize], outputs: usize) -> Result<Vec<Layer>, String> {
    let (widths, activation) = widths(arguments, &[8, 16])?;
    let [mut channels, mut height, mut width] = image(input)?;
    let mut layers = Vec::new();
    for (index, &out) in widths.iter().enumerate() {
        let name = format!("conv{}", index + 1);
        let Layer::Conv2d { inputs, outputs, kernel, stride, padding, dilation, groups, weight, .. } =
            conv(&name, channels, out, 3, 1)
        else {
            continue;
        };
        let bias = Some(format!("{name}.bias"));
        layers.push(Layer::Conv2d { inputs, outputs, kernel, stride, padding, dilation, groups, weight, bias });
        layers.push(activation.clone());
        layers.push(Layer::MaxPool2d { kernel: Extent([2; 2]), stride: None, padding: Extent([0; 2]) });
        if height < 2 || width < 2 {
            return Err(format!("images {input:?} are too small for {} poolings", widths.len()));
        }
        (channels, height, width) = (out, height / 2, width / 2);
    }
    layers.extend([Layer::Flatten, linear("fc", channels * height * width, outputs)]);
    Ok(layers)
}
