//! Figures for print: as wide as the columns of a paper, each as SVG, PNG and PDF, with its caption beside it.
//!
//! plotters draws an SVG. For the SVG that is written and the PNG, every letter is turned into an outline of the one
//! embedded font; the PDF has that font in it, so that its words can be searched and selected. All three agree on every
//! machine.

use super::ReportError;
use crate::analysis::{AnalysisReport, SpectrumReport};
use crate::spectral::Axis;
use crate::vocabulary::Scope;

mod bands;
mod brush;
mod canvas;
mod captions;
mod comparison;
mod contour;
mod density;
mod distribution;
mod evaluation;
mod export;
mod field;
mod groups;
mod hints;
mod landscape;
mod langevin;
mod llc;
mod number;
pub(super) mod palette;
mod panel;
mod plane;
mod point;
mod scale;
mod sharpness;
mod sheet;
mod slices;
mod smooth;
mod spectra;
mod spectrum;
mod stack;
mod style;
mod subset_study;
mod surface;
mod sweep;
mod tracked;
mod training;

pub use captions::Captions;
pub use comparison::write_comparison;
pub use evaluation::write_evaluation;
pub use groups::write_groups;
pub use landscape::write_landscape;
pub use langevin::write_langevin;
pub use llc::write_llc;
pub use sharpness::write_sharpness;
pub use spectra::{GroupSpectrum, SPECTRA_CAPTION, write_spectra};
pub use style::{Drawn, Look, Style, Target};
pub use subset_study::write_subset_study;
pub use sweep::{SweepCurve, SweepPanel, write_sweep};
pub use tracked::{TrackedCurve, write_tracked};
pub use training::{TrainingCurve, write_training_curves};

/// Most operators and scopes in one panel.
const MAX_SPECTRA: usize = 4;

/// Writes every figure that `report` has numbers for: `spectrum`, `density_linear`, `density_signed_log`,
/// `density_log_abs`, `distribution`, `subset_study`, `slices`, `plane`.
///
/// Spectra of the whole network (scope `all`) are drawn; where there are none, the first four of the report.
///
/// # Errors
/// [`ReportError::Figure`] where a figure cannot be drawn, [`ReportError::File`] where a file cannot be written.
pub fn write_figures(report: &AnalysisReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    let whole = report.spectra.iter().filter(|spectrum| spectrum.scope == Scope::All);
    let mut spectra: Vec<&SpectrumReport> = whole.collect();
    if spectra.is_empty() {
        spectra = report.spectra.iter().collect();
    }
    spectra.truncate(MAX_SPECTRA);
    let mut drawn = spectrum::write(report, &spectra, target)?;
    for axis in [Axis::Linear, Axis::SignedLog, Axis::LogAbs] {
        drawn.extend(density::write(report, &spectra, axis, target)?);
    }
    drawn.extend(distribution::write(report, &spectra, target)?);
    drawn.extend(subset_study::write_subset_study(&report.subset_study, target)?);
    drawn.extend(slices::write(report, target)?);
    drawn.extend(plane::write(report, target)?);
    Ok(drawn)
}

fn operator_name(spectrum: &SpectrumReport) -> String {
    let operator = spectrum.operator.title();
    if spectrum.scope == Scope::All { operator.to_owned() } else { format!("{operator}, {}", spectrum.scope) }
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
