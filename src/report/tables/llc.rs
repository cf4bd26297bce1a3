//! The tables of `flatness llc`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Columns, column, count, flag, number, text, write_table};
use crate::bayes::learning_coefficient::{Estimate, LlcReport, Visit};
use crate::report::ReportError;

/// Writes the tables of `report` into `folder`, which exists; returns their paths.
///
/// | table | one row per | notes |
/// |---|---|---|
/// | `llc` | setting | `value` is null where the chains have not settled, which `fault`, `reason` and `advice` explain; `headline`: the only setting, or the one that a sweep recommends |
/// | `traces` | setting, chain and step | `excess` is `nβ (L − L(w*))` on the rows of the step, `distance` that from `w*` |
///
/// # Errors
/// [`ReportError`] for the first table that fails.
pub fn write_llc(report: &LlcReport, configuration: &Value, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let write = |(name, columns): (&str, Columns)| {
        let path = folder.join(format!("{name}.parquet"));
        write_table(&path, &columns, configuration).map(|()| path)
    };
    [("llc", estimates(report)), ("traces", traces(report))].into_iter().map(write).collect()
}

fn estimates(report: &LlcReport) -> Columns {
    let rows: Vec<_> = report.estimates.iter().zip(&report.chains).collect();
    let of = |value: fn(&Estimate) -> f64| number(&rows, |(own, _)| value(own));
    let words = |value: fn(&Estimate) -> Option<String>| text(&rows, |(own, _)| value(own).unwrap_or_default());
    vec![
        (column::QUANTITY, text(&rows, |(own, _)| own.summary().quantity)),
        (column::VALUE, of(|own| own.value)),
        (column::STD_ERR_NUMERIC, of(|own| own.std_err)),
        (column::STD_ERR_DATA, of(|_| f64::NAN)),
        (column::METHOD, text(&rows, |(own, _)| own.summary().method)),
        (column::CONVERGED, flag(&rows, |(own, _)| own.fault.is_none())),
        (column::HEADLINE, flag(&rows, |(own, _)| own.is_headline)),
        ("fault", words(|own| own.fault.map(|fault| fault.name().into()))),
        ("reason", words(|own| own.fault.map(|fault| fault.to_string()))),
        ("advice", words(Estimate::advice)),
        ("n_beta", of(|own| own.dynamics.n_beta)),
        ("gamma", of(|own| own.dynamics.gamma)),
        ("step_size", of(|own| own.dynamics.step_size)),
        ("batch_size", count(&rows, |_| report.batch_size)),
        ("chains", count(&rows, |(_, chains)| chains.len())),
        ("burn_in", count(&rows, |(own, _)| own.burn_in)),
        ("draws", count(&rows, |(own, _)| own.draws)),
        ("effective_draws", of(|own| own.mixing.effective_size)),
        ("std_err_within", of(|own| own.mixing.std_err_within)),
        ("std_err_between", of(|own| own.mixing.std_err_between)),
        ("r_hat", of(|own| own.mixing.r_hat)),
        ("r_hat_distance", of(|own| own.r_hat_distance)),
        ("drift", of(|own| own.mixing.drift)),
        ("step_size_bias", of(|own| own.step_size_bias)),
        ("distance", of(|own| own.distance)),
        ("num_gradients", count(&rows, |(_, chains)| chains.iter().map(|chain| chain.visits.len()).sum())),
    ]
}

fn traces(report: &LlcReport) -> Columns {
    let mut rows: Vec<(&Estimate, usize, usize, Visit)> = Vec::new();
    for (own, chains) in report.estimates.iter().zip(&report.chains) {
        for (index, chain) in chains.iter().enumerate() {
            rows.extend(chain.visits.iter().enumerate().map(|(step, visit)| (own, index, step, *visit)));
        }
    }
    vec![
        ("gamma", number(&rows, |(own, ..)| own.dynamics.gamma)),
        ("step_size", number(&rows, |(own, ..)| own.dynamics.step_size)),
        ("chain", count(&rows, |(_, chain, ..)| *chain)),
        ("step", count(&rows, |(_, _, step, _)| *step)),
        ("burn_in", flag(&rows, |(own, _, step, _)| *step < own.burn_in)),
        ("excess", number(&rows, |(own, .., visit)| own.dynamics.n_beta * visit.rise)),
        ("distance", number(&rows, |(.., visit)| visit.square_distance.sqrt())),
    ]
}
