//! What a run leaves at its end.

use std::collections::HashMap;

use candle_core::Tensor;

use super::epoch::Run;
use super::state::{State, Weights};
use super::{CleanScores, EvaluationRow, Scores, SecondMoments, TrainOutcome, TrainStop, evaluate, running};
use crate::Result;
use crate::plan::NormStatistics;

/// All weights with their statistics, evaluated where the run is complete.
pub(super) fn finish(run: Run<'_>, state: State, stop: TrainStop, fresh: Vec<String>) -> Result<TrainOutcome> {
    let complete = stop == TrainStop::Finished && !state.epochs.is_empty();
    let network = run.objective.network();
    let reestimates = complete && !network.program().running_statistics().is_empty();
    let mut kept: Vec<(&'static str, Tensor, Option<HashMap<_, _>>)> =
        vec![("last", state.weights.theta, Some(state.weights.buffers))];
    if complete {
        kept.extend(state.best.map(|(_, weights)| ("best", weights.theta, Some(weights.buffers))));
        kept.extend(state.averages.ema.map(|theta| ("ema", theta, None)));
        kept.extend(state.averages.swa.map(|theta| ("swa", theta, None)));
    }
    let (mut evaluations, mut done) = (Vec::new(), Vec::new());
    for (name, part, running) in kept {
        let theta = run.part.whole(&part)?;
        let reestimated = match reestimates {
            true => Some(running::reestimate(run.objective, run.data, run.config, &theta)?),
            false => None,
        };
        let choices = [("running", &running), ("reestimated", &reestimated)];
        for (batch_norm, buffers) in choices {
            let Some(buffers) = buffers.clone().filter(|_| complete) else { continue };
            let batch_norm = if reestimates { batch_norm } else { "none" };
            let weights = Weights { theta: theta.clone(), buffers };
            evaluations.extend(run.evaluations(name, batch_norm, &weights)?);
        }
        let keeps_running = run.config.norm_statistics == NormStatistics::Running;
        let buffers = match (running, reestimated) {
            (Some(running), reestimated) if keeps_running || reestimated.is_none() => running,
            (_, Some(reestimated)) => reestimated,
            (running, None) => running.unwrap_or_else(|| network.buffers().clone()),
        };
        done.push((name, network.with_buffers(buffers)?, theta));
    }
    let (_, network, theta) = done.remove(0);
    let moments = SecondMoments::of(&run.optimizer, &state.optimizer, &run.part);
    Ok(TrainOutcome {
        config: run.config.clone(),
        running_statistics: !reestimates || run.config.norm_statistics == NormStatistics::Running,
        network,
        theta,
        others: done,
        epochs: state.epochs,
        seconds: state.seconds,
        evaluations,
        tracked: state.tracked,
        moments,
        fresh,
        stop,
        data_sha256: run.data.sha256.clone(),
        num_rows: run.data.len(),
    })
}

impl Run<'_> {
    /// The final numbers of `weights` (all parameters) on the test rows, and for the last weights also on the training
    /// rows.
    fn evaluations(
        &self,
        name: &'static str,
        batch_norm: &'static str,
        weights: &Weights,
    ) -> Result<Vec<EvaluationRow>> {
        let train = Some(self.data).filter(|_| name == "last");
        let splits = [("train", train), ("test", self.test)];
        let mut rows = Vec::new();
        for (split, data) in splits.into_iter().filter_map(|(split, data)| Some((split, data?))) {
            let scores = evaluate::scores(self.config, self.objective.network(), weights, data, &mut ());
            let (scores, clean) = match scores {
                // The average of weights that lie far apart may have an infinite loss.
                Err(error) if evaluate::is_not_finite(&error) => (Scores::NONE, CleanScores::NONE),
                scores => scores?,
            };
            rows.push(EvaluationRow { weights: name, batch_norm, split, scores, clean });
        }
        Ok(rows)
    }
}
