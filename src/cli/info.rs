//! `flatness info`: what a checkpoint says about itself.

use clap::Args;

use super::Ui;
use super::args::ModelArgs;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::models::{Architecture, Layer};

/// Arguments of `info`.
#[derive(Debug, Args)]
pub(super) struct InfoArgs {
    #[command(flatten)]
    model: ModelArgs,
}

pub(super) fn run(args: &InfoArgs, ui: &mut Ui) -> Result<u8> {
    let architecture = args.model.arch.as_deref().map(Architecture::read).transpose()?;
    let checkpoint = Checkpoint::read(&args.model.checkpoint, architecture)?;
    let architecture = &checkpoint.network.architecture;
    ui.print(&format!("checkpoint    {}", checkpoint.path.display()));
    ui.print(&format!("sha256        {}", checkpoint.sha256));
    ui.print(&format!("dtype         {}", checkpoint.stored_dtype.as_str()));
    ui.print(&format!("architecture  {}", architecture.name));
    if let Some(shape) = &architecture.input_shape {
        ui.print(&format!("input shape   {shape:?}"));
    }
    if let Some(loss) = &architecture.loss {
        ui.print(&format!("loss          {}, weight decay {}", loss.describe(), architecture.weight_decay));
    }
    for (key, value) in &checkpoint.metadata {
        if key != crate::checkpoint::ARCH_KEY {
            ui.print(&format!("{key:<13} {value}"));
        }
    }
    ui.print("\nlayers");
    print_layers(&architecture.layers, 1, ui);
    let space = &checkpoint.network.space;
    ui.print(&format!("\nparameters    {}", space.dim()));
    let width = space.tensors().iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
    let theta = checkpoint.theta.to_vec1::<f64>()?;
    for tensor in space.tensors() {
        let values = &theta[tensor.offset..tensor.offset + tensor.len()];
        let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let (shape, kind) = (format!("{:?}", tensor.shape), tensor.kind.name());
        ui.print(&format!("  {:<width$}  {shape:<16} {kind:<6} {:>9}  norm {norm:.4e}", tensor.name, tensor.len()));
    }
    Ok(0)
}

fn print_layers(layers: &[Layer], depth: usize, ui: &mut Ui) {
    for layer in layers {
        let indent = "  ".repeat(depth);
        match layer {
            Layer::Residual { main, shortcut } => {
                ui.print(&format!("{indent}residual"));
                print_layers(main, depth + 1, ui);
                ui.print(&format!("{indent}shortcut{}", if shortcut.is_empty() { " (identity)" } else { "" }));
                print_layers(shortcut, depth + 1, ui);
            }
            Layer::Sequence { layers } => {
                ui.print(&format!("{indent}sequence"));
                print_layers(layers, depth + 1, ui);
            }
            Layer::Concat { branches, .. } => {
                for branch in branches {
                    ui.print(&format!("{indent}branch"));
                    print_layers(branch, depth + 1, ui);
                }
            }
            layer => {
                let fields = serde_json::to_value(layer).unwrap_or_default();
                let fields: Vec<String> = fields
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(key, value)| *key != "kind" && value.is_number())
                    .map(|(key, value)| format!("{key} {value}"))
                    .collect();
                ui.print(&format!("{indent}{} {}", layer.kind(), fields.join(", ")));
            }
        }
    }
}
