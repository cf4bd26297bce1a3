//! Arguments and layers that several families have.

use crate::formats::{Extent, GeluForm, Layer};

/// A number of channels, layers or pixels: 1 to 2^20, so that products of three fit.
pub(super) fn size(name: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(size) if (1..=1 << 20).contains(&size) => Ok(size),
        _ => Err(format!("{name} `{value}` is not a number from 1 to 2^20")),
    }
}

/// `[C, H, W]`.
pub(super) fn image(input: &[usize]) -> Result<[usize; 3], String> {
    input.try_into().map_err(|_| format!("needs images [C, H, W], but a sample has shape {input:?}"))
}

fn activation(name: &str) -> Option<Layer> {
    Some(match name {
        "relu" => Layer::Relu,
        "tanh" => Layer::Tanh,
        "gelu" => Layer::Gelu { form: GeluForm::Erf },
        "silu" => Layer::Silu,
        _ => return None,
    })
}

/// Widths such as `512-256` and an activation, in any order.
pub(super) fn widths(arguments: &[&str], default: &[usize]) -> Result<(Vec<usize>, Layer), String> {
    let (mut widths, mut chosen) = (default.to_vec(), Layer::Relu);
    for argument in arguments {
        if let Some(layer) = activation(argument) {
            chosen = layer;
        } else {
            let parsed: Result<Vec<usize>, _> = argument.split('-').map(str::parse).collect();
            widths = parsed.map_err(|_| format!("`{argument}` is neither widths such as 512-512 nor an activation"))?;
            if widths.contains(&0) {
                return Err("a width of 0".into());
            }
        }
    }
    Ok((widths, chosen))
}

pub(super) fn linear(name: &str, inputs: usize, outputs: usize) -> Layer {
    Layer::Linear { inputs, outputs, weight: format!("{name}.weight"), bias: Some(format!("{name}.bias")) }
}

pub(super) fn conv(name: &str, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Layer {
    Layer::Conv2d {
        inputs,
        outputs,
        kernel: Extent([kernel; 2]),
        stride: Extent([stride; 2]),
        padding: Extent([kernel / 2; 2]),
        dilation: Extent([1; 2]),
        groups: 1,
        weight: format!("{name}.weight"),
        bias: None,
    }
}

pub(super) fn batch_norm(name: &str, channels: usize) -> Layer {
    Layer::BatchNorm2d {
        channels,
        eps: 1e-5,
        momentum: 0.1,
        weight: Some(format!("{name}.weight")),
        bias: Some(format!("{name}.bias")),
        running_mean: Some(format!("{name}.running_mean")),
        running_var: Some(format!("{name}.running_var")),
    }
}
