//! A whole architecture: what it computes, its loss, and what else a checkpoint says about itself.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use serde::Serialize;
use serde_json::Value;

use super::layers::{LayerList, lower, unknown_field};
use super::{Exported, ModelError};
use crate::Result;
use crate::autodiff::ParamSpace;
use crate::data::Normalisation;
use crate::program::{About, BatchNormMode, Loss, Network, Program};

/// An architecture as read from JSON, TOML or an archive of torch.export, or made by a family.
#[derive(Debug, Clone, Serialize)]
pub struct Architecture {
    /// For titles.
    pub name: String,
    /// What it computes.
    #[serde(flatten)]
    pub body: Body,
    /// The loss it was described with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Shape of one sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_shape: Option<Vec<usize>>,
    /// Of its training data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
    /// The L2 coefficient it was trained with: `wd/2 ‖θ‖²`.
    pub weight_decay: f64,
    /// Statistics used in analysis.
    pub batch_norm_mode: BatchNormMode,
}

/// What an architecture computes.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// As a list of layers.
    Layers(LayerList),
    /// As a program, and the program to train it with where that is another one.
    Program {
        /// For analysis.
        program: Box<Program>,
        /// For training, on the same parameters and buffers.
        #[serde(skip_serializing_if = "Option::is_none")]
        training_program: Option<Box<Program>>,
    },
}

/// What a description says of its network.
const FIELDS: [&str; 10] = [
    "name",
    "layers",
    "program",
    "training_program",
    "loss",
    "input_shape",
    "param_order",
    "normalisation",
    "weight_decay",
    "batch_norm_mode",
];

/// What it may say besides, which is for people: where the network comes from, and numbers that follow from the rest.
const NOTES: [&str; 10] = [
    "source",
    "dtype",
    "num_samples",
    "num_outputs",
    "num_params",
    "parameters",
    "buffers",
    "seed",
    "kink_margin",
    "test_accuracy",
];

impl Architecture {
    /// An architecture of nothing but a body.
    pub fn new(name: impl Into<String>, body: Body) -> Self {
        Self {
            name: name.into(),
            body,
            loss: None,
            input_shape: None,
            normalisation: None,
            weight_decay: 0.0,
            batch_norm_mode: BatchNormMode::Eval,
        }
    }

    /// Reads a `.json` or `.toml` description, or an archive of torch.export, whose weights are left out.
    ///
    /// # Errors
    /// [`ModelError`] with the place of the fault.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = |source| ModelError::Io { path: path.into(), source };
        let bytes = crate::input::read(path).map_err(unreadable)?;
        let origin = path.display().to_string();
        if bytes.starts_with(b"PK\x03\x04") {
            let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            return Ok(Self::of_exported(&name, &Exported::read(&bytes, &origin, None)?));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?;
        if path.extension().is_some_and(|extension| extension == "toml") {
            let syntax = |reason: String| ModelError::Syntax { origin: origin.clone(), reason };
            let value: toml::Value = toml::from_str(&text).map_err(|error| syntax(error.to_string()))?;
            let value = serde_json::to_value(value).map_err(|error| syntax(error.to_string()))?;
            Ok(Self::from_value(&value, &origin)?)
        } else {
            Ok(Self::from_json(&text, &origin)?)
        }
    }

    /// The program that an archive of torch.export brings.
    pub(crate) fn of_exported(name: &str, exported: &Exported) -> Self {
        let training_program = exported.training.clone().map(Box::new);
        let body = Body::Program { program: Box::new(exported.program.clone()), training_program };
        let own =
            exported.program.loss.as_ref().filter(|loss| **loss != exported.program.output).map(|_| Loss::Program {});
        let plain = Self { loss: own.clone(), input_shape: exported.input_shape.clone(), ..Self::new(name, body) };
        match &exported.about {
            None => plain,
            Some(said) => Self {
                name: said.name.clone(),
                loss: said.loss.clone().or(own),
                normalisation: said.normalisation.clone(),
                weight_decay: said.weight_decay,
                ..plain
            },
        }
    }

    /// Reads a description from JSON text; `origin` names it in errors.
    ///
    /// # Errors
    /// [`ModelError`] with the place of the fault.
    pub fn from_json(text: &str, origin: &str) -> Result<Self, ModelError> {
        let value = serde_json::from_str(text)
            .map_err(|error| ModelError::Syntax { origin: origin.into(), reason: error.to_string() })?;
        Self::from_value(&value, origin)
    }

    fn from_value(value: &Value, origin: &str) -> Result<Self, ModelError> {
        let syntax = |reason: String| ModelError::Syntax { origin: origin.into(), reason };
        let object = value.as_object().ok_or_else(|| syntax("expected a table with the field `layers`".into()))?;
        if let Some(key) = object.keys().find(|key| !FIELDS.contains(&key.as_str()) && !NOTES.contains(&key.as_str())) {
            return Err(syntax(unknown_field(key, &FIELDS)));
        }
        let loss = object.get("loss").map(without_reduction).transpose().map_err(syntax)?;
        let input_shape: Option<Vec<usize>> = optional(object.get("input_shape"), "input_shape", origin)?;
        let body = match (object.get("layers"), optional(object.get("program"), "program", origin)?) {
            (Some(list), None) => {
                let param_order = optional(object.get("param_order"), "param_order", origin)?;
                let list = LayerList::read(list, param_order, input_shape.as_deref())?;
                if list.layers.is_empty() {
                    return Err(syntax("`layers` is empty".into()));
                }
                Body::Layers(list)
            }
            (None, Some(program)) => {
                let training = object.get("training_program");
                Body::Program { program, training_program: optional(training, "training_program", origin)? }
            }
            (None, None) => return Err(syntax("the field `layers` is missing".into())),
            (Some(_), Some(_)) => return Err(syntax("it has both `layers` and a `program`".into())),
        };
        let architecture = Self {
            name: optional(object.get("name"), "name", origin)?.unwrap_or_else(|| "model".into()),
            body,
            loss: optional(loss.as_ref(), "loss", origin)?,
            input_shape,
            normalisation: optional(object.get("normalisation").map(without_scale).as_ref(), "normalisation", origin)?,
            weight_decay: optional(object.get("weight_decay"), "weight_decay", origin)?.unwrap_or(0.0),
            batch_norm_mode: optional(object.get("batch_norm_mode"), "batch_norm_mode", origin)?.unwrap_or_default(),
        };
        if let Some(loss) = &architecture.loss {
            loss.check().map_err(|error| syntax(error.to_string()))?;
        }
        Ok(architecture)
    }

    /// The trainable parameters in order.
    ///
    /// # Errors
    /// As [`LayerList::param_space`].
    pub fn param_space(&self) -> Result<ParamSpace, ModelError> {
        match &self.body {
            Body::Layers(list) => list.param_space(),
            Body::Program { program, .. } => Ok(program.parameters.clone()),
        }
    }

    /// Names and shapes of the buffers in order.
    ///
    /// # Errors
    /// As [`LayerList::buffers`].
    pub fn buffers(&self) -> Result<Vec<(String, Vec<usize>)>, ModelError> {
        match &self.body {
            Body::Layers(list) => list.buffers(),
            Body::Program { program, .. } => Ok(program.buffers.clone()),
        }
    }

    /// The network, with the values of its buffers by name.
    ///
    /// # Errors
    /// Conflicting shapes, a bad `param_order`, a layer whose fields contradict one another; a program whose names do not
    /// exist.
    pub fn network(&self, buffers: HashMap<String, Tensor>) -> Result<Network> {
        let about = About {
            name: self.name.clone(),
            loss: self.loss.clone(),
            input_shape: self.input_shape.clone(),
            normalisation: self.normalisation.clone(),
            weight_decay: self.weight_decay,
            batch_norm_mode: self.batch_norm_mode,
            description: serde_json::json!(self).to_string(),
        };
        Ok(match &self.body {
            Body::Layers(list) => Network::new(lower(list)?, buffers, about)?,
            Body::Program { program, training_program } => {
                let network = Network::new((**program).clone(), buffers, about)?;
                match training_program {
                    None => network,
                    Some(training) => network.with_training((**training).clone())?,
                }
            }
        })
    }

    /// The same with `outputs` outputs of its last linear map; the one of a program only grows, where it has fewer.
    pub(crate) fn with_outputs(mut self, outputs: usize) -> Self {
        match &mut self.body {
            Body::Layers(list) => list.set_outputs(outputs),
            Body::Program { program, training_program } => {
                [Some(program), training_program.as_mut()].into_iter().flatten().for_each(|p| p.grow_outputs(outputs));
            }
        }
        self
    }

    /// The same with one parameter for each pair of names, the later and the first.
    pub(crate) fn tied(mut self, ties: &[(String, String)]) -> Self {
        let rename = |name: &mut String| {
            if let Some((_, first)) = ties.iter().find(|(later, _)| later == name) {
                name.clone_from(first);
            }
        };
        match &mut self.body {
            Body::Layers(list) => list.rename(&rename),
            Body::Program { program, training_program } => {
                [Some(program), training_program.as_mut()].into_iter().flatten().for_each(|p| p.tie(&rename));
            }
        }
        self
    }

    /// Name of the weight of the last linear map.
    pub fn head(&self) -> Option<&str> {
        match &self.body {
            Body::Layers(list) => list.head(),
            Body::Program { program, .. } => program.head().into_iter().next(),
        }
    }
}

/// Without a `reduction` that says what every loss here is, a mean.
fn without_reduction(value: &Value) -> Result<Value, String> {
    let mut value = value.clone();
    match value.as_object_mut().and_then(|object| object.remove("reduction")) {
        Some(reduction) if !reduction.as_str().is_some_and(|words| words.starts_with("mean")) => {
            Err(format!("`loss`: `reduction` is {reduction}, but only means are supported"))
        }
        _ => Ok(value),
    }
}

/// Without `scale`, which says for people that bytes are divided by 255.
fn without_scale(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.remove("scale");
    }
    value
}

fn optional<T: serde::de::DeserializeOwned>(
    value: Option<&Value>,
    field: &str,
    origin: &str,
) -> Result<Option<T>, ModelError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|error| ModelError::Syntax { origin: origin.into(), reason: format!("`{field}`: {error}") }),
    }
}
