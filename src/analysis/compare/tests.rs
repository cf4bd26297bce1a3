use super::*;

fn member(group: &str, seed: u64, values: &[(&str, f64)]) -> Member {
    let number = |(name, value): &(&str, f64)| MemberNumber {
        quantity: (*name).into(),
        value: *value,
        std_err_numeric: 0.3,
        std_err_data: 0.4,
        converged: true,
    };
    Member {
        group: group.into(),
        seed,
        architecture: ("net".into(), 7),
        numbers: values.iter().map(number).collect(),
        ..Member::default()
    }
}

fn options() -> CompareOptions {
    CompareOptions::default()
}

/// Two groups over five seeds: a common part that moves with the seed, and what the second has less.
fn members(gap: f64) -> Vec<Member> {
    let value = |seed: u64, less: f64| 10.0 + 3.0 * seed as f64 - less - 0.01 * (seed % 2) as f64 * less;
    let both = |seed| {
        let sam = [("trace", value(seed, 0.0)), ("parameter_norm", 5.0), ("test_accuracy", 0.5 + 0.001 * seed as f64)];
        let other = [
            ("trace", value(seed, gap)),
            ("parameter_norm", 6.0 + 0.001 * seed as f64),
            ("test_accuracy", 0.504 - 0.001 * seed as f64),
        ];
        [member("sam", seed, &sam), member("fsgld", seed, &other)]
    };
    (0..5).flat_map(both).collect()
}

#[test]
fn differences_are_paired_by_seed_and_the_verdict_keeps_its_conditions() {
    let comparison = Comparison::new(members(1.0), &options(), Vec::new());
    assert_eq!(comparison.groups, ["sam", "fsgld"]);
    let trace = comparison.difference(&Quantity::Trace, "fsgld", "sam").unwrap();
    assert!(trace.is_paired && trace.is_significant());
    // Mean of −1 (three seeds) and −1.01 (two), far below the spread of 4.7 over the seeds.
    assert!((trace.difference.difference + 1.004).abs() < 1e-12 && trace.difference.half_width < 0.01);
    assert_eq!(trace.difference.exact.p, 0.0625);
    // 16 and 14.996; the half-width is that of five differences, −1, −1.01, −1, −1.01, −1: 0.0068.
    assert_eq!(
        comparison.verdicts[1],
        "fsgld's trace is lower than sam's: 14.9960 against 16.0000, difference −1.0040 (95 % −1.0108 to −0.9972, adjusted p < \
         0.001, 5 pairs; exact p 0.0625, smallest possible 0.0625)"
    );
    for (verdict, words) in [
        (
            0,
            "fsgld's test accuracy is not distinguishable from sam's: 50.20 % against 50.20 %, difference +0.00 points",
        ),
        (2, "fsgld against sam: weight norms differ by +20.0"),
        (2, "not comparable without normalisation"),
    ] {
        assert!(comparison.verdicts[verdict].contains(words), "{words}: {:?}", comparison.verdicts);
    }
    assert!(comparison.notes[0].contains("cannot fall below 0.0625"), "{:?}", comparison.notes);
}

#[test]
fn what_did_not_converge_is_not_tested() {
    let mut open = members(1.0);
    let unresolved = |number: &&mut MemberNumber| number.quantity == Quantity::Trace;
    open[3].numbers.iter_mut().find(unresolved).unwrap().converged = false;
    let comparison = Comparison::new(open, &options(), Vec::new());
    assert_eq!(comparison.notes[0], "not resolved, so not compared: trace of fsgld (1 of 10 networks)");
    assert!(comparison.difference(&Quantity::Trace, "fsgld", "sam").is_none());
    assert!(!comparison.verdicts.iter().any(|words| words.contains("trace")), "{:?}", comparison.verdicts);
    // Holm's correction is over the tests that were made: one primary test is left.
    let accuracy = comparison.difference(&Quantity::TestAccuracy, "fsgld", "sam").unwrap();
    assert_eq!(accuracy.p_holm, accuracy.difference.p_t);

    let mut none = members(1.0);
    none.iter_mut().flat_map(|member| &mut member.numbers).for_each(|number| number.converged = false);
    let comparison = Comparison::new(none, &options(), Vec::new());
    assert_eq!(comparison.verdicts, ["fsgld against sam: not tested, since a group has no number that converged"]);
}

#[test]
fn no_difference_is_called_none() {
    let comparison = Comparison::new(members(0.0), &options(), Vec::new());
    let trace = comparison.difference(&Quantity::Trace, "fsgld", "sam").unwrap();
    assert_eq!((trace.difference.difference, trace.difference.p_t), (0.0, 1.0));
    let verdict = &comparison.verdicts[1];
    assert!(verdict.contains("trace is not distinguishable from sam's: 16.000 against 16.000"), "{verdict}");
}

#[test]
fn own_errors_average_down_where_they_are_independent() {
    let comparison = Comparison::new(members(1.0), &options(), Vec::new());
    let trace = &comparison.quantities.iter().find(|row| row.quantity == Quantity::Trace).unwrap().groups[0];
    assert!((trace.std_err_numeric - 0.3 / 5f64.sqrt()).abs() < 1e-15);
    assert!((trace.std_err_data - 0.4).abs() < 1e-15);
    assert!((trace.sample.mean - 16.0).abs() < 1e-12 && trace.sample.count == 5);
}

#[test]
fn one_seed_makes_no_test() {
    let single = vec![member("a", 0, &[("trace", 1.0)]), member("b", 0, &[("trace", 2.0)])];
    let comparison = Comparison::new(single, &options(), Vec::new());
    assert!(comparison.differences.is_empty() && comparison.verdicts[0].contains("one seed"));
}

#[test]
fn other_seeds_are_compared_unpaired() {
    let mut members = members(1.0);
    members.iter_mut().filter(|member| member.group == "fsgld").for_each(|member| member.seed += 10);
    let comparison = Comparison::new(members, &options(), Vec::new());
    let trace = comparison.difference(&Quantity::Trace, "fsgld", "sam").unwrap();
    assert!(!trace.is_paired && !trace.is_significant());
    assert!(comparison.verdicts[1].contains("Welch's test, at least 5 seeds each"), "{:?}", comparison.verdicts);
}

#[test]
fn of_other_architectures_only_performance_is_compared() {
    let mut members = members(1.0);
    members[1].architecture.1 = 8;
    let comparison = Comparison::new(members, &options(), Vec::new());
    let quantities: Vec<&Quantity> = comparison.quantities.iter().map(|row| &row.quantity).collect();
    assert_eq!(quantities, [&Quantity::TestAccuracy]);
    assert!(comparison.notes[0].contains("these are not compared: weight norm, trace"), "{:?}", comparison.notes);
}

#[test]
fn what_decides_is_corrected_by_itself_and_the_rest_is_exploratory() {
    let options = CompareOptions { primary: vec![Quantity::TestAccuracy], ..options() };
    let comparison = Comparison::new(members(1.0), &options, Vec::new());
    let row = |quantity| comparison.difference(&quantity, "fsgld", "sam").unwrap();
    // Alone in its family; trace and weight norm are two in the other.
    assert_eq!(row(Quantity::TestAccuracy).p_holm, row(Quantity::TestAccuracy).difference.p_t);
    let smallest = row(Quantity::Trace).difference.p_t.min(row(Quantity::ParameterNorm).difference.p_t);
    let adjusted = row(Quantity::Trace).p_holm.min(row(Quantity::ParameterNorm).p_holm);
    assert!((adjusted - 2.0 * smallest).abs() < 1e-15);
    let last = comparison.verdicts.last().unwrap();
    assert_eq!(last, "fsgld against sam, exploratory, corrected among themselves: flatter in trace");
}

#[test]
fn primary_tests_may_be_those_of_some_groups_alone() {
    let of = |groups: &[&str]| {
        let primary_groups = Some(groups.iter().map(|group| group.to_string()).collect());
        Comparison::new(members(1.0), &CompareOptions { primary_groups, ..options() }, Vec::new())
    };
    let all = Comparison::new(members(1.0), &options(), Vec::new());
    assert_eq!(format!("{:?}", of(&["fsgld"]).differences), format!("{:?}", all.differences));
    assert!(of(&["another"]).differences.iter().all(|row| !row.is_primary));
}

#[test]
fn what_decides_is_said_first() {
    let mut three = members(1.0);
    three.splice(0..0, (0..5).map(|seed| member("asam", seed, &[("trace", 10.0 + seed as f64)])));
    let options =
        CompareOptions { baseline: Some("sam".into()), primary_groups: Some(vec!["fsgld".to_owned()]), ..options() };
    let comparison = Comparison::new(three, &options, Vec::new());
    assert_eq!(comparison.groups[0], "asam");
    let first = |group: &str| comparison.verdicts.iter().position(|verdict| verdict.starts_with(group)).unwrap();
    assert!(first("fsgld") == 0 && first("asam") > 0, "{:?}", comparison.verdicts);
}

#[test]
fn correction_is_over_the_table_or_within_a_quantity() {
    let table = Comparison::new(members(1.0), &options(), Vec::new());
    let quantity = Comparison::new(members(1.0), &CompareOptions { by_quantity: true, ..options() }, Vec::new());
    let p = |comparison: &Comparison| comparison.difference(&Quantity::TestAccuracy, "fsgld", "sam").unwrap().p_holm;
    // Alone in its family, a p value stays as it is.
    let own = quantity.difference(&Quantity::TestAccuracy, "fsgld", "sam").unwrap().difference.p_t;
    assert_eq!(p(&quantity), own);
    assert!(p(&table) >= own);
}
