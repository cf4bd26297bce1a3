//! Where results go: refused before any work, made late, and gone again where nothing was written.

use std::path::{Path, PathBuf};

use super::CliError;
use crate::Result;
use crate::report::{ReportError, remove_leftovers};

/// Files that mark a folder as holding a result.
const MARKS: [&str; 3] = ["run.json", "summary.parquet", "checkpoint.safetensors"];

/// Refuses a folder that holds a result (unless `force`) and a path that leads through a file; changes nothing.
pub(super) fn check_folder(folder: &Path, force: bool) -> Result<()> {
    if let Some(file) = folder.ancestors().find(|path| path.is_file()) {
        return Err(CliError::OutputIsFile { path: file.into() }.into());
    }
    if !force && MARKS.iter().any(|file| folder.join(file).exists()) {
        return Err(CliError::OutputExists { folder: folder.into() }.into());
    }
    Ok(())
}

/// Whether `folder` holds a result that an interruption or a kill left incomplete.
pub(super) fn is_unfinished(folder: &Path) -> bool {
    let run = std::fs::read(folder.join("run.json")).ok();
    let run: Option<serde_json::Value> = run.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    run.is_none_or(|run| run["complete"] == false)
}

/// A folder for results. Those of its folders that were made for it are removed at the end where they are still empty.
pub(super) struct OutputFolder {
    /// Innermost first.
    made: Vec<PathBuf>,
}

/// [`check_folder`], then makes the folder and proves that one can write there: now, not after an hour of work.
pub(super) fn claim_folder(folder: &Path, force: bool) -> Result<OutputFolder> {
    check_folder(folder, force)?;
    let missing = folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let claimed = OutputFolder { made: missing.map(Path::to_owned).collect() };
    let error = |source| ReportError::Write { path: folder.into(), source };
    std::fs::create_dir_all(folder).map_err(error)?;
    tempfile::tempfile_in(folder).map_err(error)?;
    // Of a large state that was being written at a kill, for one.
    [folder.to_owned(), folder.join("figures")].iter().for_each(|folder| remove_leftovers(folder));
    Ok(claimed)
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        for folder in &self.made {
            // Fails, as it should, on a folder that holds something.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Refuses an output file that exists (unless `force`), is a folder, or lies where one cannot write.
pub(super) fn check_file(path: &Path, force: bool) -> Result<()> {
    if path.is_dir() {
        return Err(CliError::OutputIsFolder { path: path.into() }.into());
    }
    if path.exists() && !force {
        return Err(CliError::FileExists { path: path.into() }.into());
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder).map_err(|source| ReportError::Write { path: path.into(), source })?;
    Ok(())
}

/// Removes what an earlier analysis left in `folder` and a new one, which wrote `written`, did not replace.
pub(super) fn remove_outdated(folder: &Path, written: &[PathBuf]) {
    let figures =
        ["spectrum", "density_linear", "density_signed_log", "density_log_abs", "subset_study", "slices", "plane"];
    let figures =
        figures.iter().flat_map(|name| ["svg", "png", "pdf"].map(|ending| format!("figures/{name}.{ending}")));
    for file in figures.chain(["eigenvectors.safetensors".to_owned()]).map(|name| folder.join(name)) {
        if !written.contains(&file) {
            let _ = std::fs::remove_file(file);
        }
    }
}
