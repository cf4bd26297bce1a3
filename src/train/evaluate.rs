//! Measurements in evaluation mode: after each epoch, and of everything that a run leaves at its end.

use super::metrics::{CleanScores, Scores};
use super::state::Weights;
use crate::data::Dataset;
use crate::objective::Objective;
use crate::plan::TrainConfig;
use crate::program::ProgramError;
use crate::program::{BatchNormMode, Network};
use crate::report::tables::Column;
use crate::{Error, Observer, Result};

/// A row of `evaluations.parquet`: the final numbers of one set of weights.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationRow {
    /// `last`, `best` (by test accuracy), `ema` or `swa`.
    pub weights: &'static str,
    /// Statistics of batch normalisation: `running`, `reestimated`, or `none` for a network without it.
    pub batch_norm: &'static str,
    /// `train` or `test`.
    pub split: &'static str,
    /// With the labels of the split.
    pub scores: Scores,
    /// With the clean labels.
    pub clean: CleanScores,
}

/// Scores on `data`, in evaluation mode.
pub(super) fn scores(
    config: &TrainConfig,
    network: &Network,
    weights: &Weights,
    data: &Dataset,
    observer: &mut dyn Observer,
) -> Result<(Scores, CleanScores)> {
    let network = network.with_buffers(weights.buffers.clone())?;
    let loss = config.loss_for(network.about.loss.as_ref(), data);
    let objective = Objective::new(&network, data, config.objective(loss, BatchNormMode::Eval))?;
    let (evaluation, classes) = objective.evaluate_scores(&weights.theta, observer)?;
    Ok((Scores::new(&evaluation, classes.as_ref()), CleanScores::new(data, classes.as_ref())))
}

/// Whether `error` says that a loss was not finite.
pub(super) fn is_not_finite(error: &Error) -> bool {
    matches!(error, Error::Program(ProgramError::NonFinite { .. }))
}

/// The columns of `evaluations.parquet`.
pub(super) fn columns(rows: &[EvaluationRow]) -> Vec<(&'static str, Column)> {
    let text = |value: fn(&EvaluationRow) -> &'static str| {
        Column::Text(rows.iter().map(|row| value(row).to_owned()).collect())
    };
    let number = |value: fn(&EvaluationRow) -> f64| Column::Number(rows.iter().map(value).collect());
    vec![
        ("weights", text(|row| row.weights)),
        ("batch_norm", text(|row| row.batch_norm)),
        ("split", text(|row| row.split)),
        ("loss", number(|row| row.scores.loss)),
        ("accuracy", number(|row| row.scores.accuracy)),
        ("nll", number(|row| row.scores.nll)),
        ("calibration_error", number(|row| row.scores.calibration_error)),
        ("clean_accuracy", number(|row| row.clean.clean_accuracy)),
        ("wrong_fitted", number(|row| row.clean.wrong_fitted)),
    ]
}
