//! One job, timed on request: what `benches/peers` runs beside other tools.
//!
//! `cargo bench --bench worker -- JOB WEIGHTS DATA [--threads N] [--memory MB]`, where WEIGHTS is a checkpoint with its architecture,
//! DATA a safetensors file with `x` and `y`, and JOB one of `gradient`, `hvp:K`, `step:sgd`, `step:sam`, `step:fsgld`.
//! For each line on standard input it does the job once and answers with one line of JSON: seconds, peak memory, and a
//! number by which other tools can check theirs.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use flatness::checkpoint::Checkpoint;
use flatness::curvature::{Curvature, CurvatureOperator};
use flatness::data::DataSpec;
use flatness::kernels::{KeepingAllocator, keep_freed_memory};
use flatness::objective::{Execution, Objective, ObjectiveOptions};
use flatness::operator::LinearOperator;
use flatness::optim::{Optimizer, OptimizerConfig, Setup};
use flatness::program::Mode;
use flatness::program::{BatchNormMode, Loss};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: KeepingAllocator = KeepingAllocator::new();

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [job, weights, data, options @ ..] = &arguments[..] else {
        return Ok(()); // `cargo bench` runs all benchmarks without arguments
    };
    let mut execution = Execution::default();
    for option in options.chunks(2) {
        match option {
            [name, value] if name == "--threads" => execution.threads = value.parse()?,
            [name, value] if name == "--memory" => execution.memory_bytes = value.parse::<usize>()? << 20,
            _ => return Err(format!("unknown option {option:?}").into()),
        }
    }
    keep_freed_memory(execution.memory_bytes);
    let checkpoint = Checkpoint::read(Path::new(weights), None)?;
    let data = DataSpec::new(format!("tensors:{data}").parse()?).load()?;
    let mut options = ObjectiveOptions::new(Loss::cross_entropy());
    options.execution = execution;
    if job.starts_with("step:") {
        (options.batch_norm, options.num_shards) = (BatchNormMode::Train, 1);
    }
    let objective = Objective::new(&checkpoint.network, &data, options)?;
    let theta = objective.place(&checkpoint.theta)?;
    let version = env!("CARGO_PKG_VERSION");
    match job.split_once(':') {
        None if job == "gradient" => {
            let note = format!("micro-batch {}", objective.micro_batch(0));
            let ready = json!({"ready": true, "tool": "flatness", "version": version, "note": note});
            let job = || Ok(objective.gradient(&theta, &mut ())?.gradient);
            serve(ready, job, |gradient| Ok(gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?))
        }
        Some(("hvp", k)) => {
            let k: usize = k.parse()?;
            let block = cosines(k, objective.dim())?;
            let squares = block.sqr()?.sum(1)?;
            let placed = objective.place(&block)?;
            let operator = CurvatureOperator::new(&objective, &theta, Curvature::Hessian)?;
            let note = format!("micro-batch {}", objective.micro_batch(k.min(objective.block_size())));
            let ready = json!({"ready": true, "tool": "flatness", "version": version, "note": note});
            let job = || Ok(operator.multiply(&placed, &mut ())?);
            serve(ready, job, |product| {
                let forms = (product.to_dtype(DType::F64)? * &block)?.sum(1)?;
                Ok((forms / &squares)?.sum_all()?.to_scalar::<f64>()?)
            })
        }
        Some(("step", name)) => {
            let config: OptimizerConfig = name.parse()?;
            let setup = Setup { weight_decay: 5e-4, threads: execution.threads, ..Setup::default() };
            let mut optimizer = Optimizer::new(&config, setup, checkpoint.network.space())?;
            let (mut theta, rows) = (theta, (0..data.len()).collect::<Vec<_>>());
            let step = || {
                let mode = || Mode::Train { draws: None };
                let batch = objective.batch(&rows)?;
                let mut gradient = |theta: &Tensor| objective.training_gradient(theta, &batch, mode());
                let update = optimizer.step(&theta, 0.05, &mut gradient)?;
                theta = update.theta;
                Ok(update.pass.evaluation.loss)
            };
            serve(json!({"ready": true, "tool": "flatness", "version": version}), step, |loss| Ok(*loss))
        }
        _ => Err(format!("unknown job `{job}`").into()),
    }
}

/// Says `ready`, then does `job` once for each line; `check` makes a number of what it gives, outside of the time taken.
fn serve<R>(
    ready: serde_json::Value,
    mut job: impl FnMut() -> Result<R, Error>,
    check: impl Fn(&R) -> Result<f64, Error>,
) -> Result<(), Error> {
    let mut out = std::io::stdout();
    writeln!(out, "{ready}")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        let result = job()?;
        let (seconds, peak_bytes) = (start.elapsed().as_secs_f64(), peak_bytes());
        writeln!(out, "{}", json!({"seconds": seconds, "peak_bytes": peak_bytes, "value": check(&result)?}))?;
    }
    Ok(())
}

/// `v_k[i] = cos((i + 1)(k + 1))`, `[k, n]`, rounded to f32.
fn cosines(k: usize, n: usize) -> candle_core::Result<Tensor> {
    let entry = |index: usize| f64::from((((index % n + 1) * (index / n + 1)) as f64).cos() as f32);
    Tensor::from_vec((0..k * n).map(entry).collect::<Vec<_>>(), (k, n), &Device::Cpu)
}

/// The largest resident memory so far; 0 where the system does not say.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
