//! Which weights, and of which network.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::checkpoint::Choices;

/// Which weights.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Network")]
pub struct ModelArgs {
    /// Weights: .safetensors, .pth, or the .pt2 of torch.export
    #[arg(help_heading = Option::<&str>::None)]
    #[serde(skip)]
    pub checkpoint: PathBuf,
    /// Architecture, for weights that carry none (docs/models.md)
    ///
    /// A .json, .toml or .pt2 file, another checkpoint, or a family such as vit-b16 with --data
    #[arg(long, value_name = "FILE")]
    #[serde(with = "crate::path_text::optional", skip_serializing_if = "Option::is_none")]
    pub arch: Option<PathBuf>,
    /// Name of the output that the loss is computed from, where an exported module gives several [default: logits]
    #[arg(hide_short_help = true, long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Dictionary of weights to take, such as model_ema, where several in the file fit
    #[arg(hide_short_help = true, long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_key: Option<String>,
}

impl ModelArgs {
    /// What to take of a file that offers several things.
    pub fn choices(&self) -> Choices<'_> {
        Choices { output: self.output.as_deref(), weights_key: self.weights_key.as_deref() }
    }
}

/// Whether a model is given as a file.
pub fn is_architecture(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["json", "toml", "pt2", "safetensors"].contains(&extension)
}
