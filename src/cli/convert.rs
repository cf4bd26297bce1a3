//! `flatness convert`: weights and their architecture in one `.safetensors` file.

use std::path::PathBuf;

use candle_core::DType;
use clap::Args;
use serde_json::json;

use super::Ui;
use super::output::check_file;
use crate::Result;
use crate::checkpoint::{ARCH_KEY, Checkpoint, VERSION_KEY, read_architecture, write_checkpoint};
use crate::path_text::to_text;
use crate::plan::{ModelArgs, PlanError, RESULT};

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The .safetensors file to write
    #[arg(help_heading = RESULT, long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite an existing file
    #[arg(help_heading = RESULT, long)]
    force: bool,
}

pub(super) fn run(args: &ConvertArgs, ui: &mut Ui) -> Result<u8> {
    if args.out.extension().is_none_or(|extension| extension != "safetensors") {
        return Err(PlanError::option("--out", args.out.display(), "the name must end in .safetensors").into());
    }
    check_file(&args.out, args.force)?;
    let architecture = args.model.arch.as_deref().map(read_architecture).transpose()?;
    let checkpoint = Checkpoint::read_with(&args.model.checkpoint, architecture, args.model.choices())?;
    let mut metadata = checkpoint.metadata.clone();
    metadata.insert(ARCH_KEY.into(), checkpoint.network.about.description.clone());
    metadata.insert(VERSION_KEY.into(), env!("CARGO_PKG_VERSION").into());
    // f32 holds half precision exactly.
    let dtype = if checkpoint.stored_dtype == DType::F64 { DType::F64 } else { DType::F32 };
    write_checkpoint(&args.out, &checkpoint.network, &checkpoint.theta.to_dtype(dtype)?, &metadata)?;
    ui.answer(&json!({"file": to_text(&args.out), "parameters": checkpoint.network.space().dim()}));
    ui.say(&format!("wrote {}", args.out.display()));
    Ok(0)
}
