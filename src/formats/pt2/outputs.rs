//! Which output of a module is the network's: by the names that the module gives them.

use serde_json::Value;

use super::schema::GraphModule;

/// Names of the outputs in order: keys of dicts and fields of model outputs, places in tuples, `past.0` for one within
/// another. Empty where the module returns one value, or names nothing.
pub(super) fn names(graph_module: &GraphModule) -> Vec<String> {
    let top = graph_module.module_call_graph.first().and_then(|call| call.signature.as_ref());
    let spec = top.and_then(|signature| serde_json::from_str::<Value>(&signature.out_spec).ok());
    let mut found = Vec::new();
    if let Some(tree) = spec.as_ref().and_then(|spec| spec.get(1)) {
        leaves(tree, "", &mut found);
    }
    found
}

fn leaves(tree: &Value, path: &str, found: &mut Vec<String>) {
    let children = tree.get("children_spec").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if tree.get("type").is_none_or(Value::is_null) {
        found.push(path.to_owned());
    }
    let context = tree.get("context").and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let keys = context.as_ref().and_then(Value::as_array);
    for (place, child) in children.iter().enumerate() {
        let key = keys.and_then(|keys| keys.get(place)).and_then(Value::as_str);
        let key = key.map_or_else(|| place.to_string(), str::to_owned);
        leaves(child, &if path.is_empty() { key } else { format!("{path}.{key}") }, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_places_name_the_leaves() {
        let leaf = r#"{"type": null, "context": null, "children_spec": []}"#;
        let pair = format!(r#"{{"type": "builtins.tuple", "context": "null", "children_spec": [{leaf}, {leaf}]}}"#);
        let keys = r#""[\"logits\", \"past\"]""#;
        let text = format!(r#"{{"type": "builtins.dict", "context": {keys}, "children_spec": [{leaf}, {pair}]}}"#);
        let mut found = Vec::new();
        leaves(&serde_json::from_str(&text).unwrap(), "", &mut found);
        assert_eq!(found, ["logits", "past.0", "past.1"]);
    }
}
