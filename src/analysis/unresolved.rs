//! Which headline numbers are not resolved, and what would resolve them.

use super::headlines::CONVERGED;
use super::{AnalysisReport, SpectrumReport};
use crate::spectral::Stop;
use crate::vocabulary::SummaryRow;

/// Steps that may show how far a density has come.
const FEWEST_STEPS: f64 = 8.0;

/// A line for each group of unconverged numbers of an operator that the same setting would resolve. The outermost
/// eigenvalues are not among them: an unconverged one is a bound.
///
/// The error of a quadrature falls like one over its number of steps, so the steps that a number needs follow from its
/// error; they are rounded up to a power of two. If one product per parameter is cheaper, `--method dense` is suggested,
/// else what ended the density before these steps.
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
    // Errors that are not known ask for twice as many steps, and a few at least, to begin with.
    let least = (FEWEST_STEPS / slq.num_steps as f64).max(2.0);
    let factor = if open.is_nan() { least } else { open.max(2.0) };
    let steps = 2f64.powf((factor * slq.num_steps as f64).log2().ceil());
    let products = steps * slq.probes.len() as f64;
    if products >= slq.dim as f64 {
        return format!("--method dense would take {} products", slq.dim);
    }
    let outcome = &spectrum.outcome;
    let all_taken = slq.num_steps >= outcome.num_steps;
    // The density ends where the basis shrinks for the first time.
    if !all_taken && outcome.memory_bound && outcome.num_restarts > 0 {
        return format!("a basis of about {products} vectors would be enough, see --memory");
    }
    // A method without a basis takes all steps, whether or not the density has settled before.
    let settled = outcome.density_converged && outcome.basis_rows > 0;
    match outcome.stop {
        Stop::Converged | Stop::MaxSteps if settled => {
            let more = if steps > outcome.num_steps as f64 { format!("--steps {steps} with ") } else { String::new() };
            format!("{more}a smaller --density-tol would take about {products} products")
        }
        Stop::Converged | Stop::MaxSteps if all_taken => {
            format!("--steps {steps} would take about {products} products")
        }
        Stop::MaxTime { .. } => format!("about {products} products would be enough, see --max-time"),
        // The steps allowed were not even taken.
        _ => format!("about {products} products would be enough, see --max-matvecs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic;
    use crate::spectral::SurveyOutcome;
    use crate::vocabulary::{Curvature, Method, Quantity};

    /// All steps taken, and the density settled.
    const OUTCOME: SurveyOutcome = SurveyOutcome {
        stop: Stop::Converged,
        density_converged: true,
        num_steps: 80,
        basis_rows: 158,
        memory_bound: false,
        num_restarts: 0,
        num_matvecs: 122,
    };

    #[test]
    fn a_line_says_how_many_steps_and_products_are_missing() {
        let mut report = synthetic::report();
        report.summary.clear();
        report.spectra[0].outcome = SurveyOutcome { stop: Stop::MaxSteps, density_converged: false, ..OUTCOME };
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
        report.summary.iter_mut().for_each(|row| row.converged = true);
        assert!(unresolved(&report).is_empty());
    }

    #[test]
    fn the_advice_names_what_ended_the_density() {
        let mut report = synthetic::report();
        // 80 steps, 10 probes and three times the error allowed: 240 steps.
        report.summary = vec![SummaryRow {
            operator: Some(Curvature::Hessian),
            std_err_numeric: 30.0,
            method: Method::Slq,
            converged: false,
            ..SummaryRow::exact(Quantity::NuclearNorm, 100.0)
        }];
        let open = SurveyOutcome { density_converged: false, ..OUTCOME };
        let (by_memory, max_matvecs) = (SurveyOutcome { memory_bound: true, num_restarts: 3, ..open }, 900);
        for (outcome, advice) in [
            (SurveyOutcome { stop: Stop::MaxSteps, ..open }, "--steps 256 would take about 2560 products"),
            (OUTCOME, "--steps 256 with a smaller --density-tol would take about 2560 products"),
            (SurveyOutcome { basis_rows: 0, ..OUTCOME }, "--steps 256 would take about 2560 products"),
            // More steps were asked for than would be enough: to ask for these would be to ask for less.
            (SurveyOutcome { num_steps: 300, ..OUTCOME }, "a smaller --density-tol would take about 2560 products"),
            (
                SurveyOutcome { num_steps: 300, ..by_memory },
                "a basis of about 2560 vectors would be enough, see --memory",
            ),
            (SurveyOutcome { num_steps: 300, ..open }, "about 2560 products would be enough, see --max-matvecs"),
            (
                SurveyOutcome { stop: Stop::MaxMatvecs, ..open },
                "about 2560 products would be enough, see --max-matvecs",
            ),
            (
                SurveyOutcome { stop: Stop::MaxTime { max_matvecs }, ..open },
                "about 2560 products would be enough, see --max-time",
            ),
        ] {
            report.spectra[0].outcome = outcome;
            assert_eq!(unresolved(&report), [format!("hessian: nuclear norm not resolved: {advice}")], "{outcome:?}");
        }
    }
}
