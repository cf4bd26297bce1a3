//! `flatness matvec`: products with the user's own vectors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use clap::Args;
use serde_json::json;

use super::Ui;
use super::output::check_file;
use crate::checkpoint::{TensorFile, checked_rows, write_tensors};
use crate::curvature::{Curvature, CurvatureOperator};
use crate::objective::Objective;
use crate::operator::LinearOperator;
use crate::path_text::to_text;
use crate::plan::{Precision, RESULT, SessionArgs, parsed_by};
use crate::spectral::SpectralError;
use crate::{Error, Result};

/// Arguments of `matvec`.
#[derive(Debug, Args)]
pub(super) struct MatvecArgs {
    #[command(flatten)]
    pub(super) session: SessionArgs,
    /// safetensors file with the tensor `vectors` [k, n]
    #[arg(long, value_name = "FILE")]
    vectors: PathBuf,
    /// Curvature matrix, by the names of `analyze`; fisher is the empirical one
    #[arg(long, value_name = "MATRIX", value_parser = parsed_by(matrix), default_value = "hessian")]
    operator: Curvature,
    /// Result: tensors `products` [k, n], `loss` [1], `gradient` [n]
    #[arg(help_heading = RESULT, long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite an existing file
    #[arg(help_heading = RESULT, long)]
    force: bool,
}

pub(super) fn run(args: &MatvecArgs, ui: &mut Ui) -> Result<u8> {
    check_file(&args.out, args.force)?;
    let file = TensorFile::read(&args.vectors)?;
    let session = args.session.open(Precision::F64, ui)?;
    let objective = Objective::new(&session.checkpoint.network, &session.data, session.options.clone())?;
    let vectors = file.get("vectors")?;
    if vectors.rank() != 2 || vectors.dims()[1] != objective.dim() || vectors.dims()[0] == 0 {
        return Err(Error::VectorShape { got: vectors.dims().to_vec(), dim: objective.dim() });
    }
    let block = objective.place(&checked_rows(&file, &args.vectors, "vectors")?)?;
    let operator = CurvatureOperator::new(&objective, &session.checkpoint.theta, args.operator)?;
    let mut progress = ui.progress();
    let report = objective.gradient(&objective.place(&session.checkpoint.theta)?, &mut progress)?;
    let products = operator.multiply(&block, &mut progress)?;
    if let Some(row) = count_not_finite(&products)?.iter().position(|&count| count > 0) {
        return Err(SpectralError::NonFinite { method: "matvec", matvec: row + 1 }.into());
    }
    let loss = Tensor::new(&[report.evaluation.loss], products.device())?.to_dtype(DType::F64)?;
    let tensors =
        [("products".to_owned(), products), ("loss".to_owned(), loss), ("gradient".to_owned(), report.gradient)];
    let metadata = BTreeMap::from([
        ("flatness.configuration".to_owned(), session.configuration(&objective).to_string()),
        ("flatness.statement".to_owned(), session.statement()),
    ]);
    write_tensors(&args.out, &tensors, &metadata)?;
    ui.print(&format!("loss {:.12}", report.evaluation.loss));
    if !report.evaluation.accuracy.is_nan() {
        ui.print(&format!("accuracy {:.6}", report.evaluation.accuracy));
    }
    ui.answer(&json!({
        "loss": report.evaluation.loss,
        "accuracy": report.evaluation.accuracy,
        "statement": session.statement(),
        "file": to_text(&args.out),
    }));
    ui.say(&session.statement());
    ui.say(&format!("wrote {}", args.out.display()));
    Ok(0)
}

fn matrix(name: &str) -> std::result::Result<Curvature, String> {
    if name == "fisher" {
        return Ok(Curvature::EmpiricalFisher);
    }
    name.parse::<Curvature>().map_err(|error| error.to_string())
}

/// NaN and infinities in each row.
fn count_not_finite(block: &Tensor) -> Result<Vec<usize>> {
    let rows = block.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    Ok(rows.iter().map(|row| row.iter().filter(|value| !value.is_finite()).count()).collect())
}
