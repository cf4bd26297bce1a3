//! A list of layers and the tensors that it names.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::Value;

use super::tokens::Tokens;
use super::{Layer, ModelError, parse};
use crate::autodiff::ParamSpace;
use crate::program::{MAX_ELEMENTS, element_count};
use crate::vocabulary::ParamKind;

/// The layers of an architecture. Tensor names carry no `module.`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerList {
    /// The layers in order.
    pub layers: Vec<Layer>,
    /// Order of the parameters in the flat vector; layer order where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param_order: Option<Vec<String>>,
}

impl LayerList {
    /// Reads a list of layers for samples of a shape.
    ///
    /// # Errors
    /// [`ModelError`] with the place of the fault.
    pub(in crate::formats) fn read(
        layers: &Value,
        param_order: Option<Vec<String>>,
        input_shape: Option<&[usize]>,
    ) -> Result<Self, ModelError> {
        let layers = parse::layers(layers, "layers", Tokens::new(input_shape))?;
        let mut list = Self { layers, param_order };
        list.rename(&strip_module);
        list.param_space()?;
        Ok(list)
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

    /// Gives tensors other names; parameters of equal names become one.
    pub(in crate::formats) fn rename(&mut self, rename: &impl Fn(&mut String)) {
        rename_all(&mut self.layers, rename);
        if let Some(order) = &mut self.param_order {
            order.iter_mut().for_each(rename);
            let mut seen = HashSet::new();
            order.retain(|name| seen.insert(name.clone()));
        }
    }

    /// The weight of the last linear layer.
    pub(crate) fn head(&self) -> Option<&str> {
        self.layers.iter().rev().find_map(|layer| match layer {
            Layer::Linear { weight, .. } => Some(weight.as_str()),
            _ => None,
        })
    }

    /// Gives the last linear layer another number of outputs.
    pub(crate) fn set_outputs(&mut self, number: usize) {
        let last = self.layers.iter_mut().rev().find_map(|layer| match layer {
            Layer::Linear { outputs, .. } => Some(outputs),
            _ => None,
        });
        if let Some(last) = last {
            *last = number;
        }
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

fn rename_all(layers: &mut [Layer], rename: &impl Fn(&mut String)) {
    for layer in layers {
        layer.rename(rename);
        layer.children_mut().into_iter().for_each(|list| rename_all(list, rename));
    }
}
