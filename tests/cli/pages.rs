//! `report.html`: what every command puts on its page.

use std::path::Path;

use flatness::report::read_run_json;

use crate::support::{CHEAP, TRAINING, checkpoint, succeed};

/// The page that `line` leaves, which fetches nothing, is listed with its hash, and has all of `words`.
fn assert_page(line: &str, out: &Path, words: &[&str]) -> String {
    succeed(&format!("{line} --out {}", out.display()));
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    let own = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!own.contains("http") && !own.contains(" src=") && !own.contains("@import"), "{line}");
    assert!(read_run_json(out).unwrap()["files"]["report.html"]["sha256"].is_string(), "{line}");
    let command = format!("<pre>flatness {}", line.split(' ').next().unwrap());
    for words in words.iter().chain(&[command.as_str(), "<dl class=\"numbers\">", "Provenance"]) {
        assert!(page.contains(words), "{line}: {words}");
    }
    page
}

#[test]
fn every_command_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let checkpoint = checkpoint().display();
    let train = format!("train {TRAINING}");
    let words = ["<dt>epochs</dt><dd class=\"value\">1 of 1", "<strong>Loss and accuracy.", ">Epochs</h2></summary>"];
    assert_page(&train, &at("train"), &words);
    // So few steps locate no eigenvalue: there is no density.
    let words = [">residual</button>", ">All numbers</h2>", "<strong>Eigenvalues.", "class=\"number\">≤ "];
    let analyze = format!("analyze {checkpoint} {CHEAP} --max-matvecs 14 --bottom 1");
    let page = assert_page(&analyze, &at("analyze"), &words);
    assert!(page.contains("<tr class=\"open\">") && page.contains(">Not resolved</h2></summary>"));
    let words = ["<strong>Contours.", "<strong>Surface.", "<th scope=\"row\">A</th>", ">angle in °</button>"];
    assert_page(&format!("landscape {checkpoint} --points 5"), &at("plane"), &words);
    let words = ["<strong>Line.", "<dt>loss at A</dt>", "<span>All numbers."];
    assert_page(&format!("landscape {checkpoint} --line --points 5"), &at("line"), &words);
    let words = ["<strong>Average rise.", ">relative flatness</th>", ">Other radii</h2></summary>"];
    let options = "--rows 0..16 --pairs 3 --ascent-steps 4 --restarts 1";
    assert_page(&format!("sharpness {checkpoint} {options}"), &at("sharpness"), &words);
    let words = ["<strong>Chains.", "<dt>nβ</dt>", ">independent draws</button>"];
    let options = "--rows 0..16 --draws 20 --step-size 1e-5 --burn-in 5";
    assert_page(&format!("llc {checkpoint} {options}"), &at("llc"), &words);
    let words = ["<strong>Reliability.", "<strong>ROC curves.", "<strong>Entropies.", ">Temperature</h2>"];
    let options = "--rows 0..200 --resamples 4 --ood noise";
    assert_page(&format!("evaluate {checkpoint} {options}"), &at("evaluate"), &words);
    let words = ["<strong>Distributions.", "<strong>Mass on the flat side.", ">Mass over time</h2></summary>"];
    assert_page("langevin --chains 64 --snapshots 2 --time 20 --study mass", &at("langevin"), &words);
}
