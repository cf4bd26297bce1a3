//! The largest eigenvalue of the diagonal block of each layer.

use super::task::Task;
use crate::autodiff::ranges;
use crate::operator::Restricted;
use crate::random::{Purpose, substream};
use crate::spectral::{EigenParams, eigenpairs};
use crate::vocabulary::{Quantity, Scope, SummaryRow};
use crate::{Observer, Result};

/// `λ_max` of the diagonal block of each layer's tensors in the scope, with the other parameters fixed.
///
/// It never exceeds the largest eigenvalue of the whole matrix (Cauchy interlacing). Cost: about 20 products per layer.
pub(super) fn layers(task: Task<'_>, observer: &mut dyn Observer) -> Result<Vec<SummaryRow>> {
    let (Task { options, .. }, space, whole) = (task, task.space(), task.operator()?);
    let mut rows: Vec<SummaryRow> = Vec::new();
    for (index, (name, tensors)) in options.scope.layers(space)?.into_iter().enumerate() {
        let own = tensors.iter().map(|&tensor| &space.tensors()[tensor]);
        let operator = Restricted::new(&whole, ranges(own))?;
        let (tolerance, max_matvecs) = (options.eigen_tolerance, options.budget());
        let params = EigenParams { top: 1, bottom: 0, tolerance, max_matvecs, ..EigenParams::default() };
        let mut rng = substream(options.seed, Purpose::Eigenpairs, index as u64);
        let top = eigenpairs(&operator, &params, &mut rng, observer)?.top;
        rows.push(SummaryRow {
            operator: Some(task.curvature),
            scope: Scope::Layer(name.to_owned()),
            std_err_numeric: top.residual_norms[0],
            std_err_data: top.std_err_data[0],
            method: top.method,
            converged: top.converged[0],
            num_matvecs: top.num_matvecs,
            ..SummaryRow::exact(Quantity::LambdaMax, top.ritz_values[0])
        });
    }
    Ok(rows)
}
