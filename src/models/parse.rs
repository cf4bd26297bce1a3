//! Reads layer lists with errors that name the place.

use serde_json::{Map, Value};

use super::{KINDS, Layer, ModelError};

/// The layers of a JSON array; `at` is its place, such as `layers`.
pub(super) fn layers(value: &Value, at: &str) -> Result<Vec<Layer>, ModelError> {
    let field = |reason: &str| ModelError::Field { at: at.into(), reason: reason.into() };
    let items = value.as_array().ok_or_else(|| field("expected a list of layers"))?;
    items.iter().enumerate().filter_map(|(index, item)| layer(item, &format!("{at}[{index}]")).transpose()).collect()
}

/// One layer; `None` for `identity`, which does nothing.
fn layer(value: &Value, at: &str) -> Result<Option<Layer>, ModelError> {
    let field = |reason: String| ModelError::Field { at: at.into(), reason };
    let object = value.as_object().ok_or_else(|| field("expected a table with the field `kind`".into()))?;
    let kind = object.get("kind").and_then(Value::as_str).ok_or_else(|| field("the field `kind` is missing".into()))?;
    let layer = match kind {
        "identity" => return Ok(None),
        "residual" => {
            known_fields(object, &["kind", "main", "shortcut"], at)?;
            Layer::Residual {
                main: layers(object.get("main").unwrap_or(&Value::Null), &format!("{at}.main"))?,
                shortcut: match object.get("shortcut") {
                    None | Some(Value::Null) => Vec::new(),
                    Some(list) => layers(list, &format!("{at}.shortcut"))?,
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
            let parse = |(index, list)| layers(list, &format!("{at}.branches[{index}]"));
            Layer::Concat { branches: branches.iter().enumerate().map(parse).collect::<Result<_, _>>()?, axis }
        }
        kind if KINDS.contains(&kind) => {
            bounded(object, at)?;
            serde_json::from_value(value.clone()).map_err(|error| field(format!("{kind}: {error}")))?
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
        Some(key) => Err(ModelError::Field { at: at.into(), reason: format!("unknown field `{key}`") }),
    }
}
