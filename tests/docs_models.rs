//! `docs/models.md` against the code: every kind is there, and every example is what the reader takes.

use candle_core::{DType, Device, Tensor};
use flatness::autodiff::{Saved, Tape};
use flatness::formats::{Architecture, FAMILIES, KINDS, family};
use flatness::program::Loss;
use flatness::program::Mode;
use serde_json::{Value, json};

const PAGE: &str = include_str!("../docs/models.md");

/// The fenced blocks of a language.
fn examples(language: &str) -> Vec<&'static str> {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

fn layers_of(example: &str) -> Vec<Value> {
    match serde_json::from_str(example).unwrap_or_else(|error| panic!("{error} in {example}")) {
        Value::Array(layers) => layers,
        layer => vec![layer],
    }
}

#[test]
fn every_kind_has_a_heading_and_an_example_that_is_read() {
    let headings: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let layers: Vec<Value> = examples("json").into_iter().flat_map(layers_of).collect();
    for kind in KINDS {
        assert!(headings.iter().any(|heading| heading.contains(&format!("`{kind}`"))), "no heading for `{kind}`");
        assert!(layers.iter().any(|layer| layer["kind"] == kind), "no example of `{kind}`");
    }
    for layer in layers {
        // `identity` alone would leave the list empty.
        let text = json!({"layers": [layer, {"kind": "relu"}]}).to_string();
        Architecture::from_json(&text, "docs/models.md").unwrap();
    }
}

#[test]
fn every_field_of_the_code_is_documented() {
    let layers: Vec<Value> = examples("json").into_iter().flat_map(layers_of).collect();
    for layer in layers {
        let text = json!({"layers": [layer, {"kind": "relu"}]}).to_string();
        let read = Architecture::from_json(&text, "docs/models.md").unwrap();
        let read = &json!(read)["layers"][0];
        for field in read.as_object().unwrap().keys().filter(|field| *field != "kind") {
            assert!(PAGE.contains(&format!("`{field}`")), "`{field}` of {} is not documented", read["kind"]);
        }
    }
    let network = json!(family("mlp", &[4], 2).unwrap());
    let optional = ["loss", "param_order", "normalisation"];
    for field in network.as_object().unwrap().keys().map(String::as_str).chain(optional) {
        assert!(PAGE.contains(&format!("| `{field}` |")), "`{field}` is not in the table of top-level fields");
    }
}

#[test]
fn defaults_are_those_stated() {
    let read = |layer: Value| {
        let text = json!({"layers": [layer]}).to_string();
        json!(Architecture::from_json(&text, "test").unwrap())["layers"][0].clone()
    };
    let conv = read(json!({"kind": "conv2d", "in": 1, "out": 1, "kernel": 3, "weight": "w"}));
    let full = json!({"kind": "conv2d", "in": 1, "out": 1, "kernel": 3, "stride": 1, "padding": 0, "dilation": 1,
                      "groups": 1, "weight": "w", "bias": null});
    assert_eq!(conv, full);
    let norm = read(json!({"kind": "batch_norm1d", "channels": 2, "running_mean": "m", "running_var": "v"}));
    assert_eq!(
        (norm["kind"].as_str(), &norm["eps"], &norm["momentum"]),
        (Some("batch_norm2d"), &json!(1e-5), &json!(0.1))
    );
    assert_eq!(read(json!({"kind": "group_norm", "groups": 1, "channels": 2}))["eps"], 1e-5);
    assert_eq!(read(json!({"kind": "gelu"}))["form"], "erf");
    assert_eq!(read(json!({"kind": "layer_norm", "dim": 2}))["eps"], 1e-5);
    let block = json!({"kind": "transformer_block", "prefix": "b", "dim": 4, "heads": 2, "mlp_dim": 8});
    let mut full = block.clone();
    for (field, value) in [("eps", json!(1e-6)), ("activation", json!("gelu")), ("form", json!("erf"))] {
        full[field] = value;
    }
    (full["norm"], full["qkv_bias"]) = (json!("pre"), json!(true));
    assert_eq!(read(block), read(full));
    let pool = read(json!({"kind": "avg_pool2d", "kernel": 2}));
    assert_eq!(
        (&pool["stride"], &pool["padding"], &pool["count_include_pad"]),
        (&json!(null), &json!(0), &json!(true))
    );
    assert_eq!(read(json!({"kind": "dropout"}))["p"], 0.0);
    assert_eq!(read(json!({"kind": "concat", "branches": [[]]}))["axis"], 1);
    assert_eq!(read(json!({"kind": "residual", "main": []}))["shortcut"], json!([]));
}

#[test]
fn the_toml_example_is_a_network_that_runs() {
    let [example] = examples("toml")[..] else { panic!("one example in TOML") };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.toml");
    std::fs::write(&path, example).unwrap();
    let architecture = Architecture::read(&path).unwrap();
    assert_eq!(architecture.loss, Some(Loss::smoothed(0.1)));
    assert_eq!(architecture.weight_decay, 5e-4);
    let space = architecture.param_space().unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
    let values: Vec<Tensor> = space.tensors().iter().map(|tensor| zeros(&tensor.shape)).collect();
    let buffers = architecture.buffers().unwrap().into_iter().map(|(name, shape)| (name, zeros(&shape))).collect();
    let mut tape = Tape::<Tensor>::new(Saved::Nothing);
    let network = architecture.network(buffers).unwrap();
    let output = network.forward(&mut tape, &values, zeros(&[2, 1, 16, 16]), Mode::Eval).unwrap().output;
    assert_eq!(output.dims().unwrap(), [2, 10]);
}

#[test]
fn the_families_are_written_with_their_defaults() {
    for name in FAMILIES {
        let start = format!("`{name}:");
        let line = PAGE.lines().find(|line| line.starts_with("| `") && line.contains(&start));
        let line = line.unwrap_or_else(|| panic!("no line for {name}"));
        let form = line.split_once(&start).unwrap().1.split_once('`').unwrap().0;
        let form = format!("{name}:{form}");
        let form = form.as_str();
        let layers = |text: &str| json!(family(text, &[3, 32, 32], 10).unwrap())["layers"].clone();
        assert_eq!(layers(form), layers(name), "{form}");
    }
}

#[test]
fn unknown_fields_are_refused() {
    let known = [
        json!({"kind": "linear", "in": 1, "out": 1, "weight": "w"}),
        json!({"kind": "residual", "main": []}),
        json!({"kind": "concat", "branches": [[]]}),
        json!({"kind": "dropout"}),
        json!({"kind": "relu"}),
        json!({"kind": "identity"}),
    ];
    for mut layer in known {
        let text = |layer: &Value| json!({"layers": [{"kind": "relu"}, layer]}).to_string();
        Architecture::from_json(&text(&layer), "test").unwrap();
        layer["colour"] = json!("red");
        let error = Architecture::from_json(&text(&layer), "test").unwrap_err().to_string();
        assert!(error.contains("unknown field `colour`, expected"), "{error}");
    }
    for (description, part) in [
        (
            json!({"layers": [{"kind": "relu"}], "losss": {"kind": "mse"}}),
            "unknown field `losss`, expected one of `name`",
        ),
        (
            json!({"layers": [{"kind": "relu"}], "loss": {"kind": "mse", "reduction": "sum"}}),
            "`reduction` is \"sum\", but only means",
        ),
        (json!({"layers": [{"kind": "relu"}], "normalisation": {"mean": [0], "sd": [1]}}), "unknown field `sd`"),
    ] {
        let error = Architecture::from_json(&description.to_string(), "test").unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
