//! `flatness estimate`: what an analysis will cost.

use clap::Args;
use serde_json::json;

use super::Ui;
use crate::Result;
use crate::analysis::{CostEstimate, fit};
use crate::objective::Objective;
use crate::plan::{AnalysisOptions, EigenMethod, Precision, SessionArgs};

/// Arguments of `estimate`.
#[derive(Debug, Args)]
pub(super) struct EstimateArgs {
    #[command(flatten)]
    pub(super) session: SessionArgs,
    #[command(flatten)]
    survey: AnalysisOptions,
    /// Print the estimate as JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &EstimateArgs, ui: &mut Ui) -> Result<u8> {
    let mut options = args.survey.clone();
    options.check()?;
    let mut session = args.session.open(Precision::F32, ui)?;
    session.options.seed = options.seed;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    ui.notes(&fit(&mut options, &objective)?);
    let cost = CostEstimate::measure(&objective, &session.checkpoint.theta, &options, &mut ui.progress())?;
    if args.json {
        let mut report = json!(cost);
        report["statement"] = json!(session.statement());
        report["num_params"] = json!(objective.dim());
        report["threads"] = json!(session.options.execution.threads);
        report["micro_batch"] = json!(objective.micro_batch(cost.block_size));
        ui.print_lines(&format!("{report:#}"));
    } else {
        print(&cost, &objective, &options, ui);
        ui.print(&session.statement());
    }
    Ok(0)
}

fn print(cost: &CostEstimate, objective: &Objective<'_>, options: &AnalysisOptions, ui: &mut Ui) {
    let threads = objective.options().execution.threads;
    let (pairs, dim) = (options.top + options.bottom, objective.dim());
    ui.print(&format!("survey       {}", summary(cost)));
    ui.print(&format!("parameters   {dim}"));
    let density = match options.method {
        _ if options.gram.len() == options.operators.len() => "all eigenvalues from the Gram matrix".to_owned(),
        EigenMethod::Dense => "all eigenvalues from the matrix".to_owned(),
        _ => {
            let steps = options.num_steps.min(dim);
            format!("a density from {} start vectors, {steps} steps at most", options.num_probes)
        }
    };
    ui.print(&format!("products     {} for {pairs} eigenpairs and {density}", cost.matvecs));
    ui.print(&format!("evaluations  {} for slices and plane", cost.evaluations));
    ui.print(&format!(
        "timed        {} a product (one block of {}), {} a gradient, {} an evaluation, on {threads} threads",
        duration(cost.seconds_per_matvec),
        cost.block_size,
        duration(cost.seconds_per_gradient),
        duration(cost.seconds_per_evaluation)
    ));
}

/// The whole in one line.
pub(super) fn summary(cost: &CostEstimate) -> String {
    let (time, memory) = (duration(cost.seconds), cost.memory_bytes.div_ceil(1 << 20));
    format!("about {} products, {time} and {memory} MiB (data and program not counted)", cost.matvecs)
}

/// `0.8 ms`, `12.4 s`, `7 min`, `3.5 h`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.2} ms", 1e3 * s),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_have_a_fitting_unit() {
        let words: Vec<String> = [0.00123, 12.34, 420.0, 12_600.0].into_iter().map(duration).collect();
        assert_eq!(words, ["1.23 ms", "12.3 s", "7 min", "3.5 h"]);
    }
}
