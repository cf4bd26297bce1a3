//! All numbers of an evaluation, each with its standard error over the rows.

use super::calibration::BINS;
use super::predict::Predicted;
use super::resample::bootstrap;
use super::scores::mean;
use super::{
    Areas, Bin, ModelScores, Predictions, Ranking, Rows, Signal, Temperature, equal_mass, equal_width, expected_error,
    fit_temperature,
};
use crate::data::choose;
use crate::plan::EvaluateOptions;
use crate::random::{Purpose, stream};
use crate::vocabulary::{Method, Outside, Quantity, SummaryRow};

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// What it measures.
    pub quantity: Quantity,
    /// Its value; NaN where it is not defined, as an AUROC without errors.
    pub value: f64,
    /// Standard error over the rows.
    pub std_err: f64,
    /// Whether the error is that of a bootstrap.
    pub bootstrapped: bool,
    /// Rows that it is of.
    pub num_rows: usize,
    /// Whether the computation met its tolerance.
    pub converged: bool,
}

/// How well one signal finds errors, or rows of another set.
#[derive(Debug, Clone, PartialEq)]
pub struct Detected {
    /// The set of other rows; `None` for errors among the evaluated rows.
    pub set: Option<String>,
    /// What is looked at.
    pub signal: Signal,
    /// Areas with errors, or the other rows, as positives.
    pub areas: Areas,
    /// Their standard errors by a bootstrap.
    pub std_err: Areas,
    /// Number of positives and of negatives.
    pub counts: [usize; 2],
    /// The ROC curve.
    pub curve: Vec<(f64, f64)>,
}

/// Predictions for rows of another origin.
#[derive(Debug, Clone, PartialEq)]
pub struct OutsideSet {
    /// Its name.
    pub name: String,
    /// For its rows.
    pub predictions: Predictions,
}

/// A number before and after the scaling by a temperature, on rows that did not choose it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaledScore {
    /// What it measures.
    pub quantity: Quantity,
    /// Value and standard error at temperature 1.
    pub before: (f64, f64),
    /// The same at the fitted temperature.
    pub after: (f64, f64),
}

/// A temperature, and what it changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// The temperature, fitted on the rows held out.
    pub temperature: Temperature,
    /// Number of these rows.
    pub fitted_on: usize,
    /// Number of the others, which measure it.
    pub measured_on: usize,
    /// NLL, Brier score and calibration errors.
    pub scores: Vec<ScaledScore>,
    /// Reliability of the scaled predictions, over bins of equal width.
    pub reliability: [Bin; BINS],
}

/// What an evaluation found.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Headline numbers.
    pub scores: Vec<Score>,
    /// By task, then by signal.
    pub detected: Vec<Detected>,
    /// Reliability over bins of equal width.
    pub reliability: [Bin; BINS],
    /// `None` where no rows were held out.
    pub scaling: Option<Scaling>,
    /// The models by themselves.
    pub models: Vec<ModelScores>,
    /// The evaluated rows.
    pub rows: Rows,
    /// Their positions in the data.
    pub positions: Vec<usize>,
    /// Their predictions.
    pub predictions: Predictions,
    /// Other rows.
    pub outside: Vec<OutsideSet>,
}

impl Score {
    /// As a headline number.
    pub fn summary(&self) -> SummaryRow {
        SummaryRow {
            std_err_data: self.std_err,
            method: Method::Exact,
            converged: self.converged,
            ..SummaryRow::exact(self.quantity.clone(), self.value)
        }
    }
}

/// Computes everything from `predicted`, whose sets of other rows have `names`. Randomness: the rows held out and the
/// bootstrap, by the seed of `options`.
pub fn evaluate(predicted: Predicted, names: &[String], options: &EvaluateOptions) -> Evaluation {
    let Predicted { inside, labels, positions, outside, models } = predicted;
    let rows = Rows::new(&inside, &labels);
    let outside = names.iter().zip(outside).map(|(name, predictions)| OutsideSet { name: name.clone(), predictions });
    let outside: Vec<OutsideSet> = outside.collect();
    let scaling = scale(&inside, &labels, options);
    let detected = detect(&inside, &rows, &outside, options);
    let mut scores = own_scores(&inside, &rows, options);
    scores.extend(detected.iter().flat_map(headlines));
    scores.extend(outside.iter().flat_map(entropies));
    scores.extend(scaling.iter().map(|scaling| Score {
        converged: scaling.temperature.converged,
        ..exact(Quantity::Temperature, (scaling.temperature.value, scaling.temperature.std_err), scaling.fitted_on)
    }));
    let reliability = equal_width(sure(&rows));
    Evaluation { scores, detected, reliability, scaling, models, rows, positions, predictions: inside, outside }
}

fn exact(quantity: Quantity, (value, std_err): (f64, f64), num_rows: usize) -> Score {
    Score { quantity, value, std_err, bootstrapped: false, num_rows, converged: true }
}

/// Confidence, whether right, and how often the row counts.
fn sure(rows: &Rows) -> impl Iterator<Item = (f64, bool, f64)> {
    rows.confidences.iter().zip(&rows.correct).map(|(confidence, correct)| (*confidence, *correct, 1.0))
}

/// What the evaluated rows say by themselves.
fn own_scores(predictions: &Predictions, rows: &Rows, options: &EvaluateOptions) -> Vec<Score> {
    let count = rows.labels.len();
    let mut scores = vec![exact(Quantity::Accuracy, mean(&rows.hits()), count)];
    for (quantity, value) in probabilistic(rows, options) {
        let bootstrapped = !matches!(quantity, Quantity::Nll | Quantity::Brier);
        scores.push(Score { bootstrapped, ..exact(quantity, value, count) });
    }
    scores.push(exact(Quantity::PredictiveEntropy, mean(&predictions.entropies), count));
    if !predictions.mutual_information.is_empty() {
        scores.push(exact(Quantity::MutualInformation, mean(&predictions.mutual_information), count));
    }
    scores
}

/// Likelihood, Brier score and both calibration errors, with standard errors.
fn probabilistic(rows: &Rows, options: &EvaluateOptions) -> [(Quantity, (f64, f64)); 4] {
    let mut order: Vec<usize> = (0..rows.labels.len()).collect();
    order.sort_by(|a, b| rows.confidences[*a].total_cmp(&rows.confidences[*b]));
    let errors = |counts: &[u32]| {
        let often = |row: usize| counts.get(row).map_or(1, |count| *count);
        let sorted: Vec<(f64, bool)> = order
            .iter()
            .flat_map(|row| std::iter::repeat_n((rows.confidences[*row], rows.correct[*row]), often(*row) as usize))
            .collect();
        let wide = equal_width(sorted.iter().map(|(confidence, correct)| (*confidence, *correct, 1.0)));
        [expected_error(&wide), expected_error(&equal_mass(&sorted))]
    };
    let [wide, mass] = errors(&[]);
    let rng = stream(options.seed, Purpose::Resamples);
    let [wide_std_err, mass_std_err] = bootstrap(&[rows.labels.len()], options.resamples, rng, errors);
    [
        (Quantity::Nll, mean(&rows.nll)),
        (Quantity::Brier, mean(&rows.brier)),
        (Quantity::CalibrationError, (wide, wide_std_err)),
        (Quantity::CalibrationErrorEqualMass, (mass, mass_std_err)),
    ]
}

/// Entropies on a set of other rows.
fn entropies(set: &OutsideSet) -> Vec<Score> {
    let own = [
        (Outside::Entropy, &set.predictions.entropies),
        (Outside::MutualInformation, &set.predictions.mutual_information),
    ];
    let known = own.into_iter().filter(|(_, values)| !values.is_empty());
    known
        .map(|(measure, values)| exact(Quantity::Outside(measure, set.name.clone()), mean(values), values.len()))
        .collect()
}

/// The signals of each row, where there are any.
fn signals(predictions: &Predictions) -> Vec<(Signal, Vec<f64>)> {
    let doubt = predictions.choices().iter().map(|(_, confidence)| -confidence).collect();
    let mut signals = vec![(Signal::Confidence, doubt), (Signal::Entropy, predictions.entropies.clone())];
    if !predictions.mutual_information.is_empty() {
        signals.push((Signal::MutualInformation, predictions.mutual_information.clone()));
    }
    signals
}

/// Errors among the rows, and each set of other rows, by every signal.
fn detect(inside: &Predictions, rows: &Rows, outside: &[OutsideSet], options: &EvaluateOptions) -> Vec<Detected> {
    let own = signals(inside);
    let wrong: Vec<bool> = rows.correct.iter().map(|correct| !correct).collect();
    let groups = [rows.labels.len()];
    let errors = own.iter().map(|(signal, values)| found(None, *signal, (values, &wrong), &groups, options));
    let mut detected: Vec<Detected> = errors.collect();
    for set in outside {
        for ((signal, inside), (_, outside)) in own.iter().zip(signals(&set.predictions)) {
            let groups = [inside.len(), outside.len()];
            let positive: Vec<bool> = (0..groups[0] + groups[1]).map(|row| row >= groups[0]).collect();
            let values = [inside.as_slice(), &outside].concat();
            detected.push(found(Some(set.name.clone()), *signal, (&values, &positive), &groups, options));
        }
    }
    detected
}

fn found(
    set: Option<String>,
    signal: Signal,
    (values, positive): (&[f64], &[bool]),
    groups: &[usize],
    options: &EvaluateOptions,
) -> Detected {
    let ranking = Ranking::new(values, positive);
    let resampled = |counts: &[u32]| {
        let Areas { auroc, aupr_positive, aupr_negative } = ranking.resampled(counts);
        [auroc, aupr_positive, aupr_negative]
    };
    let rng = stream(options.seed, Purpose::Resamples);
    let [auroc, aupr_positive, aupr_negative] = bootstrap(groups, options.resamples, rng, resampled);
    let positives = positive.iter().filter(|positive| **positive).count();
    Detected {
        set,
        signal,
        areas: ranking.areas(),
        std_err: Areas { auroc, aupr_positive, aupr_negative },
        counts: [positives, positive.len() - positives],
        curve: ranking.curve(),
    }
}

/// Errors are found by low confidence, other rows by their entropy.
fn headlines(detected: &Detected) -> Vec<Score> {
    let quantities = match (&detected.set, detected.signal) {
        (None, Signal::Confidence) => [
            Quantity::MisclassificationAuroc,
            Quantity::MisclassificationAuprErrors,
            Quantity::MisclassificationAuprCorrect,
        ],
        (Some(set), Signal::Entropy) => {
            [Outside::Auroc, Outside::AuprOut, Outside::AuprIn].map(|measure| Quantity::Outside(measure, set.clone()))
        }
        _ => return Vec::new(),
    };
    let of = |areas: &Areas| [areas.auroc, areas.aupr_positive, areas.aupr_negative];
    let values = of(&detected.areas).into_iter().zip(of(&detected.std_err));
    let num_rows = detected.counts.iter().sum();
    let score = |(quantity, value)| Score { bootstrapped: true, ..exact(quantity, value, num_rows) };
    quantities.into_iter().zip(values).map(score).collect()
}

/// Fits a temperature on a random share of the rows and measures it on the others.
fn scale(predictions: &Predictions, labels: &[usize], options: &EvaluateOptions) -> Option<Scaling> {
    let count = (options.held_out * labels.len() as f64).round() as usize;
    if count == 0 || count >= labels.len() {
        return None;
    }
    let held = choose(&mut stream(options.seed, Purpose::HeldOut), labels.len(), count);
    let rest: Vec<usize> = (0..labels.len()).filter(|row| held.binary_search(row).is_err()).collect();
    let of = |rows: &[usize]| -> Vec<usize> { rows.iter().map(|row| labels[*row]).collect() };
    let temperature = fit_temperature(&predictions.select(&held), &of(&held));
    let (before, labels) = (predictions.select(&rest), of(&rest));
    let before = Rows::new(&before, &labels);
    let after = Rows::new(&predictions.select(&rest).at_temperature(temperature.value), &labels);
    let pairs = probabilistic(&before, options).into_iter().zip(probabilistic(&after, options));
    let scores = pairs.map(|((quantity, before), (_, after))| ScaledScore { quantity, before, after }).collect();
    let (fitted_on, measured_on, reliability) = (held.len(), rest.len(), equal_width(sure(&after)));
    Some(Scaling { temperature, fitted_on, measured_on, scores, reliability })
}
