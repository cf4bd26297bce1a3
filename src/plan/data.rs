//! Which rows.

use clap::Args;

use super::parsed;
use crate::data::{DataSpec, LabelNoise, LabelSource, RowRange, Source, Split, Subset};

/// Which data, beside or in place of those that a checkpoint was trained on.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Data")]
pub struct DataArgs {
    /// Data source, such as glyphs or cifar10:DIR [default: the checkpoint's training data]
    ///
    /// glyphs, mnist:DIR, cifar10:DIR, cifar100:DIR, images:DIR, tensors:FILE (.safetensors, .npz, or a folder of .npy) or
    /// tokens:FILE,context=T
    #[arg(long, value_name = "SOURCE", value_parser = parsed::<Source>())]
    pub data: Option<Source>,
    /// train or test [default: the checkpoint's, else train; of evaluate test]
    #[arg(long, value_name = "SPLIT", value_parser = parsed::<Split>())]
    pub split: Option<Split>,
    /// Rows A to B-1 of the split
    #[arg(hide_short_help = true, long, value_name = "A..B", value_parser = parsed::<RowRange>())]
    pub rows: Option<RowRange>,
    /// A seeded random subset of N rows
    #[arg(long, value_name = "N")]
    pub subset: Option<usize>,
    /// Seed of --subset
    #[arg(hide_short_help = true, long, value_name = "S", default_value_t = 0)]
    pub subset_seed: u64,
    /// Human labels for the training rows: cifar10n:worse, aggre, random1, random2 or random3, cifar100n:noisy; with
    /// :FILE where they are not beside the data
    #[arg(hide_short_help = true, long, value_name = "SET[:FILE]", value_parser = parsed::<LabelSource>())]
    pub labels: Option<LabelSource>,
    /// Label noise: symmetric:P, asymmetric:P or instance:P
    #[arg(long, value_name = "KIND:P", value_parser = parsed::<LabelNoise>())]
    pub noise: Option<LabelNoise>,
    /// Seed of --noise
    #[arg(hide_short_help = true, long, value_name = "S", default_value_t = 0)]
    pub noise_seed: u64,
    /// Side in pixels of the images of images:DIR [default: 224]
    #[arg(hide_short_help = true, long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
    /// Read all files of images:DIR first and leave out those that cannot be decoded
    #[arg(hide_short_help = true, long)]
    pub skip_broken: bool,
}

impl DataArgs {
    /// The rows that the options make of `stored`; `None` where neither names a source.
    pub fn spec(&self, stored: Option<DataSpec>) -> Option<DataSpec> {
        let mut spec = self.data.clone().map(DataSpec::new).or(stored)?;
        spec.split = self.split.unwrap_or(spec.split);
        if self.rows.is_some() || self.subset.is_some() {
            // A new choice of rows replaces the stored one as a whole.
            spec.rows = self.rows;
            spec.subset = self.subset.map(|count| Subset { count, seed: self.subset_seed });
        }
        spec.labels = self.labels.clone().or(spec.labels);
        if let Some(noise) = self.noise {
            (spec.noise, spec.noise_seed) = (Some(noise), self.noise_seed);
        }
        spec.image_size = self.image_size.or(spec.image_size);
        spec.skip_broken |= self.skip_broken;
        Some(spec)
    }
}
