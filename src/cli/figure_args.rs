//! How figures are set: options of every command that draws some.

use clap::Args;

use crate::plan::{parsed_by, word};
use crate::report::figures::{Look, Style};

/// Look, width and panels.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Figures")]
pub(super) struct FigureArgs {
    /// Look of figures: paper (conditions in figures/captions.md and on the page) or annotated (also in small print, for
    /// slides and drafts)
    #[arg(hide_short_help = true, long, value_name = "LOOK", value_parser = word::<Look>(), default_value = "paper")]
    style: Look,
    /// Width of every figure: icml (3.25in), icml-wide (6.75in), neurips (5.5in), one (3.3in), two (6.9in), or a length
    /// such as 84mm [default: one, and two for groups and spectra]
    #[arg(hide_short_help = true, long, value_name = "WIDTH", value_parser = parsed_by(points))]
    width: Option<f64>,
    /// Also write each panel of a figure to a file of its own
    #[arg(hide_short_help = true, long)]
    panels: bool,
}

impl FigureArgs {
    /// For the figures.
    pub(super) fn style(&self) -> Style {
        Style { look: self.style, width: self.width, panels: self.panels }
    }
}

/// Widths that papers have, in inches.
const PAPERS: [(&str, f64); 5] = [("icml", 3.25), ("icml-wide", 6.75), ("neurips", 5.5), ("one", 3.3), ("two", 6.9)];
/// Points of a unit of length.
const UNITS: [(&str, f64); 4] = [("in", 72.0), ("cm", 72.0 / 2.54), ("mm", 72.0 / 25.4), ("pt", 1.0)];
/// Least and largest width in inches: below the first, labels have no room.
const RANGE: (f64, f64) = (2.0, 20.0);

/// Points of a paper's name or a length.
fn points(text: &str) -> Result<f64, String> {
    let known = PAPERS.iter().find(|(name, _)| *name == text).map(|(_, inches)| 72.0 * inches);
    let length = || {
        let (number, unit) = UNITS.iter().find_map(|(name, points)| Some((text.strip_suffix(name)?, points)))?;
        Some(number.trim().parse::<f64>().ok()? * unit)
    };
    let inches = |points: &f64| (RANGE.0..=RANGE.1).contains(&(points / 72.0));
    known.or_else(length).filter(inches).ok_or_else(|| {
        let names = PAPERS.map(|(name, _)| name).join(", ");
        format!("must be {names}, or a length from 2in to 20in such as 3.25in, 8.4cm, 84mm or 240pt")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_names_or_lengths_in_range() {
        for (text, width) in [("icml", 234.0), ("neurips", 396.0), ("3.25in", 234.0), ("234pt", 234.0)] {
            assert_eq!(points(text).unwrap(), width);
        }
        for text in ["84 mm", "8.4cm"] {
            assert!((points(text).unwrap() - 238.11).abs() < 0.01);
        }
        for refused in ["", "in", "3", "acm", "1.9in", "21in", "-4in", "NaNin", "infpt", "3.25 inches"] {
            assert!(points(refused).unwrap_err().contains("icml-wide"), "{refused}");
        }
    }
}
