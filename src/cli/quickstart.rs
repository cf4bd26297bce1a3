//! `flatness quickstart`.
use std::ffi::OsString;
use clap::Args;
use super::Ui;
use crate::Result;
/// Arguments of `quickstart`.
#[derive(Debug, Args)]
pub(super) struct QuickstartArgs {}
pub(super) fn run(_: &QuickstartArgs, _: &[OsString], _: &mut Ui) -> Result<u8> { Ok(0) }
