//! A whole architecture: layers, loss, and what else a checkpoint says about itself.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use serde::Serialize;
use serde_json::Value;

use super::tokens::Tokens;
use super::{Layer, ModelError, parse};
use crate::Result;
use crate::autodiff::{ParamKind, ParamSpace};
use crate::data::Normalisation;
use crate::program::{About, BatchNormMode, Loss, MAX_ELEMENTS, Network, element_count};

/// An architecture as read from JSON or TOML, or made by a family. Tensor names carry no `module.`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Architecture {
    /// For titles.
    pub name: String,
    /// The layers in order.
    pub layers: Vec<Layer>,
    /// The loss it was described with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Shape of one sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_shape: Option<Vec<usize>>,
    /// Order of the parameters in the flat vector; layer order where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param_order: Option<Vec<String>>,
    /// Of its training data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalisation: Option<Normalisation>,
    /// The L2 coefficient it was trained with: `wd/2 ‖θ‖²`.
    pub weight_decay: f64,
    /// Statistics used in analysis.
    pub batch_norm_mode: BatchNormMode,
}

/// What a description says of its network.
const FIELDS: [&str; 8] =
    ["name", "layers", "loss", "input_shape", "param_order", "normalisation", "weight_decay", "batch_norm_mode"];

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
    /// Reads a `.json` or `.toml` description.
    ///
    /// # Errors
    /// [`ModelError`] with the place of the fault.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let unreadable = |source| ModelError::Io { path: path.into(), source };
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let origin = path.display().to_string();
        if bytes.starts_with(b"PK\x03\x04") {
            return Err(ModelError::NoDescription { origin });
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?;
        if path.extension().is_some_and(|extension| extension == "toml") {
            let value: toml::Value = toml::from_str(&text)
                .map_err(|error| ModelError::Syntax { origin: origin.clone(), reason: error.to_string() })?;
            let value = serde_json::to_value(value)
                .map_err(|error| ModelError::Syntax { origin: origin.clone(), reason: error.to_string() })?;
            Self::from_value(&value, &origin)
        } else {
            Self::from_json(&text, &origin)
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
            return Err(syntax(parse::unknown_field(key, &FIELDS)));
        }
        let loss = object.get("loss").map(without_reduction).transpose().map_err(syntax)?;
        let list = object.get("layers").ok_or_else(|| syntax("the field `layers` is missing".into()))?;
        let input_shape: Option<Vec<usize>> = optional(object.get("input_shape"), "input_shape", origin)?;
        let mut layers = parse::layers(list, "layers", Tokens::new(input_shape.as_deref()))?;
        rename_all(&mut layers);
        let mut architecture = Self {
            name: optional(object.get("name"), "name", origin)?.unwrap_or_else(|| "model".into()),
            layers,
            loss: optional(loss.as_ref(), "loss", origin)?,
            input_shape,
            param_order: optional(object.get("param_order"), "param_order", origin)?,
            normalisation: optional(object.get("normalisation").map(without_scale).as_ref(), "normalisation", origin)?,
            weight_decay: optional(object.get("weight_decay"), "weight_decay", origin)?.unwrap_or(0.0),
            batch_norm_mode: optional(object.get("batch_norm_mode"), "batch_norm_mode", origin)?.unwrap_or_default(),
        };
        if architecture.layers.is_empty() {
            return Err(syntax("`layers` is empty".into()));
        }
        if let Some(loss) = &architecture.loss {
            loss.check().map_err(|error| syntax(error.to_string()))?;
        }
        architecture.param_order.iter_mut().flatten().for_each(strip_module);
        architecture.param_space()?;
        Ok(architecture)
    }

    /// The parameters in the order of `param_order`, else of the layers; a name used twice is one tensor.
    ///
    /// # Errors
    /// Conflicting shapes, or a `param_order` that does not match.
    pub fn param_space(&self) -> Result<ParamSpace, ModelError> {
        let mut params: Vec<(String, Vec<usize>, ParamKind)> = Vec::new();
        for (name, shape, role) in self.unique_tensors()? {
            params.extend(role.map(|kind| (name, shape, kind)));
        }
        if let Some(order) = &self.param_order {
            let mut by_name: HashMap<String, (String, Vec<usize>, ParamKind)> =
                params.into_iter().map(|param| (param.0.clone(), param)).collect();
            let (mut sorted, mut unknown) = (Vec::new(), Vec::new());
            for name in order {
                match by_name.remove(name) {
                    Some(param) => sorted.push(param),
                    None => unknown.push(name.clone()),
                }
            }
            if !(by_name.is_empty() && unknown.is_empty()) {
                let mut missing: Vec<String> = by_name.into_keys().collect();
                missing.sort();
                return Err(ModelError::ParamOrder { missing, unknown });
            }
            params = sorted;
        }
        Ok(ParamSpace::new(params))
    }

    /// Names and shapes of the buffers (running statistics) in layer order.
    ///
    /// # Errors
    /// Conflicting shapes.
    pub fn buffers(&self) -> Result<Vec<(String, Vec<usize>)>, ModelError> {
        let tensors = self.unique_tensors()?;
        Ok(tensors.into_iter().filter(|(_, _, role)| role.is_none()).map(|(name, shape, _)| (name, shape)).collect())
    }

    /// The network that the layers describe, with the values of its buffers by name.
    ///
    /// # Errors
    /// Conflicting shapes, a bad `param_order`, or a layer whose fields contradict one another.
    pub fn network(&self, buffers: HashMap<String, Tensor>) -> Result<Network> {
        let about = About {
            name: self.name.clone(),
            loss: self.loss.clone(),
            input_shape: self.input_shape.clone(),
            normalisation: self.normalisation.clone(),
            weight_decay: self.weight_decay,
            batch_norm_mode: self.batch_norm_mode,
            description: self.to_json(),
        };
        Ok(Network::new(super::lower::lower(self)?, buffers, about)?)
    }

    /// As JSON text, for a checkpoint's metadata.
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    fn unique_tensors(&self) -> Result<Vec<OwnedTensor>, ModelError> {
        let mut all = Vec::new();
        collect(&self.layers, &mut all);
        let mut unique: Vec<OwnedTensor> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut total = 0;
        for (name, shape, role) in all {
            match seen.get(&name) {
                None => {
                    total += element_count(&shape).unwrap_or(MAX_ELEMENTS + 1);
                    if total > MAX_ELEMENTS {
                        return Err(ModelError::TooLarge { name, shape });
                    }
                    seen.insert(name.clone(), unique.len());
                    unique.push((name, shape, role));
                }
                Some(&index) if unique[index].1 == shape => {}
                Some(&index) => {
                    return Err(ModelError::ConflictingShapes { name, first: unique[index].1.clone(), second: shape });
                }
            }
        }
        Ok(unique)
    }
}

/// Name, shape and role of a tensor that a layer names; no role marks a buffer.
type OwnedTensor = (String, Vec<usize>, Option<ParamKind>);

fn collect(layers: &[Layer], all: &mut Vec<OwnedTensor>) {
    for layer in layers {
        all.extend(layer.tensors().into_iter().map(|(name, shape, role)| (name.to_owned(), shape, role)));
        layer.children().into_iter().for_each(|(_, list)| collect(list, all));
    }
}

/// PyTorch's `DataParallel` puts `module.` in front of every name.
fn strip_module(name: &mut String) {
    if let Some(rest) = name.strip_prefix("module.") {
        *name = rest.to_owned();
    }
}

fn rename_all(layers: &mut [Layer]) {
    for layer in layers {
        layer.rename(&strip_module);
        layer.children_mut().into_iter().for_each(|list| rename_all(list));
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
