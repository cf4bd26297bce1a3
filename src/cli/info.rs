//! `flatness info`: what a checkpoint says about itself, or what tensors a file holds.

use clap::Args;
use serde_json::{Map, Value, json};

use super::Ui;
use crate::Result;
use crate::checkpoint::{ARCH_KEY, Checkpoint, TensorFile, read_architecture};
use crate::kernels::norm_of;
use crate::path_text::to_text;
use crate::plan::ModelArgs;
use crate::program::{Kind, Node, Op, Program};

/// Arguments of `info`.
#[derive(Debug, Args)]
pub(super) struct InfoArgs {
    #[command(flatten)]
    model: ModelArgs,
}

pub(super) fn run(args: &InfoArgs, ui: &mut Ui) -> Result<u8> {
    let architecture = args.model.arch.as_deref().map(read_architecture).transpose()?;
    let file = TensorFile::read_with(&args.model.checkpoint, args.model.choices())?;
    let architecture = architecture.map_or_else(|| file.architecture(), |given| Ok(Some(given)))?;
    let Some(architecture) = architecture else {
        print_tensors(&file, ui);
        return Ok(0);
    };
    let checkpoint = Checkpoint::of(file, architecture)?;
    let about = &checkpoint.network.about;
    ui.print(&format!("checkpoint    {}", checkpoint.path.display()));
    ui.print(&format!("sha256        {}", checkpoint.sha256));
    ui.print(&format!("dtype         {}", checkpoint.stored_dtype.as_str()));
    ui.print(&format!("architecture  {}", about.name));
    if let Some(shape) = &about.input_shape {
        ui.print(&format!("input shape   {shape:?}"));
    }
    if let Some(loss) = &about.loss {
        ui.print(&format!("loss          {}, weight decay {}", loss.describe(), about.weight_decay));
    }
    for (key, value) in &checkpoint.metadata {
        if key != ARCH_KEY {
            ui.print(&format!("{key:<13} {value}"));
        }
    }
    ui.print("");
    ui.print("program");
    print_program(checkpoint.network.program(), ui);
    let space = checkpoint.network.space();
    ui.print("");
    ui.print(&format!("parameters    {}", space.dim()));
    let width = space.tensors().iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
    let theta = checkpoint.theta.to_vec1::<f64>()?;
    let mut tensors = Vec::new();
    for tensor in space.tensors() {
        let values = &theta[tensor.offset..tensor.offset + tensor.len()];
        let norm = norm_of(values);
        let (shape, kind) = (format!("{:?}", tensor.shape), tensor.kind.name());
        ui.print(&format!("  {:<width$}  {shape:<16} {kind:<6} {:>9}  norm {norm:.4e}", tensor.name, tensor.len()));
        tensors.push(json!({"name": tensor.name, "shape": tensor.shape, "kind": kind, "norm": norm}));
    }
    let metadata: Map<String, Value> = checkpoint.metadata.iter().map(parsed).collect();
    ui.answer(&json!({
        "file": to_text(&checkpoint.path),
        "sha256": checkpoint.sha256,
        "dtype": checkpoint.stored_dtype.as_str(),
        "architecture": about.name,
        "input_shape": about.input_shape,
        "loss": about.loss,
        "weight_decay": about.weight_decay,
        "metadata": metadata,
        "num_params": space.dim(),
        "tensors": tensors,
    }));
    Ok(0)
}

/// An entry of the metadata; most are JSON themselves.
fn parsed((key, value): (&String, &String)) -> (String, Value) {
    (key.clone(), serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into()))
}

/// All tensors of a file that names no network.
fn print_tensors(file: &TensorFile, ui: &mut Ui) {
    let (tensors, unread) = file.list();
    ui.print(&format!("file          {}", file.path().display()));
    ui.print(&format!("sha256        {}", file.sha256));
    ui.print("architecture  none in the file; describe it with --arch");
    for (key, value) in &file.metadata {
        ui.print(&format!("{key:<13} {value}"));
    }
    ui.print("");
    ui.print(&format!("tensors       {}", tensors.len()));
    let width = tensors.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let mut listed = Vec::new();
    for (name, shape, dtype) in tensors {
        listed.push(json!({"name": name, "shape": shape, "dtype": dtype.to_string()}));
        ui.print(&format!("  {name:<width$}  {:<16} {dtype}", format!("{shape:?}")));
    }
    if !unread.is_empty() {
        ui.print("");
        ui.print(&format!("not read      {}", unread.len()));
        unread.iter().for_each(|(name, reason)| ui.print(&format!("  {name}: {reason}")));
    }
    let metadata: Map<String, Value> = file.metadata.iter().map(parsed).collect();
    let unread: Map<String, Value> = unread.iter().map(|(name, reason)| (name.clone(), json!(reason))).collect();
    ui.answer(&json!({
        "file": to_text(file.path()),
        "sha256": file.sha256,
        "architecture": null,
        "metadata": metadata,
        "tensors": listed,
        "unread": unread,
    }));
}

/// The inputs, then the operations in order under the modules that they come from.
fn print_program(program: &Program, ui: &mut Ui) {
    for input in &program.inputs {
        let kind = match input.kind {
            Kind::Float => "floats",
            Kind::Whole => "whole numbers",
            Kind::Truth => "truth values",
        };
        ui.print(&format!("  input {}: {kind}", input.name));
    }
    let nodes: Vec<&Node> = program.nodes.iter().filter(|node| !matches!(node.operation, Op::Expect(_))).collect();
    for group in nodes.chunk_by(|a, b| a.place == b.place) {
        if let Some(Node { place, .. }) = group.first() {
            let named = if place.module.is_empty() { String::new() } else { format!("{} ", place.module) };
            ui.print(&format!("  {named}({})", place.kind));
        }
        for node in group {
            ui.print(&format!("    {} = {}", node.name, node.call()));
        }
    }
}
