//! Arguments that several subcommands share.

use std::path::PathBuf;

use candle_core::DType;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::CliError;
use crate::Result;
use crate::checkpoint::Choices;
use crate::data::{DataSpec, LabelNoise, LabelSource, RowRange, Source, Split, Subset};
use crate::kernels::keep_freed_memory;
use crate::objective::Execution;
use crate::path_text::to_text;
use crate::program::BatchNormMode;

/// f32 or f64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DtypeArg {
    F32,
    F64,
}

impl DtypeArg {
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DeviceArg {
    Cpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum BatchNormArg {
    Eval,
    Train,
}

impl From<BatchNormArg> for BatchNormMode {
    fn from(arg: BatchNormArg) -> Self {
        match arg {
            BatchNormArg::Eval => Self::Eval,
            BatchNormArg::Train => Self::Train,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum L2Arg {
    /// The loss alone
    Out,
    /// With wd/2 ‖θ‖², wd as the checkpoint states it
    In,
}

/// Which weights.
#[derive(Debug, Clone, Args)]
pub(super) struct ModelArgs {
    /// Weights: .safetensors, a zipped .pth, or a .pt2 of torch.export
    pub(super) checkpoint: PathBuf,
    /// Architecture as .json, .toml, .pt2 or another checkpoint, or a family such as vit-b16 with --data, for weights that carry none (docs/models.md)
    #[arg(long, value_name = "FILE")]
    pub(super) arch: Option<PathBuf>,
    /// The output that the loss is of, by its name, where an exported module gives several [default: logits]
    #[arg(long, value_name = "NAME")]
    pub(super) output: Option<String>,
    /// The dictionary of weights to take, such as model_ema, where several in the file fit
    #[arg(long, value_name = "KEY")]
    pub(super) weights_key: Option<String>,
}

impl ModelArgs {
    /// What to take of a file that offers several things.
    pub(super) fn choices(&self) -> Choices<'_> {
        Choices { output: self.output.as_deref(), weights_key: self.weights_key.as_deref() }
    }
}

/// Which data.
#[derive(Debug, Clone, Args)]
pub(super) struct DataArgs {
    /// glyphs, mnist:DIR, cifar10:DIR, cifar100:DIR, images:DIR, tensors:FILE (.safetensors, .npz, or a folder of .npy) or
    /// tokens:FILE,context=T [default: the checkpoint's training data]
    #[arg(long, value_name = "SOURCE", value_parser = path_text())]
    pub(super) data: Option<String>,
    /// train or test
    #[arg(long, value_name = "SPLIT")]
    pub(super) split: Option<String>,
    /// Rows A to B-1 of the split
    #[arg(long, value_name = "A..B")]
    pub(super) rows: Option<String>,
    /// A seeded random subset of N rows
    #[arg(long, value_name = "N")]
    pub(super) subset: Option<usize>,
    /// Seed of --subset
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(super) subset_seed: u64,
    /// Human labels for the training rows: cifar10n:worse, aggre, random1, random2 or random3, cifar100n:noisy; with
    /// :FILE where they do not lie beside the data
    #[arg(long, value_name = "SET[:FILE]", value_parser = path_text())]
    pub(super) labels: Option<String>,
    /// Label noise: symmetric:P, asymmetric:P or instance:P
    #[arg(long, value_name = "KIND:P")]
    pub(super) noise: Option<String>,
    /// Seed of --noise
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(super) noise_seed: u64,
    /// Side in pixels of the images of an images:DIR [default: 224]
    #[arg(long, value_name = "PIXELS")]
    pub(super) image_size: Option<usize>,
    /// Read all files of an images:DIR first and leave out those that do not decode
    #[arg(long)]
    pub(super) skip_broken: bool,
}

impl DataArgs {
    /// The specification that the arguments make of `stored`; `None` where neither names a source.
    pub(super) fn spec(&self, stored: Option<DataSpec>) -> Result<Option<DataSpec>> {
        let mut spec = match (&self.data, stored) {
            (Some(text), _) => DataSpec::new(text.parse::<Source>()?),
            (None, Some(stored)) => stored,
            (None, None) => return Ok(None),
        };
        if let Some(split) = &self.split {
            spec.split = split.parse::<Split>()?;
        }
        if self.rows.is_some() || self.subset.is_some() {
            // A new choice of rows replaces the stored one as a whole.
            spec.rows = self.rows.as_deref().map(str::parse::<RowRange>).transpose()?;
            spec.subset = self.subset.map(|count| Subset { count, seed: self.subset_seed });
        }
        if let Some(labels) = &self.labels {
            spec.labels = Some(labels.parse::<LabelSource>()?);
        }
        if let Some(noise) = &self.noise {
            spec.noise = Some(noise.parse::<LabelNoise>()?);
            spec.noise_seed = self.noise_seed;
        }
        spec.image_size = self.image_size.or(spec.image_size);
        spec.skip_broken |= self.skip_broken;
        Ok(Some(spec))
    }
}

/// How to compute.
#[derive(Debug, Clone, Args)]
pub(super) struct ComputeArgs {
    /// Worker threads [default: one per core]; results do not depend on it
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// Memory to plan with, such as 512MiB or 2GiB; results do not depend on the machine
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub(super) memory: String,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceArg::Cpu)]
    pub(super) device: DeviceArg,
}

impl ComputeArgs {
    /// What is asked for, checked; the allocator hears of the memory.
    pub(super) fn execution(&self) -> Result<Execution> {
        let DeviceArg::Cpu = self.device;
        let mut execution = Execution::default();
        if let Some(threads) = self.threads {
            if threads == 0 || threads > super::MOST_THREADS {
                return Err(argument("--threads", &threads.to_string(), "must be 1 to 1024"));
            }
            execution.threads = threads;
        }
        execution.memory_bytes = parse_memory(&self.memory)?;
        keep_freed_memory(execution.memory_bytes);
        Ok(execution)
    }
}

/// Parses a text with a path in it, whose name may be no UTF-8.
pub(super) fn path_text() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().map(to_text)
}

/// Bytes of `512MiB`, `2GiB`, `1GB` or a plain number.
fn parse_memory(text: &str) -> Result<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(argument("--memory", text, "units are KiB, MiB, GiB, MB, GB")),
    };
    match text[..digits].parse::<f64>() {
        Ok(number) if number * unit >= (1 << 24) as f64 => Ok((number * unit) as usize),
        _ => Err(argument("--memory", text, "must be at least 16MiB")),
    }
}

/// [`CliError::Argument`].
pub(super) fn argument(argument: &'static str, value: &str, reason: &str) -> crate::Error {
    CliError::Argument { argument, value: value.into(), reason: reason.into() }.into()
}
