//! What a training run is, complete without a command line: the file `config.toml` in its folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PlanError, is_architecture};
use crate::checkpoint::{TensorFile, differences, read_architecture};
use crate::data::{DataSpec, Dataset, Targets};
use crate::files::write_atomic;
use crate::formats::{Architecture, Body, family};
use crate::{Result, input, path_text};

mod args;
mod config;
mod track;

pub use args::TrainArgs;
pub use config::{NormStatistics, TrainConfig};
pub use track::Track;

/// Name of the plan's file in a run folder.
pub const CONFIG_FILE: &str = "config.toml";

/// Everything that decides about a run's result, and where its initial weights are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainPlan {
    /// A family's short form; with neither this nor `architecture`, that of the initial weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// File of the initial weights.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::path_text::optional")]
    pub init: Option<PathBuf>,
    /// Its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_sha256: Option<String>,
    /// Whether a program that was exported in eval mode alone is trained all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub eval_export_ok: bool,
    /// How to train.
    #[serde(default)]
    pub train: TrainConfig,
    /// The training rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataSpec>,
    /// A network described in a file, as docs/models.md has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Value>,
}

impl TrainPlan {
    /// Reads `config.toml` of a run, or a file like it.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |reason: String| PlanError::File { path: path.into(), reason };
        let text = input::read_text(path).map_err(|error| bad(error.to_string()))?;
        Ok(toml::from_str(&text).map_err(|error| bad(error.to_string()))?)
    }

    /// Writes it into `folder`, atomically.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(CONFIG_FILE);
        let text =
            toml::to_string(self).map_err(|error| PlanError::File { path: path.clone(), reason: error.to_string() })?;
        let head = "# This run, complete: `flatness train --config FILE --out DIR` repeats it.\n";
        Ok(write_atomic(&path, |file| std::io::Write::write_all(file, format!("{head}{text}").as_bytes()))?)
    }

    /// Puts a family's short form, or the network in a file (by its path as text), in place of the model.
    pub fn set_model(&mut self, text: &str) -> Result<()> {
        let path = path_text::from_text(text);
        (self.model, self.architecture) = (None, None);
        if is_architecture(&path) {
            let mut value = serde_json::json!(read_architecture(&path)?);
            remove_nulls(&mut value);
            self.architecture = Some(value);
        } else {
            self.model = Some(text.to_owned());
        }
        Ok(())
    }

    /// The model in a word, for messages.
    pub fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or(if self.architecture.is_some() { "architecture" } else { "of --init" })
    }

    /// The network for `data`.
    pub fn network(&self, data: &Dataset, init: Option<&TensorFile>) -> Result<Architecture> {
        let architecture = self.architecture(data, init)?;
        match architecture.body {
            Body::Program { training_program: None, .. } if !self.eval_export_ok => Err(PlanError::EvalExport.into()),
            _ => Ok(architecture),
        }
    }

    fn architecture(&self, data: &Dataset, init: Option<&TensorFile>) -> Result<Architecture> {
        let outputs = match &data.targets {
            Targets::Classes { num_classes, .. } => *num_classes,
            Targets::Tokens { num_classes, .. } => *num_classes,
            Targets::Values { sample_shape, .. } => sample_shape.iter().product(),
        };
        if let Some(value) = &self.architecture {
            return Ok(Architecture::from_json(&value.to_string(), CONFIG_FILE)?);
        }
        if let Some(model) = &self.model {
            return Ok(family(model, &data.sample_shape, outputs)?);
        }
        let architecture = init.map(TensorFile::architecture).transpose()?.flatten().ok_or(PlanError::NoModel)?;
        Ok(match (&architecture.body, &data.targets) {
            (Body::Layers(_), _) | (_, Targets::Classes { .. }) => architecture.with_outputs(outputs),
            _ => architecture,
        })
    }

    /// Keys in which another plan differs, with both values. The place of the initial weights does not count.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let value = |plan: &Self| serde_json::json!(Self { init: None, ..plan.clone() });
        differences(&value(self), &value(other))
    }
}

/// TOML has no null.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(remove_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let network = folder.path().join("net.json");
        let json =
            r#"{"layers": [{"kind": "residual", "main": [{"kind": "linear", "in": 4, "out": 4, "weight": "w"}]}]}"#;
        std::fs::write(&network, json).unwrap();
        for model in ["resnet-cifar:8", network.to_str().unwrap()] {
            let mut plan = TrainPlan { data: Some(DataSpec::new("glyphs".parse().unwrap())), ..TrainPlan::default() };
            plan.train.optimizer = "fsgld:beta_inverse=1e-7".parse().unwrap();
            plan.train.track = Some("top:2,trace".parse().unwrap());
            plan.set_model(model).unwrap();
            plan.write(folder.path()).unwrap();
            let back = TrainPlan::read(&folder.path().join(CONFIG_FILE)).unwrap();
            assert!(back.differences(&plan).is_empty(), "{:?}", back.differences(&plan));
            assert_eq!(back, plan);
        }
    }
}
