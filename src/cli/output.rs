//! Where results go: one process has a folder, an old result is withdrawn before the first file of a new one, and what was
//! made for nothing goes again.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::CliError;
use crate::Result;
use crate::checkpoint::{CheckpointError, differences};
use crate::files::{FileError, FolderLock, Sharing, remove_leftovers};
use crate::report::figures::Captions;
use crate::report::{is_complete, read_run_json};
use crate::team::team;

/// Files that mark a folder as holding a result.
const MARKS: [&str; 3] = ["run.json", "summary.parquet", "checkpoint.safetensors"];
/// Says that a result is complete; it is the last file written.
const RUN: &str = "run.json";

/// What becomes of a result that is in the folder already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is refused.
    Refuse,
    /// A new one takes its place.
    Replace,
    /// Work goes on where it is unfinished; a complete one stays.
    Resume,
}

impl Existing {
    /// As the options say.
    pub(super) fn of(force: bool, resume: bool) -> Self {
        match (force, resume) {
            (true, _) => Self::Replace,
            (false, true) => Self::Resume,
            (false, false) => Self::Refuse,
        }
    }
}

/// Folders that were made for a result, innermost first; those that are still empty at the end are removed.
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Fails, as it should, on a folder that holds something.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// A folder for a result, taken, and nothing in it changed yet. Of several ranks the first has it; the others know its name.
pub(super) struct Claim {
    // Gone before the folders, which are empty only then.
    lock: Option<FolderLock>,
    _made: Made,
    /// Without links: where one leads may change.
    folder: PathBuf,
    existing: Existing,
}

/// The state of a landscape; those of other commands are called `state-….safetensors`.
pub(super) const POINTS: &str = "points.safetensors";

/// A folder into which this process writes a result; no `run.json` says that one is complete.
pub(super) struct OutputFolder(Claim);

/// Takes `folder` for this process, and proves that one can write there: now, not after an hour of work.
pub(super) fn claim(folder: &Path, existing: Existing) -> Result<Claim> {
    take(folder, existing, Sharing::Alone)
}

/// The same beside others that share it.
pub(super) fn share(folder: &Path) -> Result<Claim> {
    take(folder, Existing::Replace, Sharing::Together)
}

fn take(folder: &Path, existing: Existing, sharing: Sharing) -> Result<Claim> {
    if !team().leads() {
        return Ok(Claim { lock: None, _made: Made(Vec::new()), folder: folder.to_owned(), existing });
    }
    check_place(folder)?;
    let missing = folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let made = Made(missing.map(Path::to_owned).collect());
    let lock = FolderLock::acquire(folder, sharing)?;
    if existing == Existing::Refuse && MARKS.iter().any(|file| folder.join(file).exists()) {
        return Err(CliError::OutputExists { folder: folder.into() }.into());
    }
    let resolved = folder.canonicalize().map_err(|source| FileError::Write { path: folder.into(), source })?;
    Ok(Claim { lock: Some(lock), _made: made, folder: resolved, existing })
}

/// Refuses a path that leads through a file.
pub(super) fn check_place(folder: &Path) -> Result<()> {
    match folder.ancestors().find(|path| path.exists() && !path.is_dir()) {
        Some(file) => Err(CliError::OutputIsFile { path: file.into() }.into()),
        None => Ok(()),
    }
}

/// The absolute path of a folder, which may be missing, without links as far as it exists.
pub(super) fn resolve(folder: &Path) -> io::Result<PathBuf> {
    let folder = std::path::absolute(folder)?;
    for ancestor in folder.ancestors() {
        if let (Ok(found), Ok(rest)) = (ancestor.canonicalize(), folder.strip_prefix(ancestor)) {
            return Ok(if rest.as_os_str().is_empty() { found } else { found.join(rest) });
        }
    }
    Ok(folder)
}

impl Claim {
    /// Whether a complete result is there that `--resume` leaves alone.
    pub(super) fn is_complete(&self) -> bool {
        self.existing == Existing::Resume && is_complete(&self.folder)
    }

    /// The same on every rank.
    ///
    /// # Errors
    /// A message between ranks that is lost.
    pub(super) fn is_complete_for_all(&self) -> Result<bool> {
        team().decides(self.is_complete())
    }

    /// What `--resume` says of a result in `folder` to which nothing is missing. A kill at the very end may have left states
    /// beside it, which go.
    pub(super) fn complete_already(&self, folder: &Path) -> String {
        if self.lock.is_some() {
            remove_leftovers(&self.folder);
            for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                let is_state =
                    |name: &str| name == POINTS || name.starts_with("state-") && name.ends_with(".safetensors");
                if entry.file_name().to_str().is_some_and(is_state) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
        format!("note: {} is already complete", folder.display())
    }

    /// Refuses a complete result of another configuration.
    pub(super) fn same_configuration(&self, configuration: &Value) -> Result<()> {
        if self.lock.is_none() {
            return Ok(());
        }
        let run = read_run_json(&self.folder).unwrap_or_default();
        let differing = differences(&run["configuration"], configuration);
        if differing.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::OtherState { path: self.folder.join(RUN), differing }.into())
    }

    /// Whether the folder holds a file of that name.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// A folder in it for a result of its own.
    pub(super) fn inside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Withdraws the old `run.json`, removes what a kill left half-written, and gives the folder to write to.
    pub(super) fn begin(self) -> Result<OutputFolder> {
        if self.lock.is_none() {
            return Ok(OutputFolder(self));
        }
        if self.is_complete() {
            return Err(CliError::OutputExists { folder: self.folder.clone() }.into());
        }
        let run = self.folder.join(RUN);
        match std::fs::remove_file(&run) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(FileError::Write { path: run, source }.into());
            }
            _ => {}
        }
        [self.folder.clone(), self.folder.join("figures")].iter().for_each(|folder| remove_leftovers(folder));
        Ok(OutputFolder(self))
    }
}

impl OutputFolder {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Removes files and figures that a command writes under some settings only, an earlier result left in `folder`, and the
/// new one, which wrote `written`, did not replace. A figure goes with its panels and its caption.
pub(super) fn remove_outdated(folder: &Path, files: &[&str], figures: &[&str], written: &[PathBuf]) {
    let of_figure = |file: &PathBuf| {
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let ending = file.extension().is_some_and(|ending| ["svg", "png", "pdf"].iter().any(|own| ending == *own));
        ending
            && figures
                .iter()
                .any(|name| stem.strip_prefix(name).is_some_and(|rest| matches!(rest.as_bytes(), [] | [b'-', ..])))
    };
    let drawn = folder.join("figures");
    let found = std::fs::read_dir(&drawn).into_iter().flatten().flatten().map(|entry| entry.path()).filter(of_figure);
    let named = files.iter().map(|name| folder.join(name));
    for file in named.chain(found).chain([drawn.join(Captions::FILE)]) {
        if !written.contains(&file) {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Refuses an output file that exists (unless `force`), is not a file, or lies where one cannot write.
pub(super) fn check_file(path: &Path, force: bool) -> Result<()> {
    if path.is_dir() {
        return Err(CliError::OutputIsFolder { path: path.into() }.into());
    }
    if let Ok(metadata) = path.symlink_metadata() {
        if !metadata.is_file() && !metadata.is_symlink() {
            return Err(CliError::OutputIsDevice { path: path.into() }.into());
        }
        if !force {
            return Err(CliError::FileExists { path: path.into() }.into());
        }
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder).map_err(|source| FileError::Write { path: path.into(), source })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_changes_before_the_beginning_and_then_no_result_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join(RUN);
        let write = |complete: bool| std::fs::write(&run, format!(r#"{{"complete": {complete}}}"#)).unwrap();
        write(true);
        assert!(claim(folder.path(), Existing::Refuse).is_err());
        let complete = claim(folder.path(), Existing::Resume).unwrap();
        assert!(complete.is_complete() && complete.begin().is_err() && run.exists());
        drop(claim(folder.path(), Existing::Replace).unwrap());
        assert!(run.exists());
        for existing in [Existing::Replace, Existing::Resume] {
            write(existing == Existing::Replace);
            let output = claim(folder.path(), existing).unwrap().begin().unwrap();
            assert!(!run.exists() && output.path() == folder.path().canonicalize().unwrap());
        }
        std::fs::create_dir(&run).unwrap();
        let error = claim(folder.path(), Existing::Replace).unwrap().begin().err().unwrap().to_string();
        assert!(error.starts_with("cannot write ") && error.contains(RUN), "{error}");
    }

    #[test]
    fn outdated_figures_go_with_their_panels() {
        let folder = tempfile::tempdir().unwrap();
        let figures = folder.path().join("figures");
        std::fs::create_dir(&figures).unwrap();
        let old = ["line.svg", "line-loss.pdf", "captions.md"];
        let others = ["line.txt", "linear.svg", "line_up.png", "plane.svg"];
        old.iter().chain(&others).for_each(|name| std::fs::write(figures.join(name), "").unwrap());
        remove_outdated(folder.path(), &[], &["line", "plane"], &[figures.join("plane.svg")]);
        assert!(old.iter().all(|name| !figures.join(name).exists()));
        assert!(others.iter().all(|name| figures.join(name).exists()));
    }

    #[test]
    fn empty_folders_go_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a/b");
        drop(claim(&place, Existing::Refuse).unwrap().begin().unwrap());
        assert!(!folder.path().join("a").exists());
        let output = claim(&place, Existing::Refuse).unwrap().begin().unwrap();
        std::fs::write(output.path().join("file"), "").unwrap();
        drop(output);
        assert!(place.join("file").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        let [link, first, second] = ["link", "first", "second"].map(|name| folder.path().join(name));
        [&first, &second].iter().for_each(|path| std::fs::create_dir(path).unwrap());
        std::os::unix::fs::symlink(&first, &link).unwrap();
        let output = claim(&link, Existing::Refuse).unwrap().begin().unwrap();
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&second, &link).unwrap();
        assert_eq!(output.path(), first.canonicalize().unwrap());
        assert_eq!(resolve(&link.join("new")).unwrap(), second.canonicalize().unwrap().join("new"));
    }
}
