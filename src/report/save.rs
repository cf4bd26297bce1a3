//! Everything that one analysis leaves in its folder.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{ReportError, figures, tables, write_atomic};
use crate::analysis::AnalysisReport;
use crate::input;
use crate::landscape::LandscapeReport;

/// Writes the tables of `report` into `folder` and its figures into `folder/figures`, each file atomically; makes both
/// folders. Returns the paths, tables first: they are complete before the first figure is drawn.
///
/// # Errors
/// [`ReportError`] of the first file that fails; the files before it stay.
pub fn save_analysis(report: &AnalysisReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let figures = folder.join("figures");
    std::fs::create_dir_all(&figures).map_err(|source| ReportError::Write { path: figures.clone(), source })?;
    let mut paths = tables::write_tables(report, folder)?;
    paths.extend(figures::write_figures(report, &figures)?);
    Ok(paths)
}

/// The same for a landscape.
///
/// # Errors
/// [`ReportError`] of the first file that fails; the files before it stay.
pub fn save_landscape(report: &LandscapeReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let figures = folder.join("figures");
    std::fs::create_dir_all(&figures).map_err(|source| ReportError::Write { path: figures.clone(), source })?;
    let mut paths = tables::write_landscape_tables(report, folder)?;
    paths.extend(figures::write_landscape(report, &figures)?);
    Ok(paths)
}

/// Writes `provenance` as `folder/run.json`, indented, and returns its path.
///
/// # Errors
/// [`ReportError::Write`] where the folder is missing or not writable.
pub fn write_run_json(folder: &Path, provenance: &serde_json::Value) -> Result<PathBuf, ReportError> {
    let path = folder.join("run.json");
    write_atomic(&path, |file| writeln!(file, "{provenance:#}"))?;
    Ok(path)
}

/// What the `run.json` in `folder` holds, where there is one.
pub fn read_run_json(folder: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&input::read(&folder.join("run.json")).ok()?).ok()
}

/// Whether `folder` holds a result that is complete, by its `run.json`.
pub fn is_complete(folder: &Path) -> bool {
    read_run_json(folder).is_some_and(|run| run["complete"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic;

    #[test]
    fn saves_tables_and_figures_and_repeats_itself_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a/b"), folder.path().join("c"));
        let report = synthetic::report();
        let paths = save_analysis(&report, &first).unwrap();
        save_analysis(&report, &second).unwrap();
        assert!(paths.iter().any(|path| path.ends_with("figures/spectrum.pdf")));
        for path in paths {
            let again = second.join(path.strip_prefix(&first).unwrap());
            assert!(std::fs::read(&path).unwrap() == std::fs::read(again).unwrap(), "{} differs", path.display());
        }
    }

    #[test]
    fn run_json_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let provenance = serde_json::json!({"seed": 3, "threads": 2});
        let path = write_run_json(folder.path(), &provenance).unwrap();
        assert_eq!(path, folder.path().join("run.json"));
        assert_eq!(read_run_json(folder.path()).unwrap(), provenance);
        assert!(!is_complete(folder.path()));
        write_run_json(folder.path(), &serde_json::json!({"complete": true})).unwrap();
        assert!(is_complete(folder.path()) && !is_complete(&folder.path().join("absent")));
    }
}
