//! `flatness estimate`: what an analysis will cost.

use clap::Args;
use serde_json::json;

use super::Ui;
use super::ui::duration;
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
}

pub(super) fn run(args: &EstimateArgs, ui: &mut Ui) -> Result<u8> {
    let mut options = args.survey.clone();
    options.check()?;
    let mut session = args.session.open(Precision::F32, ui)?;
    session.options.seed = options.seed;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    ui.notes(&fit(&mut options, &objective)?);
    let cost = CostEstimate::measure(&objective, &session.checkpoint.theta, &options, &mut ui.progress())?;
    if ui.wants_json() {
        let mut report = json!(cost);
        report["statement"] = json!(session.statement());
        report["num_params"] = json!(objective.dim());
        report["threads"] = json!(session.options.execution.threads);
        report["micro_batch"] = json!(objective.micro_batch(cost.block_size));
        ui.answer(&report);
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
