//! Exported programs through the commands: training, conversion, analysis, comparison.

use std::path::Path;

use crate::support::{assert_refused, succeed};

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
    succeed(&format!("compare {} {} --out {}", at("sam"), at("fsgld"), at("compared")));
    // New weights for the same program, as another seed would give them.
    succeed(&format!("convert {net} --out {}", at("plain.safetensors")));
    let info = succeed(&format!("info {}", at("plain.safetensors"))).out;
    assert!(info.contains("batch_norm(conv2d, norm.weight"), "{info}");
    succeed(&format!("convert {net} --out {} --force", at("plain.safetensors")));
    assert_refused(&format!("convert {net} --out {}", at("plain.safetensors")), "exists", "--force");
}
