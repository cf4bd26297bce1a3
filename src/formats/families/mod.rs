//! Families: short forms that expand to a layer list.

mod cnn;
mod mlp;
mod names;
mod parts;
mod resnet;
mod resnet_cifar;
mod vit;

pub use names::FAMILIES;

use super::{Architecture, Body, LayerList, ModelError};
use resnet::Depth;
use vit::Sizes;

/// Expands a short form for samples of shape `input` and `outputs` outputs.
///
/// - `mlp:512-512[,relu|tanh|gelu|silu]`: hidden widths between input and output.
/// - `cnn:8-16[,relu|…]`: 3×3 convolution, activation and 2×2 max pool per width, then linear.
/// - `resnet-cifar:20[,width=16][,shortcut=conv|pad]`: `6n + 2` layers (He et al. 2016).
/// - `resnet18|resnet34|resnet50[:stem=cifar|imagenet][,width=64]`: torchvision's, in names and shapes.
/// - `vit:patch=4,width=192,depth=9,heads=3[,mlp=4]`, `vit-b16`: vision transformers with timm's names.
///
/// # Errors
/// An unknown family (with the nearest name) or a bad argument.
pub fn family(text: &str, input: &[usize], outputs: usize) -> Result<Architecture, ModelError> {
    let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let bad = |reason: String| ModelError::FamilyArgument { text: text.into(), reason };
    let layers = match name {
        "mlp" => mlp::layers(&arguments, input, outputs).map_err(bad)?,
        "cnn" => cnn::layers(&arguments, input, outputs).map_err(bad)?,
        "resnet-cifar" => resnet_cifar::layers(&arguments, input, outputs).map_err(bad)?,
        "resnet18" => resnet::layers(Depth::D18, &arguments, input, outputs).map_err(bad)?,
        "resnet34" => resnet::layers(Depth::D34, &arguments, input, outputs).map_err(bad)?,
        "resnet50" => resnet::layers(Depth::D50, &arguments, input, outputs).map_err(bad)?,
        "vit" => vit::layers(Sizes::default(), &arguments, input, outputs).map_err(bad)?,
        "vit-b16" => vit::layers(Sizes::B16, &arguments, input, outputs).map_err(bad)?,
        _ => {
            let nearest = of_he(name).or_else(|| crate::nearest(name, FAMILIES));
            return Err(ModelError::UnknownFamily { name: name.into(), nearest });
        }
    };
    let mut list = LayerList { layers, param_order: None };
    if name.starts_with("vit") {
        list.param_order = Some(vit::param_order(&list)?);
    }
    Ok(Architecture { input_shape: Some(input.to_vec()), ..Architecture::new(text, Body::Layers(list)) })
}

/// `resnet20` and its like, as many call the networks of `6n + 2` layers for CIFAR.
fn of_he(name: &str) -> Option<String> {
    let depth: usize = name.strip_prefix("resnet")?.trim_matches(['-', '_']).parse().ok()?;
    (depth > 2 && depth % 6 == 2).then(|| format!("resnet-cifar:{depth}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Layer;

    fn refusal(text: &str, input: &[usize]) -> String {
        let error = family(text, input, 10).unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    }

    #[test]
    fn bad_arguments_say_what_is_wrong() {
        for (text, input, part) in [
            ("resnet18:stem=mnist", [3, 32, 32], "neither `cifar` nor `imagenet`"),
            ("resnet50:depth=3", [3, 32, 32], "unknown argument `depth=3`"),
            ("resnet34:width=0", [3, 32, 32], "width `0`"),
            ("resnet-cifar:20,width=4611686018427387904", [3, 32, 32], "width `4611686018427387904`"),
            ("vit:heads=5", [3, 32, 32], "5 heads do not divide a width of 192"),
            ("vit:patch=5", [3, 32, 32], "patches of 5x5 do not tile"),
            ("vit:depth", [3, 32, 32], "unknown argument `depth`"),
            ("vit:size=3", [3, 32, 32], "unknown argument `size`"),
            ("vit-b16", [3, 24, 32], "patches of 16x16"),
            ("vit:depth=20000", [3, 32, 32], "above 10000"),
        ] {
            let error = refusal(text, &input);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(refusal("vit", &[784]).contains("needs images"));
        assert!(refusal("resnet19", &[3, 32, 32]).contains("resnet19"));
        let hint = |text: &str| family(text, &[3, 32, 32], 10).unwrap_err().hint().unwrap();
        assert!(hint("resnet20").contains("did you mean `resnet-cifar:20`?"));
        assert!(hint("resnet19").contains("did you mean `resnet18`?"), "{}", hint("resnet19"));
    }

    #[test]
    fn the_stem_follows_the_image() {
        let layers = |text: &str, size: usize| match family(text, &[3, size, size], 10).unwrap().body {
            Body::Layers(list) => list.layers,
            Body::Program { .. } => unreachable!("families are lists of layers"),
        };
        let begins = |text: &str, size: usize| match &layers(text, size)[0] {
            Layer::Conv2d { kernel, stride, .. } => (kernel.0[0], stride.0[0]),
            other => panic!("begins with {}", other.kind()),
        };
        assert_eq!([begins("resnet18", 32), begins("resnet18", 63), begins("resnet50", 64)], [(3, 1), (3, 1), (7, 2)]);
        assert_eq!([begins("resnet18:stem=imagenet", 32), begins("resnet34:stem=cifar", 224)], [(7, 2), (3, 1)]);
    }

    #[test]
    fn a_vit_counts_what_the_paper_counts() {
        let dim = |text: &str, size: usize| family(text, &[3, size, size], 1000).unwrap().param_space().unwrap().dim();
        // ViT-B/16 at 224 pixels with 1000 classes: 86,567,656, as torchvision's and timm's models count.
        assert_eq!(dim("vit-b16", 224), 86_567_656);
    }
}
