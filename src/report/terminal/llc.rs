//! Learning coefficients for people.

use super::{aligned, measured, without_empty};
use crate::bayes::learning_coefficient::{Estimate, LlcReport};

/// A line for each setting: what it says, and how well its chains have mixed. A dash stands where they have not settled.
pub fn llc_settings(report: &LlcReport) -> String {
    let header = ["γ", "step size", "llc", "± numeric", "bias", "R̂", "independent", "of", "fault"].map(str::to_owned);
    let lines = report.estimates.iter().zip(&report.chains).map(|(own, chains)| line(own, chains.len()));
    let (lines, words) = without_empty(std::iter::once(header.to_vec()).chain(lines).collect(), 0);
    aligned(&lines, words)
}

fn line(own: &Estimate, chains: usize) -> Vec<String> {
    let [value, error, _] = measured(own.value, [own.std_err, f64::NAN]);
    let number = |value: f64, decimals: usize| if value.is_nan() { "-".into() } else { format!("{value:.decimals$}") };
    let bias = own.step_size_bias / own.mixing.mean;
    vec![
        format!("{}", own.dynamics.gamma),
        format!("{:.2e}", own.dynamics.step_size),
        value,
        error,
        if bias.is_nan() { "-".into() } else { format!("{:+.1} %", 100.0 * bias) },
        number(own.mixing.r_hat.max(own.r_hat_distance), 3),
        number(own.mixing.effective_size, 0),
        (chains * own.draws).to_string(),
        own.fault.map_or(if own.is_headline { "taken" } else { "" }, |fault| fault.name()).replace('_', " "),
    ]
}
