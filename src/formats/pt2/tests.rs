//! Archives written by hand: good ones, damaged ones and hostile ones.

use serde_json::{Value, json};

use super::*;
use crate::container::archive;

/// A linear network `y = x Wᵀ` of two inputs and one output; `change` gets the description and the list of weights.
fn pt2(change: impl Fn(&mut Value, &mut Value)) -> Vec<u8> {
    let rows = json!({"as_expr": {"expr_str": "Symbol('s0', positive=True, integer=True)"}});
    let tensor = |sizes: Value, strides: Value| json!({"dtype": 7, "sizes": sizes, "strides": strides, "storage_offset": {"as_int": 0}, "requires_grad": true});
    let int = |value: i64| json!({"as_int": value});
    let weight = tensor(json!([int(1), int(2)]), json!([int(2), int(1)]));
    let mut model = json!({
        "schema_version": {"major": 8, "minor": 20},
        "graph_module": {
            "graph": {
                "nodes": [{
                    "target": "torch.ops.aten.linear.default",
                    "inputs": [{"name": "input", "arg": {"as_tensor": {"name": "x"}}, "kind": 1},
                               {"name": "weight", "arg": {"as_tensor": {"name": "p_w"}}, "kind": 1}],
                    "outputs": [{"as_tensor": {"name": "linear"}}],
                    "metadata": {},
                }],
                "tensor_values": {
                    "x": tensor(json!([rows, int(2)]), json!([int(2), int(1)])),
                    "p_w": weight,
                    "linear": tensor(json!([rows, int(1)]), json!([int(1), int(1)])),
                },
                "sym_int_values": {},
            },
            "signature": {
                "input_specs": [{"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}},
                                {"user_input": {"arg": {"as_tensor": {"name": "x"}}}}],
                "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "linear"}}}}],
            },
        },
    });
    let mut weights = json!({"config": {"w": {"path_name": "weight_0", "use_pickle": false, "tensor_meta": weight}}});
    change(&mut model, &mut weights);
    packed(&model.to_string(), &weights.to_string())
}

fn packed(model: &str, weights: &str) -> Vec<u8> {
    let numbers: Vec<u8> = [3.0f32, -4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    archive(&[
        ("net/data/weights/weight_0", &numbers),
        ("net/data/weights/model_weights_config.json", weights.as_bytes()),
        ("net/models/model.json", model.as_bytes()),
    ])
}

fn error(bytes: &[u8]) -> String {
    Exported::read(bytes, "net.pt2", None).unwrap_err().to_string()
}

#[test]
fn a_linear_network_is_read() {
    let bytes = pt2(|_, _| {});
    assert!(Exported::is_one(&bytes));
    let exported = Exported::read(&bytes, "net.pt2", None).unwrap();
    assert_eq!(exported.theta.to_vec1::<f64>().unwrap(), [3.0, -4.0]);
    assert_eq!(exported.input_shape, Some(vec![2]));
    let program = &exported.program;
    assert_eq!((program.nodes.len(), program.output.as_str()), (1, "linear"));
    assert_eq!(program.nodes[0].call(), "linear(x, w)");
    assert_eq!(program.parameters.tensors()[0].name, "w");
}

#[test]
fn two_names_of_one_storage_are_one_parameter() {
    let bytes = pt2(|model, weights| {
        let specs = &mut model["graph_module"]["signature"]["input_specs"];
        let again = json!({"parameter": {"arg": {"name": "p_v"}, "parameter_name": "v"}});
        specs.as_array_mut().unwrap().insert(1, again);
        weights["config"]["v"] = weights["config"]["w"].clone();
        let values = &mut model["graph_module"]["graph"]["tensor_values"];
        values["p_v"] = values["p_w"].clone();
        model["graph_module"]["graph"]["nodes"][0]["inputs"][1]["arg"] = json!({"as_tensor": {"name": "p_v"}});
    });
    let exported = Exported::read(&bytes, "net.pt2", None).unwrap();
    assert_eq!(exported.program.parameters.dim(), 2);
    assert_eq!(exported.program.nodes[0].call(), "linear(x, w)");
}

#[test]
fn all_unsupported_operations_are_named_with_counts() {
    let bytes = pt2(|model, _| {
        let nodes = model["graph_module"]["graph"]["nodes"].as_array_mut().unwrap();
        for (index, target) in ["erfinv.default", "linear.default", "erfinv.default", "fft.default"].iter().enumerate()
        {
            let mut node = nodes[0].clone();
            node["target"] = json!(format!("torch.ops.aten.{target}"));
            node["outputs"] = json!([{"as_tensor": {"name": format!("extra_{index}")}}]);
            node["metadata"] = json!({"nn_module_stack": format!("top,,Net;head,head.{index},torch.nn.Head")});
            nodes.push(node);
        }
    });
    assert_eq!(error(&bytes), "program: unsupported: erfinv.default (2, in head.0), fft.default (1, in head.3)");
    let bytes = pt2(|model, _| {
        let inputs = &mut model["graph_module"]["graph"]["nodes"][0]["inputs"];
        inputs.as_array_mut().unwrap().push(json!({"name": "twist", "arg": {"as_bool": true}, "kind": 1}));
    });
    assert_eq!(error(&bytes), "program: unsupported: linear.default: its argument `twist` is not supported (1)");
}

#[test]
fn a_fixed_batch_is_refused_with_the_line_that_mends_it() {
    let bytes = pt2(|model, _| {
        model["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0] = json!({"as_int": 3});
    });
    let failure = Exported::read(&bytes, "net.pt2", None).unwrap_err();
    assert!(failure.to_string().contains("fixed shape [3, 2]"), "{failure}");
    assert!(failure.hint().unwrap().contains("dynamic_shapes={\"x\": {0: torch.export.Dim"));
}

#[test]
fn hostile_archives_give_one_clear_error() {
    let node =
        |change: &dyn Fn(&mut Value)| error(&pt2(|model, _| change(&mut model["graph_module"]["graph"]["nodes"][0])));
    let weight = |change: &dyn Fn(&mut Value)| error(&pt2(|_, weights| change(&mut weights["config"]["w"])));
    let meta = |key: &str, value: Value| weight(&|w| w["tensor_meta"][key] = value.clone());
    let ints = |values: &[i64]| Value::Array(values.iter().map(|value| json!({"as_int": value})).collect());
    for (got, expected) in [
        // Names that do not exist, or only later.
        (
            node(&|node| node["inputs"][0]["arg"] = json!({"as_tensor": {"name": "nowhere"}})),
            "`nowhere` is used before it exists",
        ),
        (node(&|node| node["inputs"][0]["arg"] = json!({"as_tensor": {"name": "linear"}})), "is used before it exists"),
        (node(&|node| node["inputs"][0]["arg"] = json!({"as_tensor": 7})), "a name is missing"),
        (node(&|node| node["inputs"][0]["arg"] = json!({"as_a": 1, "as_b": 2})), "one field"),
        (
            node(&|node| node["outputs"] = json!([{"as_tensor": {"name": "other"}}])),
            "`linear` is used before it exists",
        ),
        // Numbers outside of the file, and more of them than there can be.
        (meta("storage_offset", json!({"as_int": 1})), "past the numbers"),
        (meta("storage_offset", json!({"as_int": i64::MAX})), "past the numbers"),
        (meta("storage_offset", json!({"as_int": -1})), "past the numbers"),
        (meta("strides", ints(&[2, i64::MAX])), "past the numbers"),
        (meta("strides", ints(&[1])), "strides"),
        (meta("sizes", ints(&[i64::MAX, i64::MAX])), "too large"),
        (meta("sizes", ints(&[1 << 33, 2])), "past the numbers"),
        (meta("sizes", ints(&[-1, 2])), "negative"),
        (meta("dtype", json!(99)), "type 99"),
        (weight(&|w| w["path_name"] = json!("../../etc/passwd")), "no entry"),
        (weight(&|w| w["use_pickle"] = json!(true)), "pickled"),
    ] {
        assert!(got.contains(expected), "{got} lacks {expected}");
    }
}

#[test]
fn nesting_and_damage_end_in_an_error() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(error(&packed(&deep, "{}")).contains("model.json"));
    let hidden = format!("{{\"graph_module\": {{\"graph\": {{\"nodes\": {deep}}}}}}}");
    assert!(error(&packed(&hidden, "{}")).contains("model.json"));
    for skipped in ["metadata", "more"] {
        // What is not read is skipped without recursion, or refused.
        let text = format!("{{\"{skipped}\": {deep}}}");
        assert!(error(&packed(&text, "{}")).contains("model.json"));
    }
    assert!(error(&packed("{}", "{}")).contains("model.json"));
    let good = pt2(|_, _| {});
    for cut in (0..good.len()).step_by(7) {
        assert!(Exported::read(&good[..cut], "net.pt2", None).is_err(), "{cut}");
    }
    // Any byte changed: an error or a program, never a panic.
    for place in (0..good.len()).step_by(3) {
        let mut bytes = good.clone();
        bytes[place] ^= 0x15;
        let _ = Exported::read(&bytes, "net.pt2", None);
    }
}

#[test]
fn older_layouts_are_known_and_their_parts_missed_by_name() {
    let bytes = archive(&[("net/serialized_exported_program.json", b"{}")]);
    assert!(Exported::is_one(&bytes));
    let failure = Exported::read(&bytes, "net.pt2", None).unwrap_err();
    assert!(
        failure.to_string().contains("serialized_exported_program.json: missing field `graph_module`"),
        "{failure}"
    );
    assert!(failure.hint().unwrap().contains("torch.export.save"));
    let bytes = archive(&[("net/models/model.json", b"{\"schema_version\": {\"major\": 7}}")]);
    assert!(error(&bytes).contains("model.json"));
}

#[test]
fn what_python_writes_bare_is_quoted() {
    let text = br#"{"a": [Infinity, -Infinity, NaN], "NaN \" Infinity": "-Infinity"}"#;
    let expected = br#"{"a": ["Infinity", "-Infinity", "NaN"], "NaN \" Infinity": "-Infinity"}"#;
    assert_eq!(super::schema::quoted(text), expected);
    assert_eq!(super::schema::quoted(b"\"\\"), b"\"\\");
}
