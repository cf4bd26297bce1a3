//! `langevin`: what it leaves and what it refuses.

use flatness::report::tables::read_table;

use crate::support::{assert_refused, succeed};

#[test]
fn tables_and_figures_do_not_depend_on_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, threads: usize| {
        let out = folder.path().join(name);
        let options = "--chains 64 --snapshots 2 --time 20 --study mass";
        let outcome = succeed(&format!("langevin {options} --threads {threads} --out {}", out.display()));
        assert!(outcome.out.contains("flat_share_moved"), "{}", outcome.out);
        out
    };
    let (one, three) = (run("one", 1), run("three", 3));
    for file in ["mass.parquet", "samples.parquet", "summary.parquet", "figures/mass.svg", "figures/laws.svg"] {
        assert!(std::fs::read(one.join(file)).unwrap() == std::fs::read(three.join(file)).unwrap(), "{file}");
    }
    assert_eq!(read_table(&one.join("mass.parquet")).unwrap().column("time").map(|column| column.len()), Some(80));
}

#[test]
fn settings_without_sense_are_refused() {
    for (options, named, hint) in [
        ("--beta 0", "beta is 0, but must be a number above 0", ""),
        ("--sigma=-1", "sigma is -1", ""),
        ("--step-size 0.3", "the limit for this potential is 0.25", "--step-size 0.0625 or less"),
        ("--chains 3", "number of chains is 3", ""),
        ("--time 0", "--time 0: must be above 0", ""),
        ("--threads 0", "--threads 0: must be 1 to 1024", ""),
        ("--potential gaussian --study mass", "a Gaussian has no flat side", ""),
    ] {
        assert_refused(&format!("langevin {options} --out absent"), named, hint);
    }
    assert!(!std::path::Path::new("absent").exists());
}
