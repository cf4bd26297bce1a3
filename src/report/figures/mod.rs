//! Figures for print: one column of 3.3 inches, one style, each as SVG, PNG and PDF.
//!
//! plotters draws an SVG, in which every letter is then turned into an outline of the one embedded font; from that the
//! PNG and the PDF are made, so that the three agree on every machine.

use std::path::{Path, PathBuf};

use super::ReportError;
use crate::analysis::{AnalysisReport, OperatorKind, SpectrumReport};
use crate::spectral::Axis;

mod bands;
mod canvas;
mod comparison;
mod contour;
mod density;
mod distribution;
mod export;
mod field;
mod groups;
mod hints;
mod landscape;
mod langevin;
mod number;
pub(super) mod palette;
mod panel;
mod plane;
mod scale;
mod sharpness;
mod sheet;
mod slices;
mod spectra;
mod spectrum;
mod subset_study;
mod surface;
mod sweep;
mod tracked;
mod training;

pub use comparison::write_comparison;
pub use groups::write_groups;
pub use landscape::write_landscape;
pub use langevin::write_langevin;
pub use sharpness::write_sharpness;
pub use spectra::{GroupSpectrum, write_spectra};
pub use subset_study::write_subset_study;
pub use sweep::{SweepCurve, SweepPanel, write_sweep};
pub use tracked::{TrackedCurve, write_tracked};
pub use training::{TrainingCurve, write_training_curves};

/// Most operators and scopes in one panel.
const MAX_SPECTRA: usize = 4;

/// Writes every figure that `report` has numbers for into `folder`, which exists; returns the paths: `spectrum`,
/// `density_linear`, `density_signed_log`, `density_log_abs`, `distribution`, `slices`, `plane`, each as `.svg`, `.png` and `.pdf`.
///
/// Spectra of the whole network (scope `all`) are drawn; where there are none, the first four of the report.
///
/// # Errors
/// [`ReportError::Figure`] where a figure cannot be drawn, [`ReportError::Write`] where a file cannot be written.
pub fn write_figures(report: &AnalysisReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let whole = report.spectra.iter().filter(|spectrum| spectrum.scope == "all");
    let mut spectra: Vec<&SpectrumReport> = whole.collect();
    if spectra.is_empty() {
        spectra = report.spectra.iter().collect();
    }
    spectra.truncate(MAX_SPECTRA);
    let mut paths = spectrum::write(report, &spectra, folder)?;
    paths.extend(density::write(report, &spectra, Axis::Linear, folder)?);
    paths.extend(density::write(report, &spectra, Axis::SignedLog, folder)?);
    paths.extend(density::write(report, &spectra, Axis::LogAbs, folder)?);
    paths.extend(distribution::write(report, &spectra, folder)?);
    paths.extend(subset_study::write_subset_study(&report.subset_study, folder)?);
    paths.extend(slices::write(report, folder)?);
    paths.extend(plane::write(report, folder)?);
    Ok(paths)
}

fn operator_name(spectrum: &SpectrumReport) -> String {
    let operator = match spectrum.operator {
        OperatorKind::Hessian => "Hessian",
        OperatorKind::Ggn => "GGN",
        OperatorKind::Residual => "Hessian less GGN",
        OperatorKind::EmpiricalFisher => "empirical Fisher",
        OperatorKind::McFisher => "Monte Carlo Fisher",
        OperatorKind::GradientCovariance => "gradient covariance",
    };
    if spectrum.scope == "all" { operator.to_owned() } else { format!("{operator}, {}", spectrum.scope) }
}

fn statement(report: &AnalysisReport) -> String {
    [report.name.as_str(), report.statement.as_str()]
        .map(str::trim)
        .into_iter()
        .filter(|s| !s.is_empty())
        .collect::<Vec<_>>()
        .join(" · ")
}

#[cfg(test)]
mod tests;
