//! A script for clusters.

use std::ffi::OsStr;

use super::RunArgs;
use crate::experiment::Experiment;

/// Most tasks of an array job where the cluster's administrators changed nothing (`MaxArraySize` 1001).
const MAX_TASKS: usize = 1_000;

/// An sbatch script whose task `I` of `N` is `flatness run FILE --cell I/N`.
///
/// Two minutes before its time is over a task gets a signal, at which steps save and stop; `sbatch` of the same script
/// goes on from there. `exec` makes the program itself the process that gets it.
pub(super) fn script(experiment: &Experiment, args: &RunArgs, num_runs: usize) -> String {
    let tasks = num_runs.clamp(1, MAX_TASKS);
    let mut command = format!("exec flatness run {}", quoted(&args.experiment.file));
    if let Some(profile) = &args.experiment.profile {
        command += &format!(" --profile {}", quoted(profile));
    }
    if let Some(out) = &args.experiment.out {
        command += &format!(" --out {}", quoted(out));
    }
    let mut tasks_each = String::new();
    if args.ranks > 1 {
        command += &format!(" --ranks {}", args.ranks);
        tasks_each = format!("#SBATCH --ntasks={}\n", args.ranks);
    }
    if args.jobs > 1 {
        command += &format!(" --jobs {}", args.jobs);
    }
    if args.retry_failed {
        command += " --retry-failed";
    }
    let name = experiment.folder_name();
    format!(
        "#!/bin/bash\n\
         #SBATCH --job-name={name}\n\
         #SBATCH --array=1-{tasks}\n\
         {tasks_each}\
         #SBATCH --cpus-per-task=4\n\
         #SBATCH --time=04:00:00\n\
         #SBATCH --signal=B:TERM@120\n\
         #SBATCH --output={name}-%A-%a.log\n\
         # {num_runs} runs, {tasks} tasks. Submit it in the folder where you would run the command; again, and it goes on\n\
         # with what is left. When all have ended, the command without --cell writes cells.parquet of all.\n\
         {command} --cell \"$SLURM_ARRAY_TASK_ID/{tasks}\"\n"
    )
}

/// For bash: in single quotes where anything in it means something there, and in `$'…'` what is no UTF-8.
pub(super) fn quoted(word: impl AsRef<OsStr>) -> String {
    let bytes = word.as_ref().as_encoded_bytes();
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("$'{}'", bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "=._+-/:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_reads_back_what_was_meant() {
        let texts = ["plain-1.0=a/b", "two words", "it's", "$HOME `x` \"y\" *", "", "\\", "ü"];
        assert_eq!([quoted(texts[0]), quoted(texts[2])], ["plain-1.0=a/b", r"'it'\''s'"]);
        for text in texts {
            let shell = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(text))]).output();
            let Ok(output) = shell else { return eprintln!("no sh: quoting was not checked") };
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_utf8_pass_through_bash() {
        let name = std::os::unix::ffi::OsStringExt::from_vec(b"caf\xe9's/a b".to_vec());
        let name: std::ffi::OsString = name;
        let shell = std::process::Command::new("bash").args(["-c", &format!("printf %s {}", quoted(&name))]).output();
        let Ok(output) = shell else { return eprintln!("no bash: quoting was not checked") };
        assert_eq!(output.stdout, name.as_encoded_bytes());
    }
}
