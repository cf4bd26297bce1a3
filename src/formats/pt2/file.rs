//! The files of `tools/export_torch.py`: safetensors whose metadata hold torch.export's graphs of both modes.

use std::collections::{BTreeMap, HashSet};

use candle_core::Tensor;
use serde::Deserialize;

use super::schema::Model;
use super::tensors::{Loaded, Location};
use super::{Building, Exported, ModelError, Said};
use crate::Result;
use crate::data::Normalisation;
use crate::program::{Kind, Loss};

/// The content of the metadata entry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// In eval mode.
    analysis: Model,
    /// In training mode.
    training: Option<Model>,
    /// Parameters with `requires_grad=False`.
    frozen: HashSet<String>,
    /// Names of tensors that are stored under another one.
    tied: BTreeMap<String, String>,
    name: String,
    loss: Option<Loss>,
    normalisation: Option<Normalisation>,
    weight_decay: f64,
}

impl Exported {
    /// Metadata key of the graphs.
    pub const KEY: &'static str = "flatness.export";

    /// Reads the graphs `text` over the tensors of the same file; `origin` and `output` as in [`Exported::read`].
    ///
    /// # Errors
    /// As [`Exported::read`].
    pub(crate) fn over_tensors(
        text: &str,
        tensors: &dyn Fn(&str) -> Result<Option<Tensor>, String>,
        origin: &str,
        output: Option<&str>,
    ) -> Result<Self> {
        let wrong = |reason: String| ModelError::Archive { origin: origin.into(), reason };
        let content: Content = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let tensor = |name: &str, kind: Kind| -> Result<Option<Loaded>, String> {
            let first = content.tied.get(name).map_or(name, String::as_str);
            let at = |reason: String| format!("tensor `{first}`: {reason}");
            let Some(tensor) = tensors(first).map_err(at)? else { return Ok(None) };
            let loaded = Loaded::new(&tensor, kind, Location { entry: first.into(), stored: None }).map_err(at)?;
            Ok(Some(Loaded { requires_grad: Some(!content.frozen.contains(name)), ..loaded }))
        };
        let building = |model, in_training| Building::of(model, &tensor, in_training);
        let training = content.training.as_ref().map(|model| building(model, true)).transpose();
        let exported = training
            .and_then(|training| building(&content.analysis, false)?.exported(training, output))
            .map_err(|failure| failure.into_error(origin))?;
        let Content { name, loss, normalisation, weight_decay, .. } = content;
        Ok(Self { about: Some(Said { name, loss, normalisation, weight_decay }), ..exported })
    }
}
