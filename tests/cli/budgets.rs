//! Where products or time run out.

use std::path::Path;

use flatness::report::tables::read_table;
use serde_json::Value;

use crate::support::{checkpoint, files, fixture_arguments, succeed};

const REST: &str = "--plane-points 0 --slice-points 3 --threads 2";

/// All columns of all tables as text that tells every two numbers apart, NaN equal to itself.
fn tables(folder: &Path) -> Vec<String> {
    let tables = files(folder).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "parquet"));
    tables
        .map(|path| format!("{} {:?}", path.file_name().unwrap().display(), read_table(&path).unwrap().columns))
        .collect()
}

#[test]
fn a_run_that_time_ended_names_the_products_that_give_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    // Exact traces of the first; probes for that of the second, and for all of them products that a larger budget pays.
    for (name, arguments) in [
        ("relu", checkpoint().display().to_string()),
        ("tanh", format!("{} --operator hessian,residual", fixture_arguments("mlp-tanh-ce"))),
    ] {
        let [late, same] = ["late", "same"].map(|run| folder.path().join(name).join(run));
        let line = |rest: &str, out: &Path| format!("analyze {arguments} {REST} {rest} --out {}", out.display());
        let outcome = succeed(&line("--max-time 0.0", &late));
        let run: Value = serde_json::from_slice(&std::fs::read(late.join("run.json")).unwrap()).unwrap();
        assert!(run["complete"] == true && run["surveys"][0]["stop"] == "max_time");
        let budget = run["surveys"][0]["reproduced_by_max_matvecs"].as_u64().unwrap();
        let note = format!("note: --max-time ended the hessian; --max-matvecs {budget} gives the same numbers");
        assert!(outcome.err.contains(&note), "{}", outcome.err);
        succeed(&line(&format!("--max-matvecs {budget}"), &same));
        let run: Value = serde_json::from_slice(&std::fs::read(same.join("run.json")).unwrap()).unwrap();
        assert_eq!(run["surveys"][0]["stop"], "max_matvecs");
        for (late, same) in tables(&late).iter().zip(&tables(&same)) {
            assert_eq!(late, same, "{name}");
        }
        // A product more goes a step further, so the number named is no accident.
        let more = folder.path().join(name).join("more");
        succeed(&line(&format!("--max-matvecs {}", budget + 1), &more));
        assert_ne!(tables(&late), tables(&more), "{name}");
    }
}
