//! The tables of one analysis.

use std::path::{Path, PathBuf};

use super::{Columns, column, count, flag, number, text, write_table};
use crate::analysis::{AnalysisReport, EigenvectorReport, LayerMass, SpectrumReport, SubsetStudy};
use crate::landscape::SliceReport;
use crate::report::ReportError;
use crate::spectral::{Axis, DensityReport, EigenReport, Quadrature};
use crate::vocabulary::{Curvature, SummaryRow};

/// Writes all tables of `report` into `folder`, which exists; returns their paths.
///
/// Tables without rows are written too, so that no table of an earlier run remains and readers find every column.
///
/// `interrupted`: the run ended early, with fewer steps or probes than asked for. `method` is `slq_three_term` instead of
/// `slq` if the bases did not fit into memory; nodes may then repeat.
///
/// | table | one row per | notes |
/// |---|---|---|
/// | `eigenvalues` | Ritz value at an `end` (`top`: largest first, `bottom`: smallest first) | `residual_norm` is `‖A y − θ y‖`; `std_err_numeric` repeats it: a bound on the distance to an eigenvalue, not a standard deviation |
/// | `eigenvector_layers` | eigenvector and layer | `mass` is `Σ yᵢ²` over the layer; `inverse_participation` is `Σ yᵢ⁴` of the whole vector |
/// | `trace` | operator and scope | `converged`: `std_err_numeric` is within its tolerance; `num_probes` is 0 if it is exact |
/// | `trace_samples` | probe | `sample` is `zᵀAz` of the part that was estimated by probes: the residual, or the operator without the converged pairs |
/// | `density` | grid position | `value` is an eigenvalue; `density` is per unit of `axis` (`linear`: λ; `log_abs`: a decade of |λ|, two curves by the sign of `value`; `signed_log`: `sign(λ)·log10(1 + \|λ\|/linear_threshold)`) and smoothed by a Gaussian of standard deviation `kernel_sigma` in that unit, which varies with the position; `low` to `high`: 95 % interval for the probes; nothing within ±`linear_threshold`, where eigenvalues are not located; `converged`: the last quarter of the steps moved the density by no more than its tolerance, and all beyond 1 % of the largest is located |
/// | `distribution` | eigenvalue `value` | `share`: of all eigenvalues, those up to `value`, and `num_above`: how many are larger; `quadrature_low`, `quadrature_high`: what the moments allow (Chebyshev, Markov and Stieltjes); `low`, `high`: that and, outside it, a 95 % interval for the probes; a pair of neighbouring rows with opposite signs encloses what lies too near zero to be located |
/// | `density_nodes` | Ritz value of a probe | raw quadrature: the weights of one probe sum to 1; `exact`: the Krylov space is invariant |
/// | `subset_study` | quantity and size of subset | `value` is the mean over `num_subsets` subsets without common rows, `std_err_data` the error of one; empty unless asked for |
/// | `slices` | point of a line or plane | `curvature` is the eigenvalue along an eigenvector, otherwise null |
/// | `summary` | headline number | |
///
/// # Errors
/// [`ReportError::Table`] or [`ReportError::File`] for the first table that fails.
pub fn write_tables(report: &AnalysisReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let tables = [
        ("eigenvalues", eigenvalues(&report.spectra)),
        ("eigenvector_layers", eigenvector_layers(report)),
        ("trace", trace(&report.spectra)),
        ("trace_samples", trace_samples(&report.spectra)),
        ("density", density(&report.spectra)),
        ("distribution", distribution(&report.spectra)),
        ("density_nodes", density_nodes(&report.spectra)),
        ("subset_study", subset_study(&report.subset_study)),
        ("slices", slices(&report.slices)),
        ("summary", summary(&report.summary)),
    ];
    let write = |(name, columns): (&str, Columns)| {
        let path = folder.join(format!("{name}.parquet"));
        write_table(&path, &columns, &report.configuration).map(|()| path)
    };
    tables.into_iter().map(write).collect()
}

fn eigenvalues(spectra: &[SpectrumReport]) -> Columns {
    type Row<'a> = (&'a SpectrumReport, &'a EigenReport, usize);
    let ends = spectra.iter().flat_map(|s| [(s, &s.top), (s, &s.bottom)]);
    let rows: Vec<Row> = ends.flat_map(|(s, eigen)| (0..eigen.ritz_values.len()).map(move |i| (s, eigen, i))).collect();
    let residual = |(_, eigen, i): &Row| eigen.residual_norms.get(*i).copied().unwrap_or(f64::NAN);
    vec![
        (column::OPERATOR, text(&rows, |(s, ..)| s.operator)),
        (column::SCOPE, text(&rows, |(s, ..)| &s.scope)),
        (column::END, text(&rows, |(_, eigen, _)| eigen.end)),
        (column::INDEX, count(&rows, |(.., i)| *i)),
        (column::EIGENVALUE, number(&rows, |(_, eigen, i)| eigen.ritz_values[*i])),
        (column::RESIDUAL_NORM, number(&rows, residual)),
        (column::STD_ERR_NUMERIC, number(&rows, residual)),
        (column::STD_ERR_DATA, number(&rows, |(_, eigen, i)| eigen.std_err_data.get(*i).copied().unwrap_or(f64::NAN))),
        (column::METHOD, text(&rows, |(_, eigen, _)| eigen.method)),
        (column::CONVERGED, flag(&rows, |(_, eigen, i)| eigen.converged.get(*i).copied().unwrap_or(false))),
        (column::NUM_MATVECS, count(&rows, |(_, eigen, _)| eigen.num_matvecs)),
        ("interrupted", flag(&rows, |(_, eigen, _)| eigen.interrupted)),
    ]
}

fn eigenvector_layers(report: &AnalysisReport) -> Columns {
    type Row<'a> = (&'a str, &'a EigenvectorReport, &'a LayerMass);
    let vectors = report.eigenvectors.iter().map(|(operator, vector)| (operator.name(), vector));
    let rows: Vec<Row> =
        vectors.flat_map(|(name, vector)| vector.layers.iter().map(move |layer| (name, vector, layer))).collect();
    vec![
        (column::OPERATOR, text(&rows, |(operator, ..)| operator)),
        (column::END, text(&rows, |(_, vector, _)| vector.end)),
        (column::INDEX, count(&rows, |(_, vector, _)| vector.index)),
        ("layer", text(&rows, |(.., part)| &part.layer)),
        ("mass", number(&rows, |(.., part)| part.mass)),
        ("inverse_participation", number(&rows, |(_, vector, _)| vector.inverse_participation)),
    ]
}

fn trace(rows: &[SpectrumReport]) -> Columns {
    vec![
        (column::OPERATOR, text(rows, |s| s.operator)),
        (column::SCOPE, text(rows, |s| &s.scope)),
        ("trace", number(rows, |s| s.trace.trace)),
        ("num_probes", count(rows, |s| s.trace.samples.len())),
        (column::STD_ERR_NUMERIC, number(rows, |s| s.trace.std_err_numeric)),
        (column::STD_ERR_DATA, number(rows, |s| s.trace.std_err_data)),
        (column::METHOD, text(rows, |s| s.trace.method)),
        (column::CONVERGED, flag(rows, |s| s.trace.converged)),
        (column::NUM_MATVECS, count(rows, |s| s.trace.num_matvecs)),
    ]
}

fn trace_samples(spectra: &[SpectrumReport]) -> Columns {
    let rows: Vec<(&SpectrumReport, usize, f64)> =
        spectra.iter().flat_map(|s| s.trace.samples.iter().enumerate().map(move |(probe, z)| (s, probe, *z))).collect();
    vec![
        (column::OPERATOR, text(&rows, |(s, ..)| s.operator)),
        (column::SCOPE, text(&rows, |(s, ..)| &s.scope)),
        (column::PROBE, count(&rows, |(_, probe, _)| *probe)),
        ("sample", number(&rows, |(.., sample)| *sample)),
    ]
}

fn density(spectra: &[SpectrumReport]) -> Columns {
    type Row<'a> = (&'a SpectrumReport, &'a DensityReport, usize);
    let densities = spectra.iter().flat_map(|s| s.densities.iter().map(move |d| (s, d)));
    let rows: Vec<Row> = densities.flat_map(|(s, d)| (0..d.values.len()).map(move |i| (s, d, i))).collect();
    let axis = |axis| match axis {
        Axis::Linear => "linear",
        Axis::SignedLog => "signed_log",
        Axis::LogAbs => "log_abs",
    };
    vec![
        (column::OPERATOR, text(&rows, |(s, ..)| s.operator)),
        (column::SCOPE, text(&rows, |(s, ..)| &s.scope)),
        ("axis", text(&rows, |(_, d, _)| axis(d.axis))),
        (column::VALUE, number(&rows, |(_, d, i)| d.values[*i])),
        ("density", number(&rows, |(_, d, i)| d.density[*i])),
        ("low", number(&rows, |(_, d, i)| d.range[*i][0])),
        ("high", number(&rows, |(_, d, i)| d.range[*i][1])),
        ("kernel_sigma", number(&rows, |(_, d, i)| d.sigma[*i])),
        ("linear_threshold", number(&rows, |(_, d, _)| d.linear_threshold)),
        (column::STD_ERR_NUMERIC, number(&rows, |(_, d, i)| d.std_err[*i])),
        (column::STD_ERR_DATA, number(&rows, |_| f64::NAN)),
        (column::METHOD, text(&rows, |(s, ..)| s.slq.source.method())),
        (column::CONVERGED, flag(&rows, |(s, ..)| s.outcome.density_converged)),
        (column::NUM_MATVECS, count(&rows, |(s, ..)| s.slq.num_matvecs)),
        ("interrupted", flag(&rows, |(s, ..)| s.slq.interrupted)),
    ]
}

fn distribution(spectra: &[SpectrumReport]) -> Columns {
    type Row<'a> = (&'a SpectrumReport, usize);
    let rows: Vec<Row> =
        spectra.iter().flat_map(|s| (0..s.distribution.values.len()).map(move |index| (s, index))).collect();
    let share = |(s, i): &Row| s.distribution.shares[*i];
    vec![
        (column::OPERATOR, text(&rows, |(s, _)| s.operator)),
        (column::SCOPE, text(&rows, |(s, _)| &s.scope)),
        (column::VALUE, number(&rows, |(s, i)| s.distribution.values[*i])),
        ("share", number(&rows, share)),
        ("quadrature_low", number(&rows, |(s, i)| s.distribution.quadrature[*i][0])),
        ("quadrature_high", number(&rows, |(s, i)| s.distribution.quadrature[*i][1])),
        ("low", number(&rows, |(s, i)| s.distribution.range[*i][0])),
        ("high", number(&rows, |(s, i)| s.distribution.range[*i][1])),
        ("num_above", number(&rows, |row| row.0.slq.dim as f64 * (1.0 - share(row)))),
        (column::METHOD, text(&rows, |(s, _)| s.slq.source.method())),
        (column::NUM_MATVECS, count(&rows, |(s, _)| s.slq.num_matvecs)),
        ("interrupted", flag(&rows, |(s, _)| s.slq.interrupted)),
    ]
}

fn density_nodes(spectra: &[SpectrumReport]) -> Columns {
    type Row<'a> = (&'a SpectrumReport, usize, &'a Quadrature, usize);
    let probes = spectra.iter().flat_map(|s| s.slq.probes.iter().enumerate().map(move |(p, rule)| (s, p, rule)));
    let rows: Vec<Row> = probes.flat_map(|(s, p, rule)| (0..rule.nodes.len()).map(move |i| (s, p, rule, i))).collect();
    vec![
        (column::OPERATOR, text(&rows, |(s, ..)| s.operator)),
        (column::SCOPE, text(&rows, |(s, ..)| &s.scope)),
        (column::PROBE, count(&rows, |(_, probe, ..)| *probe)),
        (column::NODE, number(&rows, |(_, _, rule, i)| rule.nodes[*i])),
        (column::WEIGHT, number(&rows, |(_, _, rule, i)| rule.weights[*i])),
        ("exact", flag(&rows, |(_, _, rule, _)| rule.exact)),
        (column::METHOD, text(&rows, |(s, ..)| s.slq.source.method())),
        ("interrupted", flag(&rows, |(s, ..)| s.slq.interrupted)),
    ]
}

fn subset_study(study: &SubsetStudy) -> Columns {
    let rows = &study.rows;
    vec![
        (column::OPERATOR, text(rows, |_| study.operator.map_or("", Curvature::name))),
        (column::SCOPE, text(rows, |_| &study.scope)),
        (column::QUANTITY, text(rows, |row| &row.quantity)),
        ("num_rows", count(rows, |row| row.num_rows)),
        ("num_subsets", count(rows, |row| row.num_subsets)),
        (column::VALUE, number(rows, |row| row.value)),
        (column::STD_ERR_DATA, number(rows, |row| row.std_err)),
    ]
}

fn slices(slices: &[SliceReport]) -> Columns {
    let rows: Vec<(&SliceReport, usize)> =
        slices.iter().flat_map(|slice| (0..slice.x.len()).map(move |i| (slice, i))).collect();
    vec![
        ("kind", text(&rows, |(slice, _)| slice.kind.name())),
        ("direction", count(&rows, |(slice, _)| slice.direction)),
        ("x", number(&rows, |(slice, i)| slice.x[*i])),
        ("y", number(&rows, |(slice, i)| slice.y[*i])),
        ("loss", number(&rows, |(slice, i)| slice.loss[*i])),
        (column::STD_ERR_DATA, number(&rows, |(slice, i)| slice.std_err_data[*i])),
        ("accuracy", number(&rows, |(slice, i)| slice.accuracy[*i])),
        ("accuracy_std_err_data", number(&rows, |(slice, i)| slice.accuracy_std_err_data[*i])),
        ("slope", number(&rows, |(slice, _)| slice.slope)),
        ("curvature", number(&rows, |(slice, _)| slice.curvature)),
    ]
}

pub(super) fn summary(rows: &[SummaryRow]) -> Columns {
    vec![
        (column::OPERATOR, text(rows, SummaryRow::operator_name)),
        (column::SCOPE, text(rows, |row| &row.scope)),
        (column::QUANTITY, text(rows, |row| &row.quantity)),
        (column::VALUE, number(rows, |row| row.value)),
        (column::STD_ERR_NUMERIC, number(rows, |row| row.std_err_numeric)),
        (column::STD_ERR_DATA, number(rows, |row| row.std_err_data)),
        (column::METHOD, text(rows, |row| &row.method)),
        (column::CONVERGED, flag(rows, |row| row.converged)),
        (column::NUM_MATVECS, count(rows, |row| row.num_matvecs)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic;
    use crate::report::tables::{Column, read_table};

    #[test]
    fn every_table_of_a_report_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let report = synthetic::report();
        let paths = write_tables(&report, folder.path()).unwrap();
        assert_eq!(paths.len(), 10);
        for path in &paths {
            assert_eq!(read_table(path).unwrap().configuration, report.configuration);
        }
        let eigenvalues = read_table(&folder.path().join("eigenvalues.parquet")).unwrap();
        let top = report.spectra[0].top.ritz_values[0];
        let Some(Column::Number(values)) = eigenvalues.column("eigenvalue") else { panic!("a number") };
        assert_eq!(values[0], top);
        assert_eq!(eigenvalues.column("residual_norm"), eigenvalues.column("std_err_numeric"));
        let nodes = read_table(&folder.path().join("density_nodes.parquet")).unwrap();
        let (Some(Column::Count(probe)), Some(Column::Number(weight))) =
            (nodes.column("probe"), nodes.column("weight"))
        else {
            panic!("probe and weight")
        };
        // Both operators have the same probes, so the weights of probe 0 appear twice.
        let total: f64 = probe.iter().zip(weight).filter(|(p, _)| **p == 0).map(|(_, w)| w).sum();
        assert!((total - 2.0).abs() < 1e-12, "{total}");
    }

    #[test]
    fn an_empty_report_still_has_every_column() {
        let folder = tempfile::tempdir().unwrap();
        for path in write_tables(&synthetic::empty(), folder.path()).unwrap() {
            assert!(read_table(&path).unwrap().columns.len() >= 4, "{}", path.display());
        }
    }
}
