//! Multilayer perceptrons.

use super::parts::{linear, widths};
use crate::formats::Layer;

/// Linear layers with the activation between.
pub(super) fn layers(arguments: &[&str], input: &[usize], outputs: usize) -> Result<Vec<Layer>, String> {
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
