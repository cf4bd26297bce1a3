//! Scores against scikit-learn's and SciPy's, which `tools/score_fixture.py` wrote down.

use serde::Deserialize;

use super::*;
use crate::plan::EvaluateOptions;
use crate::vocabulary::Quantity;

#[derive(Deserialize)]
struct Case {
    name: String,
    classes: usize,
    models: Vec<Vec<f64>>,
    labels: Vec<usize>,
    outside: Vec<Vec<f64>>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    accuracy: f64,
    nll: f64,
    brier: f64,
    ece: f64,
    ece_equal_mass: f64,
    predictive_entropy: f64,
    mutual_information: f64,
    /// AUROC, AUPR with the positives and with the negatives as the class to be found.
    errors: [f64; 3],
    outside: [f64; 3],
    temperature: f64,
    scaled_nll: f64,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../tests/fixtures/scores.json")).unwrap()
}

fn average(classes: usize, models: &[Vec<f64>]) -> Predictions {
    let mut average = Average::new(classes);
    models.iter().for_each(|outputs| average.add(outputs));
    average.finish()
}

fn evaluated(case: &Case, options: &EvaluateOptions) -> Evaluation {
    let predicted = Predicted {
        inside: average(case.classes, &case.models),
        labels: case.labels.clone(),
        positions: (0..case.labels.len()).collect(),
        outside: vec![average(case.classes, &case.outside)],
        models: Vec::new(),
    };
    evaluate(predicted, &["other".into()], options)
}

/// A few hundred additions and logarithms of numbers of size one.
fn assert_close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{what}: {found} {expected}");
}

#[test]
fn scores_are_those_of_scikit_learn() {
    for case in cases() {
        let report = evaluated(&case, &EvaluateOptions { resamples: 20, ..EvaluateOptions::default() });
        let score = |name: &str| {
            let found = report.scores.iter().find(|score| score.quantity == Quantity::from(name));
            found.unwrap_or_else(|| panic!("{}: no {name}", case.name)).value
        };
        let expected = &case.expected;
        for (name, value) in [
            ("accuracy", expected.accuracy),
            ("nll", expected.nll),
            ("brier", expected.brier),
            ("ece", expected.ece),
            ("ece_equal_mass", expected.ece_equal_mass),
            ("predictive_entropy", expected.predictive_entropy),
            ("misclassification_auroc", expected.errors[0]),
            ("misclassification_aupr_errors", expected.errors[1]),
            ("misclassification_aupr_correct", expected.errors[2]),
            ("ood_auroc_other", expected.outside[0]),
            ("ood_aupr_out_other", expected.outside[1]),
            ("ood_aupr_in_other", expected.outside[2]),
        ] {
            assert_close(score(name), value, &format!("{}, {name}", case.name));
        }
        if case.models.len() > 1 {
            assert_close(score("mutual_information"), expected.mutual_information, &case.name);
        } else {
            assert!(report.predictions.mutual_information.is_empty());
        }
    }
}

/// SciPy's minimum is good to the root of the precision in `T`, and so to the last digits in the likelihood.
#[test]
fn temperatures_are_those_of_scipy() {
    for case in cases() {
        let predictions = average(case.classes, &case.models);
        let found = fit_temperature(&predictions, &case.labels);
        assert!((found.value / case.expected.temperature - 1.0).abs() < 1e-7, "{}: {found:?}", case.name);
        let scaled = Rows::new(&predictions.at_temperature(found.value), &case.labels);
        let nll = scaled.nll.iter().sum::<f64>() / scaled.nll.len() as f64;
        assert_close(nll, case.expected.scaled_nll, &case.name);
    }
}

#[test]
fn every_number_has_an_error_and_the_seed_decides_it() {
    let case = &cases()[1];
    let run = |seed: u64| evaluated(case, &EvaluateOptions { seed, ..EvaluateOptions::default() });
    let (first, again, other) = (run(0), run(0), run(1));
    // As text, in which NaN equals NaN.
    assert_eq!(format!("{:?}", first.scores), format!("{:?}", again.scores));
    assert!(first.scores.iter().all(|score| score.std_err > 0.0 || !score.converged), "{:?}", first.scores);
    let errors = |report: &Evaluation| report.scores.iter().map(|score| score.std_err).collect::<Vec<_>>();
    assert_ne!(errors(&first), errors(&other));
    // A fifth of 50 rows chooses the temperature, the others measure it.
    let scaling = first.scaling.unwrap();
    assert_eq!((scaling.fitted_on, scaling.measured_on, scaling.scores.len()), (10, 40, 4));
    assert!(run_without(case).is_none());
}

fn run_without(case: &Case) -> Option<Scaling> {
    evaluated(case, &EvaluateOptions { held_out: 0.0, ..EvaluateOptions::default() }).scaling
}
