//! Everything that one analysis leaves in its folder.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::figures::{Style, Target};
use super::recorded::with_hashes;
use super::{ReportError, figures, tables};
use crate::analysis::AnalysisReport;
use crate::files::{make_folder, write_atomic};
use crate::input;
use crate::landscape::LandscapeReport;

/// Writes the tables of `report` into `folder` and its figures into `folder/figures`, each file atomically; makes both
/// folders. Returns the paths, tables first: they are complete before the first figure is drawn.
///
/// # Errors
/// [`ReportError`] of the first file that fails; the files before it stay.
pub fn save_analysis(report: &AnalysisReport, folder: &Path, style: Style) -> Result<Vec<PathBuf>, ReportError> {
    let figures = folder.join("figures");
    make_folder(&figures)?;
    let mut paths = tables::write_tables(report, folder)?;
    paths.extend(figures::write_figures(report, Target::new(&figures, style))?.finish(&figures)?);
    Ok(paths)
}

/// The same for a landscape.
///
/// # Errors
/// [`ReportError`] of the first file that fails; the files before it stay.
pub fn save_landscape(report: &LandscapeReport, folder: &Path, style: Style) -> Result<Vec<PathBuf>, ReportError> {
    let figures = folder.join("figures");
    make_folder(&figures)?;
    let mut paths = tables::write_landscape_tables(report, folder)?;
    paths.extend(figures::write_landscape(report, Target::new(&figures, style))?.finish(&figures)?);
    Ok(paths)
}

/// Writes `provenance` as `folder/run.json`, indented, with the length and SHA-256 of each of `files`, which the command
/// wrote into the folder, and a SHA-256 of its own; returns its path.
///
/// # Errors
/// [`ReportError::File`] where the folder is missing or not writable; [`ReportError::Read`] for a file that is not there.
pub fn write_run_json(folder: &Path, provenance: &Value, files: &[PathBuf]) -> Result<PathBuf, ReportError> {
    let (path, run) = (folder.join("run.json"), with_hashes(folder, provenance, files)?);
    write_atomic(&path, |file| writeln!(file, "{run:#}"))?;
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
        let paths = save_analysis(&report, &first, Style::default()).unwrap();
        save_analysis(&report, &second, Style::default()).unwrap();
        assert!(paths.iter().any(|path| path.ends_with("figures/spectrum.pdf")));
        for path in paths {
            let again = second.join(path.strip_prefix(&first).unwrap());
            assert!(std::fs::read(&path).unwrap() == std::fs::read(again).unwrap(), "{} differs", path.display());
        }
    }

    #[test]
    fn run_json_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("table.bin");
        std::fs::write(&table, b"abc").unwrap();
        let path = write_run_json(folder.path(), &serde_json::json!({"seed": 3, "threads": 2}), &[table]).unwrap();
        assert_eq!(path, folder.path().join("run.json"));
        let read = read_run_json(folder.path()).unwrap();
        assert_eq!((&read["seed"], &read["threads"]), (&3.into(), &2.into()));
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(read["files"], serde_json::json!({"table.bin": {"sha256": sha256, "bytes": 3}}));
        assert!(!is_complete(folder.path()));
        write_run_json(folder.path(), &serde_json::json!({"complete": true}), &[]).unwrap();
        assert!(is_complete(folder.path()) && !is_complete(&folder.path().join("absent")));
    }
}
