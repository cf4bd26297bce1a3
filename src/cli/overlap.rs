//! `flatness overlap`: how much the eigenspaces of two analyses have in common.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{CliError, Ui};
use crate::Result;
use crate::analysis::overlap;
use crate::checkpoint::{TensorFile, checked_rows};
use crate::vocabulary::End;

/// Arguments of `overlap`.
#[derive(Debug, Args)]
pub(super) struct OverlapArgs {
    /// Result folder of `analyze`, or its eigenvectors.safetensors
    first: PathBuf,
    /// Another, of the same architecture and scope
    second: PathBuf,
}

/// Metadata that must agree for the vectors to live in one space.
const SPACE: [&str; 2] = ["flatness.params", "flatness.scope"];

pub(super) fn run(args: &OverlapArgs, ui: &mut Ui) -> Result<u8> {
    let [first, second] = [read(&args.first)?, read(&args.second)?];
    for key in SPACE {
        if first.metadata.get(key) != second.metadata.get(key) {
            let paths = [args.first.clone(), args.second.clone()];
            return Err(CliError::OtherSpace { paths, what: key.trim_start_matches("flatness.") }.into());
        }
    }
    let mut report = json!({});
    for end in End::ALL.map(End::name) {
        let (a, b) = (checked_rows(&first, &args.first, end)?, checked_rows(&second, &args.second, end)?);
        if a.dims()[0] == 0 || b.dims()[0] == 0 {
            continue;
        }
        let found = overlap(&a, &b)?;
        report[end] = json!({"overlap": found.overlap, "cosines": found.cosines});
        let cosines: Vec<String> = found.cosines.iter().map(|cosine| format!("{cosine:.3}")).collect();
        let (k, l, n) = (a.dims()[0], b.dims()[0], a.dims()[1]);
        ui.print(&format!("{end:<7} overlap {:.4} of {k} and {l} vectors in {n} dimensions", found.overlap));
        ui.print(&format!("        cosines of the principal angles: {}", cosines.join(" ")));
    }
    ui.answer(&report);
    Ok(0)
}

fn read(path: &Path) -> Result<TensorFile> {
    let file = if path.is_dir() { path.join("eigenvectors.safetensors") } else { path.to_owned() };
    TensorFile::read(&file)
}
