//! `flatness completions` and `flatness man`: what shells and `man` read.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Ui};
use crate::{Error, Result};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs, ui: &mut Ui) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "flatness", &mut script);
    ui.print_lines(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Folder for flatness.1 and a page for each command, such as ~/.local/share/man/man1
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn pages(args: &ManArgs, ui: &mut Ui) -> Result<u8> {
    let failed = |source| Error::Io { path: args.out.clone(), source };
    std::fs::create_dir_all(&args.out).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.out).map_err(failed)?;
    ui.say(&format!("wrote {}", args.out.display()));
    Ok(0)
}
