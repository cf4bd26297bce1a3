//! Which headline numbers are not resolved, and what would resolve them.

use super::headlines::CONVERGED;
use super::{AnalysisReport, SpectrumReport};
use crate::spectral::Stop;
use crate::vocabulary::SummaryRow;

/// A line for each group of unconverged numbers of an operator that the same setting would resolve. The outermost
/// eigenvalues are not among them: an unconverged one is a bound.
///
/// The error of a quadrature falls like one over its number of steps, so the steps that a number needs follow from its
/// error; they are rounded up to a power of two. If one product per parameter is cheaper, `--method dense` is suggested.
pub fn unresolved(report: &AnalysisReport) -> Vec<String> {
    report.spectra.iter().flat_map(|spectrum| of_spectrum(spectrum, &report.summary)).collect()
}

fn of_spectrum(spectrum: &SpectrumReport, summary: &[SummaryRow]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    let own = |row: &&SummaryRow| row.operator == Some(spectrum.operator) && row.scope == spectrum.scope;
    for row in summary.iter().filter(own).filter(|row| !row.converged && !row.is_bound()) {
        let remedy = remedy(spectrum, row);
        let name = row.quantity.label();
        match lines.iter_mut().find(|(own, _)| *own == remedy) {
            Some((_, names)) => names.push(name),
            None => lines.push((remedy, vec![name])),
        }
    }
    let operator = spectrum.operator.name().replace('_', " ");
    lines
        .into_iter()
        .map(|(remedy, names)| format!("{operator}: {} not resolved: {remedy}", names.join(", ")))
        .collect()
}

fn remedy(spectrum: &SpectrumReport, row: &SummaryRow) -> String {
    let slq = &spectrum.slq;
    if row.method != slq.source.method() {
        return format!("{} products were not enough, see --max-matvecs", row.num_matvecs);
    }
    let open = row.std_err_numeric / (CONVERGED * row.value.abs());
    // Errors that are not known ask for twice as many steps, to begin with.
    let factor = if open.is_nan() { 2.0 } else { open.max(2.0) };
    let steps = 2f64.powf((factor * slq.num_steps as f64).log2().ceil());
    let products = steps * slq.probes.len() as f64;
    if products >= slq.dim as f64 {
        return format!("--method dense would take {} products", slq.dim);
    }
    match spectrum.outcome.stop {
        Stop::Converged | Stop::MaxSteps => format!("--steps {steps} would take about {products} products"),
        // The steps allowed were not even taken.
        _ => format!("about {products} products would be enough, see --max-matvecs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic;
    use crate::vocabulary::{Curvature, Method, Quantity};

    #[test]
    fn a_line_says_how_many_steps_and_products_are_missing() {
        let mut report = synthetic::report();
        report.summary.clear();
        let row = |quantity: Quantity, value, std_err_numeric, method: Method| SummaryRow {
            operator: Some(Curvature::Hessian),
            std_err_numeric,
            method,
            converged: false,
            num_matvecs: 800,
            ..SummaryRow::exact(quantity, value)
        };
        report.summary = vec![
            row(Quantity::LambdaMax, 2100.0, 30.0, Method::Lanczos),
            row(Quantity::Trace, 14_000.0, 900.0, Method::Hutchinson),
            // 80 steps and three times the error allowed: 240 steps, with 10 probes each.
            row(Quantity::NuclearNorm, 100.0, 30.0, Method::Slq),
            row(Quantity::NegativeMass, 0.2, f64::NAN, Method::Slq),
            row(Quantity::EffectiveDimension, 50.0, 5.0e4, Method::Slq),
        ];
        let [trace, steps, dense] = &unresolved(&report)[..] else { panic!("{:?}", unresolved(&report)) };
        assert_eq!(trace, "hessian: trace not resolved: 800 products were not enough, see --max-matvecs");
        let expected = "--steps 256 would take about 2560 products";
        assert_eq!(steps, &format!("hessian: nuclear norm, negative mass not resolved: {expected}"));
        let expected = "effective dimension not resolved: --method dense would take 272474 products";
        assert_eq!(dense, &format!("hessian: {expected}"));
        report.spectra[0].outcome.stop = Stop::MaxMatvecs;
        assert!(unresolved(&report)[1].ends_with("about 2560 products would be enough, see --max-matvecs"));
        report.summary.iter_mut().for_each(|row| row.converged = true);
        assert!(unresolved(&report).is_empty());
    }
}
