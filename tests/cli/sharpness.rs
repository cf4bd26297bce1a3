//! `sharpness`: what it leaves and what it refuses.

use flatness::report::tables::{Column, read_table};

use crate::support::{assert_refused, checkpoint, succeed};

#[test]
fn a_table_a_figure_and_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, threads: usize| {
        let out = folder.path().join(name);
        let options = "--rows 0..16 --pairs 3 --ascent-steps 4 --restarts 1";
        succeed(&format!("sharpness {} {options} --threads {threads} --out {}", checkpoint().display(), out.display()));
        out
    };
    let (one, two) = (run("one", 1), run("two", 2));
    for file in ["sharpness.parquet", "figures/sharpness_ratio.svg"] {
        assert!(std::fs::read(one.join(file)).unwrap() == std::fs::read(two.join(file)).unwrap(), "{file}");
    }
    let table = read_table(&one.join("sharpness.parquet")).unwrap();
    let Some(Column::Text(names)) = table.column("quantity") else { panic!("no quantities") };
    for name in ["worst_l2_none_rho=0.1", "average_element_sigma=0.03", "fisher_rao_norm", "relative_flatness"] {
        assert!(names.iter().any(|own| own == name), "{name}: {names:?}");
    }
    assert!(table.configuration["checkpoint_sha256"].is_string() && table.configuration["sharpness"].is_object());
}

#[test]
fn settings_without_sense_are_refused() {
    let line = format!("sharpness {} --rows 0..8 --out x", checkpoint().display());
    for (option, named) in [
        ("--sigma 0", "--sigma 0: must be above 0"),
        ("--relative-sigma 0.1,-1", "--relative-sigma -1: must be above 0"),
        ("--pairs 1", "--pairs 1: must be 2 to 10000"),
        ("--restarts 0", "--restarts 0: must be 1"),
        ("--ascent-steps 1", "--ascent-steps 1: must be 2"),
        ("--batch 0", "--batch 0: must be 1 or more"),
        ("--target 0", "--target 0: must be above 0"),
    ] {
        assert_refused(&format!("{line} {option}"), named, "");
    }
    assert!(!std::path::Path::new("x").exists());
}
