//! What `evaluate` measures.

use std::str::FromStr;

use clap::Args;
use serde::Serialize;

use super::{PlanError, number_of, parsed};
use crate::data::{DataError, Source};

/// Rows of another origin than those that a network was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutsideRows {
    /// Images of noise: as many as there are evaluated rows, each value uniform on 0..1.
    Noise,
    /// Those of a source, its test split where it has one.
    Source(Source),
}

impl OutsideRows {
    /// Where they come from, if they are not made.
    pub(crate) fn source(&self) -> Option<&Source> {
        match self {
            Self::Noise => None,
            Self::Source(source) => Some(source),
        }
    }
}

impl FromStr for OutsideRows {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        if text == "noise" { Ok(Self::Noise) } else { text.parse().map(Self::Source) }
    }
}

impl Serialize for OutsideRows {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Noise => serializer.serialize_str("noise"),
            Self::Source(source) => source.serialize(serializer),
        }
    }
}

/// What to measure and how well.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
#[command(next_help_heading = "What to measure")]
pub struct EvaluateOptions {
    /// Sets of rows that the network was not made for, such as glyphs, mnist:DIR, tensors:FILE (without labels too) or noise
    #[arg(long, value_name = "SOURCES", value_delimiter = ',', value_parser = parsed::<OutsideRows>())]
    pub ood: Vec<OutsideRows>,
    /// Share of the rows on which a temperature is fitted; the others measure it. 0 fits none
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value_t = Self::default().held_out)]
    pub held_out: f64,
    /// Resamples of the rows for the errors of calibration and detection
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = number_of(2, 1_000_000), default_value_t = Self::default().resamples)]
    pub resamples: usize,
    /// Seed of the rows held out, the resamples and the noise
    #[arg(long, value_name = "S", default_value_t = Self::default().seed)]
    pub seed: u64,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self { ood: Vec::new(), held_out: 0.2, resamples: 1000, seed: 0 }
    }
}

impl EvaluateOptions {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`PlanError::Option`] for the first one out of its range.
    pub fn check(&self) -> Result<(), PlanError> {
        match self.held_out {
            share if (0.0..1.0).contains(&share) => Ok(()),
            share => Err(PlanError::option("--held-out", share, "must be 0 or more and below 1")),
        }
    }
}
