//! Reads layer lists with errors that name the place.

use serde_json::{Map, Value};

use super::block::TransformerBlock;
use super::tokens::Tokens;
use super::{KINDS, Layer, ModelError};

/// The layers of a JSON array; `at` is its place, such as `layers`, and `tokens` what is known before the first.
pub(super) fn layers(value: &Value, at: &str, mut tokens: Tokens) -> Result<Vec<Layer>, ModelError> {
    let field = |reason: &str| ModelError::Field { at: at.into(), reason: reason.into() };
    let items = value.as_array().ok_or_else(|| field("expected a list of layers"))?;
    let mut layers = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if let Some(layer) = layer(item, &format!("{at}[{index}]"), tokens)? {
            tokens.pass(&layer);
            layers.push(layer);
        }
    }
    Ok(layers)
}

/// One layer; `None` for `identity`, which does nothing.
fn layer(value: &Value, at: &str, tokens: Tokens) -> Result<Option<Layer>, ModelError> {
    let field = |reason: String| ModelError::Field { at: at.into(), reason };
    let object = value.as_object().ok_or_else(|| field("expected a table with the field `kind`".into()))?;
    let kind = object.get("kind").and_then(Value::as_str).ok_or_else(|| field("the field `kind` is missing".into()))?;
    let layer = match kind {
        "identity" => {
            known_fields(object, &["kind"], at)?;
            return Ok(None);
        }
        "sequence" => {
            known_fields(object, &["kind", "layers"], at)?;
            let list = object.get("layers").unwrap_or(&Value::Null);
            Layer::Sequence { layers: layers(list, &format!("{at}.layers"), tokens)? }
        }
        "residual" => {
            known_fields(object, &["kind", "main", "shortcut"], at)?;
            Layer::Residual {
                main: layers(object.get("main").unwrap_or(&Value::Null), &format!("{at}.main"), tokens)?,
                shortcut: match object.get("shortcut") {
                    None | Some(Value::Null) => Vec::new(),
                    Some(list) => layers(list, &format!("{at}.shortcut"), tokens)?,
                },
            }
        }
        "concat" => {
            known_fields(object, &["kind", "branches", "axis"], at)?;
            let branches = object.get("branches").and_then(Value::as_array);
            let branches = branches.filter(|list| !list.is_empty());
            let branches = branches.ok_or_else(|| field("`branches` must be a list of layer lists".into()))?;
            let axis = match object.get("axis") {
                None => 1,
                Some(axis) => axis.as_u64().ok_or_else(|| field("`axis` must be a number".into()))? as usize,
            };
            let parse = |(index, list)| layers(list, &format!("{at}.branches[{index}]"), tokens);
            Layer::Concat { branches: branches.iter().enumerate().map(parse).collect::<Result<_, _>>()?, axis }
        }
        kind if KINDS.contains(&kind) => {
            bounded(object, at)?;
            let misread = |error| field(format!("{kind}: {error}"));
            let mut object = object.clone();
            if kind == "transformer_block" {
                object.remove("kind");
                let block: TransformerBlock = serde_json::from_value(Value::Object(object)).map_err(misread)?;
                block.expand()
            } else {
                tokens.complete(kind, &mut object);
                let layer = serde_json::from_value(Value::Object(object.clone())).map_err(misread)?;
                if is_plain(&layer) {
                    known_fields(&object, &["kind"], at)?;
                }
                layer
            }
        }
        kind => {
            let nearest = crate::nearest(kind, KINDS);
            return Err(ModelError::UnknownKind { at: at.into(), kind: kind.into(), nearest });
        }
    };
    Ok(Some(layer))
}

/// Sizes below 2^31: sums and products of two then fit, whatever a layer computes from them.
fn bounded(object: &Map<String, Value>, at: &str) -> Result<(), ModelError> {
    let too_large = |value: &Value| value.as_u64().is_some_and(|size| size >= 1 << 31);
    let found = object.iter().find(|(_, value)| match value {
        Value::Array(sizes) => sizes.iter().any(too_large),
        value => too_large(value),
    });
    match found {
        None => Ok(()),
        Some((key, value)) => {
            Err(ModelError::Field { at: at.into(), reason: format!("`{key}`: {value} is not below 2^31") })
        }
    }
}

fn known_fields(object: &Map<String, Value>, known: &[&str], at: &str) -> Result<(), ModelError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(ModelError::Field { at: at.into(), reason: unknown_field(key, known) }),
    }
}

/// In the words that serde has for it.
pub(in crate::formats) fn unknown_field(key: &str, known: &[&str]) -> String {
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    match known.as_slice() {
        [one] => format!("unknown field `{key}`, expected {one}"),
        all => format!("unknown field `{key}`, expected one of {}", all.join(", ")),
    }
}

/// Whether a layer has no fields: then serde lets any others pass.
fn is_plain(layer: &Layer) -> bool {
    use Layer::{Flatten, GlobalAvgPool2d, Relu, Sigmoid, Silu, Softplus, Tanh};
    matches!(layer, Relu | Silu | Tanh | Sigmoid | Softplus | GlobalAvgPool2d | Flatten)
}
