//! Chains of a learning coefficient, and how it depends on step size and localisation.

use super::bands::{Along, BandCurve, BandPanel, Words, write};
use super::number::significant;
use super::palette::MAX_SERIES;
use super::style::{Drawn, Target};
use crate::bayes::learning_coefficient::{Chain, Estimate, LlcReport, Visit};
use crate::report::ReportError;

/// Most points of a curve: longer chains are drawn as means over as many steps as it takes.
const MOST_POINTS: usize = 400;

/// Writes `llc_traces.*`, excess and distance of the chains of the headline setting, at most seven, and `llc_sweep.*`, the
/// estimates against the step size for each `γ`, where there are several.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_llc(report: &LlcReport, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let mut drawn = traces(report, statement, target)?;
    drawn.extend(sweep(report, statement, target)?);
    Ok(drawn)
}

fn traces(report: &LlcReport, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let headline = report.estimates.iter().zip(&report.chains).find(|(own, _)| own.is_headline);
    let Some((own, chains)) = headline else { return Ok(Drawn::default()) };
    let steps = chains.iter().map(|chain| chain.visits.len()).max().unwrap_or(0).div_ceil(MOST_POINTS).max(1);
    let n_beta = own.dynamics.n_beta;
    let panel = |title, number: &dyn Fn(&Visit) -> f64| {
        let curve = |(index, chain): (usize, &Chain)| BandCurve {
            name: format!("chain {}", index + 1),
            points: chain
                .visits
                .chunks(steps)
                .enumerate()
                .filter_map(|(at, visits)| point(at * steps, visits, number))
                .collect(),
        };
        let curves = chains.iter().take(MAX_SERIES).enumerate().map(curve);
        BandPanel { title, curves: curves.filter(|curve| !curve.points.is_empty()).collect() }
    };
    let panels = vec![
        panel("nβ (L − L(w*))", &|visit| n_beta * visit.rise),
        panel("‖w − w*‖", &|visit| visit.square_distance.sqrt()),
    ];
    let means = if steps > 1 { format!(", as means over {steps} steps") } else { String::new() };
    let caption = format!(
        "Excess loss and distance from the checkpoint along the chains{means}; the first {} steps do not count. Step size {}, γ {}, \
         nβ {}.",
        own.burn_in,
        significant(own.dynamics.step_size, 3),
        significant(own.dynamics.gamma, 3),
        significant(n_beta, 4),
    );
    let words = Words { name: "llc_traces", caption, statement: statement.into() };
    write(panels, &Along { title: "step", logarithmic: false }, words, target)
}

/// The mean over `visits`, of which the first is number `start`.
fn point(start: usize, visits: &[Visit], number: &dyn Fn(&Visit) -> f64) -> Option<(f64, f64, f64)> {
    let mean = |sum: f64| sum / visits.len() as f64;
    let value = mean(visits.iter().map(number).sum());
    let step = start as f64 + 0.5 * (visits.len() - 1) as f64;
    value.is_finite().then_some((step, value, f64::NAN))
}

fn sweep(report: &LlcReport, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let mut curves: Vec<BandCurve> = Vec::new();
    for Estimate { dynamics, value, std_err, .. } in report.estimates.iter().filter(|own| own.value.is_finite()) {
        let name = format!("γ {}", significant(dynamics.gamma, 3));
        let point = (dynamics.step_size, *value, *std_err);
        match curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push(point),
            None => curves.push(BandCurve { name, points: vec![point] }),
        }
    }
    if report.estimates.len() < 2 {
        return Ok(Drawn::default());
    }
    let caption = "Learning coefficient against the step size, for each localisation γ at which chains have settled; bands: \
                   ± 1 s.e. over chains and draws.";
    let words = Words { name: "llc_sweep", caption: caption.into(), statement: statement.into() };
    let panel = BandPanel { title: "learning coefficient", curves };
    write(vec![panel], &Along { title: "step size", logarithmic: true }, words, target)
}
