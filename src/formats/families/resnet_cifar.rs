//! Residual networks for small images (He et al. 2016, section 4.2).

use super::parts::{batch_norm, conv, image, linear, size};
use crate::formats::Layer;

/// `6n + 2` layers in three stages of `width`, twice and four times as many channels.
pub(super) fn layers(arguments: &[&str], input: &[usize], outputs: usize) -> Result<Vec<Layer>, String> {
    let (mut depth, mut width, mut projected) = (20usize, 16usize, true);
    for argument in arguments {
        match argument.split_once('=') {
            None => depth = argument.parse().map_err(|_| format!("`{argument}` is not a depth"))?,
            Some(("width", value)) => width = size("width", value)?,
            Some(("shortcut", "conv")) => projected = true,
            Some(("shortcut", "pad")) => projected = false,
            Some(("shortcut", value)) => return Err(format!("shortcut `{value}` is neither `conv` nor `pad`")),
            Some((key, _)) => return Err(format!("unknown argument `{key}`")),
        }
    }
    if depth < 8 || (depth - 2) % 6 != 0 {
        return Err(format!("depth {depth} is not 6n + 2 (8, 14, 20, …)"));
    }
    if depth > 10_000 {
        return Err(format!("depth {depth} is above 10000"));
    }
    let [channels, height, width_px] = image(input)?;
    if height < 4 || width_px < 4 {
        return Err(format!("images {input:?} are too small"));
    }
    let mut layers = vec![conv("conv1", channels, width, 3, 1), batch_norm("bn1", width), Layer::Relu];
    let mut inputs = width;
    for stage in 0..3 {
        let out = width << stage;
        for block in 0..(depth - 2) / 6 {
            let name = format!("layer{}.{block}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let main = vec![
                conv(&format!("{name}.conv1"), inputs, out, 3, stride),
                batch_norm(&format!("{name}.bn1"), out),
                Layer::Relu,
                conv(&format!("{name}.conv2"), out, out, 3, 1),
                batch_norm(&format!("{name}.bn2"), out),
            ];
            let shortcut = match (inputs == out, projected) {
                (true, _) => Vec::new(),
                (false, false) => vec![Layer::SubsamplePad { inputs, outputs: out, stride }],
                (false, true) => vec![
                    conv(&format!("{name}.downsample.0"), inputs, out, 1, stride),
                    batch_norm(&format!("{name}.downsample.1"), out),
                ],
            };
            layers.extend([Layer::Residual { main, shortcut }, Layer::Relu]);
            inputs = out;
        }
    }
    layers.extend([Layer::GlobalAvgPool2d, linear("fc", inputs, outputs)]);
    Ok(layers)
}
