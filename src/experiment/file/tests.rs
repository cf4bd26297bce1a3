use super::*;

fn parse(text: &str, profile: Option<&str>) -> Result<Experiment, ExperimentError> {
    Experiment::parse(text, Path::new("some/where/test.toml"), profile)
}

const SOUND: &str = r#"
    name = "noisy-labels"
    seeds = [0, 1]
    steps = ["train"]
    [train]
    learning_rate = 0.1
    epochs = 30
    [grid]
    "train.batch-size" = [32, 64]
    [[variant]]
    name = "sgd"
    [profile.smoke]
    seeds = [7]
    train.epochs = 1
    train.learning-rate = 0.5
    grid.train.batch_size = [8]
"#;

#[test]
fn a_profile_replaces_values_and_merges_tables() {
    let plain = parse(SOUND, None).unwrap();
    assert_eq!((plain.folder_name(), plain.directory()), ("noisy-labels".into(), "some/where".into()));
    assert_eq!((plain.seeds.as_slice(), plain.axes[0].values.len()), (&[0, 1][..], 2));
    let smoke = parse(&SOUND.replace("grid.train.batch_size", "grid.\"train.batch_size\""), Some("smoke")).unwrap();
    assert_eq!((smoke.folder_name(), smoke.seeds.as_slice()), ("noisy-labels-smoke".into(), &[7][..]));
    assert_eq!(smoke.axes[0].values, [Value::Integer(8)]);
    let train = &smoke.base[&StepKind::Train];
    assert_eq!(train["epochs"], Value::Integer(1));
    assert_eq!(train["learning-rate"], Value::Float(0.5));
    assert!(!smoke.table.contains_key("profile"));
    let again = parse(&smoke.table.to_string(), None).unwrap();
    assert_eq!(again.table, smoke.table);
}

#[test]
fn a_profile_that_repeats_an_axis_in_the_other_form_is_noticed() {
    let error = parse(SOUND, Some("smoke")).unwrap_err().to_string();
    assert!(error.contains("`grid.train.batch-size` is given twice"), "{error}");
}

#[test]
fn without_a_folder_paths_start_here() {
    let experiment = Experiment::parse("name = \"a\"", Path::new("a.toml"), None).unwrap();
    assert_eq!(experiment.directory(), PathBuf::from("."));
    assert_eq!((experiment.seeds.as_slice(), experiment.steps.len()), (&[0][..], 2));
}

#[test]
fn faults_are_named_with_their_key() {
    let name = "name = \"a\"\n";
    for (text, named, hint) in [
        ("name = ", "test.toml: TOML parse error at line 1", "docs/experiments.md"),
        ("seeds = [1]", "`name` is required", ""),
        ("name = \"Big\"", "`name` is \"Big\"", ""),
        ("name = \"../a\"", "`name` is \"../a\"", ""),
        ("name = \"..\"", "`name` is \"..\"", ""),
        ("name = \"a\"\nsteps = [\"analyze\"]", "`steps` must be \"train\", optionally", ""),
        ("name = \"a\"\nsteps = [\"train\", \"compare\"]", "`steps` must be", ""),
        ("name = \"a\"\nseeds = []", "`seeds` must be a list with at least one entry", ""),
        ("name = \"a\"\nseeds = 3", "`seeds` must be a list", ""),
        ("name = \"a\"\nseeds = [1, -1]", "`seeds` must be a list of whole numbers", ""),
        ("name = \"a\"\nseeds = [1, 1]", "`seeds` holds 1 twice", ""),
        ("name = \"a\"\nvariants = []", "an experiment file has no `variants`", "did you mean `variant`?"),
        ("name = \"a\"\nzzz = 1", "has no `zzz`", "its keys are name, seeds"),
        ("name = \"a\"\ntrain = 3", "`train` must be a table, not integer", ""),
        ("name = \"a\"\ntrain.seed = 3", "`train.seed` is set by `seeds`", ""),
        ("name = \"a\"\ntrain.out = \"x\"", "`train.out` is not allowed in experiment files", ""),
        ("name = \"a\"\nanalyze.checkpoint = \"x\"", "`analyze.checkpoint` is not allowed in experiment files", ""),
        ("name = \"a\"\ntrain.a_b = 1\ntrain.a-b = 2", "twice, once with `-` and once with `_`", ""),
        ("name = \"a\"\ntrain.day = 2020-01-01", "`train.day` must be a number", ""),
        ("name = \"a\"\ntrain.rows.a = 1", "`train.rows` must be a number", ""),
        ("name = \"a\"\ntrain.rows = [[1]]", "`train.rows` must be a list of numbers", ""),
        ("name = \"a\"\ngrid.rate = [1]", "`grid.rate` is not used: no string contains {rate}", ""),
        ("name = \"a\"\ngrid.\"tain.rate\" = [1]", "`grid.tain.rate` must be one of `train.OPTION`", ""),
        ("name = \"a\"\ngrid.seed = [1]", "`grid.seed` must be STEP.OPTION", ""),
        ("name = \"a\"\nsteps = [\"langevin\", \"train\"]", "`steps` must be", ""),
        ("name = \"a\"\nsteps = [\"train\", \"sharpness\", \"analyze\"]", "`steps` must be", ""),
        ("name = \"a\"\nlangevin.seed = 1", "`langevin.seed` is set by `seeds`", ""),
        ("name = \"a\"\ncompare.out = \"x\"", "`compare.out` is not allowed in experiment files", ""),
        ("name = \"a\"\ngrid.\"train.rate\" = 1", "`grid.train.rate` must be a list", ""),
        ("name = \"a\"\ngrid.\"train.rate\" = []", "`grid.train.rate` must be a list", ""),
        ("name = \"a\"\ngrid.\"train.rate\" = [1, 1]", "`grid.train.rate` holds 1 twice", ""),
        ("name = \"a\"\ngrid.\"train.seed\" = [1]", "`grid.train.seed` is set by `seeds`", ""),
        ("name = \"a\"\nsteps = [\"train\"]\ngrid.\"analyze.top\" = [1]", "belongs to a step that `steps` leaves", ""),
        ("name = \"a\"\nvariant = 1", "`variant` must be a list", ""),
        ("name = \"a\"\n[[variant]]\ntrain.rho = 1", "`variant.name` is required", ""),
        ("name = \"a\"\n[[variant]]\nname = \"v\"\ntrian.rho = 1", "variant `v` has no `trian`", "`train`"),
        ("name = \"a\"\n[[variant]]\nname = \"v\"\n[[variant]]\nname = \"v\"\ntrain.b = 1", "\"v\" is given twice", ""),
        ("name = \"a\"\n[[variant]]\nname = \"v\"\ntrain.seed = 1", "`variant.v.train.seed` is set by", ""),
        (
            "name = \"a\"\ngrid.\"train.b_c\" = [1]\n[[variant]]\nname = \"v\"\ntrain.b-c = 1",
            "`train.b_c` is set both by variant `v` and by a grid",
            "",
        ),
        (
            "name = \"a\"\ngrid.\"train.b\" = [1]\n[[variant]]\nname = \"v\"\ngrid.\"train.b\" = [2]",
            "`train.b` is an axis both of variant `v` and of all variants",
            "",
        ),
    ] {
        let error = parse(text, None).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("test.toml") && message.contains(named), "{text}\nno `{named}` in\n{message}");
        let given = error.hint().unwrap_or_default();
        // Most messages say themselves what must be there.
        let hint = if hint.is_empty() { "docs/experiments.md" } else { hint };
        assert!(given.contains(hint), "{text}\n{given}");
    }
    let profiles = format!("{name}[profile.smoke]\ntrain.epochs = 1\n[profile.odd]\nname = \"b\"");
    for (profile, named, hint) in [
        ("smok", "unknown profile `smok`", "its profiles are odd, smoke"),
        ("odd", "profile `odd` has no `name`", "its keys are seeds, steps"),
    ] {
        let error = parse(&profiles, Some(profile)).unwrap_err();
        assert!(
            error.to_string().contains(named) && error.hint().unwrap().contains(hint),
            "{error} {:?}",
            error.hint()
        );
    }
    assert!(parse(name, Some("x")).unwrap_err().hint().unwrap().contains("[profile.smoke]"));
    let absent = Experiment::read(Path::new("absent.toml"), None).unwrap_err();
    assert!(absent.to_string().starts_with("cannot read absent.toml"), "{absent}");
}
