//! Families: short forms that expand to a layer list.

use super::{Architecture, BatchNormMode, Extent, GeluForm, Layer, ModelError};

/// The families by name.
pub const FAMILIES: [&str; 3] = ["mlp", "cnn", "resnet-cifar"];

/// Expands a short form for samples of shape `input` and `outputs` outputs.
///
/// - `mlp:512-512[,relu|tanh|gelu|silu]`: hidden widths between input and output.
/// - `cnn:8-16[,relu|…]`: 3×3 convolution, activation and 2×2 max pool per width, then linear.
/// - `resnet-cifar:20[,width=16][,shortcut=conv|pad]`: `6n + 2` layers (He et al. 2016).
///
/// # Errors
/// An unknown family (with the nearest name) or a bad argument.
pub fn family(text: &str, input: &[usize], outputs: usize) -> Result<Architecture, ModelError> {
    let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let bad = |reason: String| ModelError::FamilyArgument { text: text.into(), reason };
    let layers = match name {
        "mlp" => mlp(&arguments, input, outputs).map_err(bad)?,
        "cnn" => cnn(&arguments, input, outputs).map_err(bad)?,
        "resnet-cifar" => resnet(&arguments, input, outputs).map_err(bad)?,
        _ => return Err(ModelError::UnknownFamily { name: name.into(), nearest: crate::nearest(name, FAMILIES) }),
    };
    Ok(Architecture {
        name: text.into(),
        layers,
        loss: None,
        input_shape: Some(input.to_vec()),
        param_order: None,
        normalisation: None,
        weight_decay: 0.0,
        batch_norm_mode: BatchNormMode::Eval,
    })
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
fn widths(arguments: &[&str], default: &[usize]) -> Result<(Vec<usize>, Layer), String> {
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

fn linear(name: &str, inputs: usize, outputs: usize) -> Layer {
    Layer::Linear { inputs, outputs, weight: format!("{name}.weight"), bias: Some(format!("{name}.bias")) }
}

fn conv(name: &str, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Layer {
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

fn batch_norm(name: &str, channels: usize) -> Layer {
    Layer::BatchNorm2d {
        channels,
        eps: 1e-5,
        momentum: 0.1,
        weight: Some(format!("{name}.weight")),
        bias: Some(format!("{name}.bias")),
        running_mean: format!("{name}.running_mean"),
        running_var: format!("{name}.running_var"),
    }
}

fn mlp(arguments: &[&str], input: &[usize], outputs: usize) -> Result<Vec<Layer>, String> {
    let (widths, activation) = widths(arguments, &[128])?;
    let mut layers = vec![Layer::Flatten];
    let mut inputs = input.iter().product();
    for (index, &width) in widths.iter().enumerate() {
        layers.extend([linear(&format!("fc{}", index + 1), inputs, width), activation.clone()]);
        inputs = width;
    }
    layers.push(linear(&format!("fc{}", widths.len() + 1), inputs, outputs));
    Ok(layers)
}

fn cnn(arguments: &[&str], input: &[usize], outputs: usize) -> Result<Vec<Layer>, String> {
    let (widths, activation) = widths(arguments, &[8, 16])?;
    let &[mut channels, mut height, mut width] = input else {
        return Err(format!("needs images [C, H, W], but a sample has shape {input:?}"));
    };
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

fn resnet(arguments: &[&str], input: &[usize], outputs: usize) -> Result<Vec<Layer>, String> {
    let (mut depth, mut width, mut projected) = (20usize, 16usize, true);
    for argument in arguments {
        match argument.split_once('=') {
            None => depth = argument.parse().map_err(|_| format!("`{argument}` is no depth"))?,
            Some(("width", value)) => width = value.parse().map_err(|_| format!("`{value}` is no width"))?,
            Some(("shortcut", "conv")) => projected = true,
            Some(("shortcut", "pad")) => projected = false,
            Some(("shortcut", value)) => return Err(format!("shortcut `{value}` is neither `conv` nor `pad`")),
            Some((key, _)) => return Err(format!("unknown argument `{key}`")),
        }
    }
    if depth < 8 || (depth - 2) % 6 != 0 || width == 0 {
        return Err(format!("depth {depth} is not 6n + 2 (8, 14, 20, …), or the width is 0"));
    }
    if depth > 10_000 {
        return Err(format!("depth {depth} is above 10000"));
    }
    let &[channels, height, width_px] = input else {
        return Err(format!("needs images [C, H, W], but a sample has shape {input:?}"));
    };
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
