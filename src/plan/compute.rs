//! Precision, threads and memory.

use candle_core::DType;
use clap::Args;
use clap::builder::TypedValueParser;
use serde::{Deserialize, Serialize};

use super::{number_of, parsed_by};
use crate::objective::Execution;

/// Dtype of parameters, activations and gradients; sums over rows are in f64 in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single.
    #[default]
    F32,
    /// Double.
    F64,
}

impl Precision {
    /// candle's name for it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }
}

/// Parses a number of threads.
pub(super) fn threads() -> impl TypedValueParser<Value = usize> {
    number_of(1, 1024)
}

/// How much of the machine to use.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
#[command(next_help_heading = "Computation")]
pub struct ComputeArgs {
    /// Number of worker threads; results do not depend on it
    #[arg(long, value_name = "N", value_parser = threads())]
    #[arg(default_value_t = Execution::default().threads, hide_default_value = true)]
    pub threads: usize,
    /// Memory to plan with, such as 512MiB or 2GiB
    #[arg(long, value_name = "SIZE", value_parser = parsed_by(memory), default_value = "2GiB")]
    pub memory: usize,
}

impl ComputeArgs {
    /// For the engine.
    pub fn execution(&self) -> Execution {
        Execution { threads: self.threads, memory_bytes: self.memory }
    }
}

/// Bytes of `512MiB`, `2GiB`, `1GB` or a plain number.
fn memory(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err("units are KiB, MiB, GiB, MB and GB".into()),
    };
    match text[..digits].parse::<f64>() {
        Ok(number) if number * unit >= (1 << 24) as f64 => Ok((number * unit) as usize),
        _ => Err("must be at least 16MiB".into()),
    }
}
