//! A script for clusters.

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
    let mut command = format!("exec flatness run {}", quoted(&args.experiment.file.to_string_lossy()));
    if let Some(profile) = &args.experiment.profile {
        command += &format!(" --profile {}", quoted(profile));
    }
    if let Some(out) = &args.experiment.out {
        command += &format!(" --out {}", quoted(&out.to_string_lossy()));
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
         #SBATCH --cpus-per-task=4\n\
         #SBATCH --time=04:00:00\n\
         #SBATCH --signal=B:TERM@120\n\
         #SBATCH --output={name}-%A-%a.log\n\
         # {num_runs} runs, {tasks} tasks. Submit it in the folder where you would run the command; again, and it goes on\n\
         # with what is left. When all have ended, the command without --cell writes cells.parquet of all.\n\
         {command} --cell \"$SLURM_ARRAY_TASK_ID/{tasks}\"\n"
    )
}

/// In single quotes, for the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
