//! Exported programs through the commands: training, conversion, analysis, comparison.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use flatness::autodiff::{Saved, Tape};
use flatness::checkpoint::{Checkpoint, TensorFile, write_tensors};
use flatness::program::Mode;
use serde_json::{Value, json};

use crate::support::{assert_refused, flatness, succeed};

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs/training-mode").join(name).display().to_string()
}

#[test]
fn a_program_is_trained_analyzed_and_trained_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (net, data) = (fixture("net.safetensors"), format!("--data tensors:{}", fixture("data.safetensors")));
    for method in ["sam:rho=0.05", "fsgld:sigma=0.01"] {
        let out = at(method.split(':').next().unwrap());
        let line = format!("train {net} {data} --optimizer {method} --epochs 2 --batch-size 4");
        succeed(&format!("{line} --out {out}"));
        succeed(&format!(
            "analyze {out}/checkpoint.safetensors --top 1 --bottom 0 --slice-points 3 --plane-points 0 --out {out}/flat"
        ));
        // The checkpoint brings both programs on.
        succeed(&format!("train {out}/checkpoint.safetensors {data} --epochs 1 --batch-size 4 --out {out}/again"));
        succeed(&format!("check {out}/checkpoint.safetensors"));
    }
    // The rows of the data against those that a reference was made with, and others.
    let rows = |shift: f64| {
        let file = TensorFile::read(fixture("data.safetensors").as_ref()).unwrap();
        let x = (file.get("x").unwrap() + shift).unwrap();
        let checkpoint = Checkpoint::read(net.as_ref(), None).unwrap();
        let params = checkpoint.network.space().split(&checkpoint.theta).unwrap();
        let wide = x.to_dtype(DType::F64).unwrap();
        let mut tape = Tape::<Tensor>::new(Saved::Nothing);
        let outputs = checkpoint.network.forward(&mut tape, &params, wide.clone(), Mode::Eval).unwrap().output;
        let tensors = [("x".to_owned(), wide), ("outputs".to_owned(), outputs.value().clone())];
        write_tensors(at("reference.safetensors").as_ref(), &tensors, &Default::default()).unwrap();
        flatness(&format!("check {net} {data} --against {}", at("reference.safetensors")))
    };
    assert_eq!(rows(0.0).code, 0);
    let other = rows(0.1);
    assert_eq!(other.code, 1, "{}", other.out);
    assert!(other.out.contains("FAIL  rows of the data equal the reference's inputs"), "{}", other.out);
    succeed(&format!("compare {} {} --out {}", at("sam"), at("fsgld"), at("compared")));
    // New weights for the same program, as another seed would give them.
    succeed(&format!("convert {net} --out {}", at("plain.safetensors")));
    assert_refused(&format!("convert {net} --out {}", at("plain.pth")), "must end in .safetensors", "");
    let info = succeed(&format!("info {}", at("plain.safetensors"))).out;
    assert!(info.contains("batch_norm(conv2d, norm.weight"), "{info}");
    succeed(&format!("convert {net} --out {} --force", at("plain.safetensors")));
    assert_refused(&format!("convert {net} --out {}", at("plain.safetensors")), "exists", "--force");
}

/// `y ↦ Σ (x wᵀ − y)²` for each row, written by hand: the loss alone, without outputs of a network.
fn own_loss() -> Value {
    let node = |name: &str, operation: Value, operands: Value| json!({"name": name, "operation": operation, "operands": operands, "place": {"module": "", "kind": "by hand"}});
    json!({"program": {
        "inputs": [{"name": "x", "kind": "float"}, {"name": "y", "kind": "float"}],
        "parameters": [{"name": "w", "shape": [1, 2], "kind": "weight"}],
        "buffers": [],
        "constants": [],
        "nodes": [
            node("f", json!({"op": "linear"}), json!(["x", "w", {}])),
            node("d", json!({"op": "sub"}), json!(["f", "y"])),
            node("s", json!({"op": "mul"}), json!(["d", "d"])),
            node("l", json!({"op": "sum", "dim": [1], "keepdim": false}), json!(["s"])),
        ],
        "output": "l",
        "loss": "l",
    }})
}

#[test]
fn a_program_by_hand_that_gives_its_loss_alone_is_analyzed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tensor = |values: &[f64], shape: (usize, usize)| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    let x = tensor(&[1.0, 0.0, 0.0, 2.0, 1.0, 1.0, -1.0, 2.0], (4, 2));
    let data = [("x".to_owned(), x), ("y".to_owned(), tensor(&[0.5, -1.0, 0.0, 2.0], (4, 1)))];
    write_tensors(at("data.safetensors").as_ref(), &data, &Default::default()).unwrap();
    let weights = [("w".to_owned(), tensor(&[0.3, -0.2], (1, 2)))];
    write_tensors(at("w.safetensors").as_ref(), &weights, &Default::default()).unwrap();
    std::fs::write(at("net.json"), own_loss().to_string()).unwrap();
    let line = format!(
        "analyze {} --arch {} --data tensors:{} --loss program --top 1 --bottom 1 --slice-points 3 --plane-points 0 --dtype f64",
        at("w.safetensors"),
        at("net.json"),
        at("data.safetensors")
    );
    let told = succeed(&format!("{line} --out {}", at("out"))).out;
    // The Hessian is 2/4 Xᵀ X = [[1.5, -0.5], [-0.5, 4.5]], its largest eigenvalue 3 + √2.5.
    assert!(told.contains("4.5811388"), "{told}");
    let ggn = format!("{line} --operator ggn --out {}", at("ggn"));
    assert_refused(&ggn, "depends on the parameter `w` directly", "Hessian");

    let refused = |change: fn(&mut Value), words: &str, hint: &str| {
        let mut net = own_loss();
        change(&mut net["program"]);
        std::fs::write(at("net.json"), net.to_string()).unwrap();
        assert_refused(&format!("{line} --out {}", at("refused")), words, hint);
    };
    let format = "docs/models.md shows the format";
    refused(|program| program["nodes"][1]["operation"]["op"] = json!("subtract"), "unknown variant `subtract`", format);
    refused(|program| program["nodes"][3]["operation"]["axis"] = json!(1), "unknown field `axis`", format);
    refused(|program| program["parameters"][0]["shape"] = json!([1u64 << 40, 1u64 << 40]), "too large", format);
    let order = "list operations in the order of execution";
    refused(|program| program["nodes"][0]["operands"][1] = json!("v"), "`f` uses `v`, which nothing before", order);
    refused(|program| program["nodes"][1]["name"] = json!("f"), "two values are named `f`", order);
    refused(
        |program| program["nodes"][3]["operation"]["dim"] = json!([7]),
        "by hand: dimension 7",
        "compare the layer's fields",
    );
}
