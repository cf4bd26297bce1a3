//! Where a result comes from.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::path_text;

/// Command line and start, for `run.json`.
pub(super) struct Provenance {
    command_line: Vec<String>,
    started: Instant,
    unix_time_s: u64,
}

impl Provenance {
    pub(super) fn new(arguments: &[OsString]) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            command_line: arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect(),
            started: Instant::now(),
            unix_time_s: now.map_or(0, |time| time.as_secs()),
        }
    }

    /// The command line as one could type it again.
    pub(super) fn command(&self) -> String {
        let plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c));
        let quoted =
            |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) };
        let program = self
            .command_line
            .first()
            .map(|path| Path::new(path).file_name().map_or(path.clone(), |name| name.to_string_lossy().into_owned()));
        program.iter().chain(self.command_line.iter().skip(1)).map(quoted).collect::<Vec<_>>().join(" ")
    }

    /// What `run.json` starts with.
    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "command_line": self.command_line,
            // Where relative paths begin.
            "directory": std::env::current_dir().ok().map(path_text::to_text),
            "unix_time_s": self.unix_time_s,
            "elapsed_s": self.started.elapsed().as_secs_f64(),
        })
    }
}
