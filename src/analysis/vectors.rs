//! Properties of eigenvectors: their mass by layer, how many parameters they involve, and their share of the gradient.

use candle_core::{DType, Tensor};

use super::{EigenvectorReport, LayerMass, SpectrumReport};
use crate::Result;
use crate::autodiff::ParamSpace;
use crate::spectral::{EigenReport, End};
use crate::vocabulary::Scope;

/// Mass per layer `Σ_{i in layer} yᵢ²` and participation of each eigenvector on the parameters of `scope`.
pub(super) fn eigenvectors(
    spectrum: &SpectrumReport,
    scope: &Scope,
    space: &ParamSpace,
) -> Result<Vec<EigenvectorReport>> {
    let mut reports = Vec::new();
    for end in [&spectrum.top, &spectrum.bottom] {
        for index in 0..end.vectors.dims()[0] {
            reports.push(eigenvector(end.end, index, &wide(&end.vectors.get(index)?)?, &spans(scope, space)?));
        }
    }
    Ok(reports)
}

/// Layers of the scope with the length of each of their tensors, in order.
pub(super) fn spans<'a>(scope: &Scope, space: &'a ParamSpace) -> Result<Vec<(&'a str, usize)>> {
    let tensors = scope.tensors(space)?.into_iter().map(|index| &space.tensors()[index]);
    Ok(tensors.map(|tensor| (tensor.layer(), tensor.len())).collect())
}

fn eigenvector(end: End, index: usize, row: &[f64], spans: &[(&str, usize)]) -> EigenvectorReport {
    let mut layers: Vec<LayerMass> = Vec::new();
    let mut start = 0;
    for (layer, len) in spans {
        let mass: f64 = row[start..start + len].iter().map(|entry| entry * entry).sum();
        start += len;
        match layers.iter_mut().find(|part| part.layer == *layer) {
            Some(part) => part.mass += mass,
            None => layers.push(LayerMass { layer: (*layer).to_owned(), mass }),
        }
    }
    let fourth: f64 = row.iter().map(|entry| entry.powi(4)).sum();
    EigenvectorReport { end, index, layers, inverse_participation: fourth }
}

/// `‖P g‖² / ‖g‖²`, `P` the projection on the top eigenvectors: how much of the gradient lies in sharp directions. NaN
/// for a zero gradient or without vectors. `gradient` is `[1, n]`.
pub(super) fn gradient_share(gradient: &Tensor, top: &EigenReport) -> Result<f64> {
    let gradient = wide(&gradient.flatten_all()?)?;
    let square: f64 = gradient.iter().map(|entry| entry * entry).sum();
    let rows = top.vectors.dims()[0];
    if rows == 0 || square == 0.0 {
        return Ok(f64::NAN);
    }
    let mut along = 0.0;
    for row in 0..rows {
        let dot: f64 = wide(&top.vectors.get(row)?)?.iter().zip(&gradient).map(|(y, g)| y * g).sum();
        along += dot * dot;
    }
    Ok(along / square)
}

fn wide(vector: &Tensor) -> Result<Vec<f64>> {
    Ok(vector.to_dtype(DType::F64)?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masses_add_up_and_participation_counts_entries() {
        let spans = [("a", 1), ("b", 2), ("a", 1)];
        let report = eigenvector(End::Top, 0, &[0.5, 0.5, 0.5, 0.5], &spans);
        let half = |layer: &str| LayerMass { layer: layer.into(), mass: 0.5 };
        assert_eq!(report.layers, [half("a"), half("b")]);
        // Four equal entries: 1/4.
        assert_eq!(report.inverse_participation, 0.25);
    }
}
