//! `flatness check`: the engine tested on the user's own model and data.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Ui;
use crate::Result;
use crate::analysis::{CheckOptions, Finding, check, check_inputs, check_outputs};
use crate::checkpoint::TensorFile;
use crate::objective::Objective;
use crate::plan::{Precision, SessionArgs};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) session: SessionArgs,
    /// safetensors file with `outputs` (or `logits`) computed elsewhere, and the inputs under their names (or `x`); where
    /// --data has the same number of rows, they must be the same rows
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Seed of the test vectors
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: &CheckArgs, ui: &mut Ui) -> Result<u8> {
    let mut findings = Vec::new();
    let reference = args.against.as_deref().map(TensorFile::read).transpose()?;
    if let Some(reference) = &reference {
        findings.push(check_outputs(&args.session.read_checkpoint()?, reference)?);
    }
    let knows_data = args.session.given.is_some()
        || args.session.data.data.is_some()
        || args.session.read_checkpoint()?.data().is_some();
    if args.against.is_none() || knows_data {
        let session = args.session.open(Precision::F64, ui)?;
        let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
        if let Some(reference) = &reference {
            findings.extend(check_inputs(&objective, reference)?);
        }
        let options = CheckOptions { seed: args.seed };
        findings.extend(check(&objective, &session.checkpoint.theta, &options, &mut ui.progress())?);
        ui.say(&session.statement());
    }
    for Finding { what, figure, passed } in &findings {
        let verdict = match passed {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "    ",
        };
        ui.print(&format!("{verdict}  {what}: {figure}"));
    }
    let findings_json: Vec<_> = findings
        .iter()
        .map(|Finding { what, figure, passed }| json!({"what": what, "figure": figure, "passed": passed}))
        .collect();
    ui.answer(&json!({ "findings": findings_json }));
    let failed = findings.iter().filter(|finding| finding.passed == Some(false)).count();
    if failed > 0 {
        let hint =
            "repeat with --dtype f64; if it still fails, do not trust results for this model, and please report it";
        ui.complain(&format!("{failed} of {} checks failed", findings.len()), Some(hint));
        return Ok(1);
    }
    Ok(0)
}
