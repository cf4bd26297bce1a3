//! Seconds per gradient and per Hessian-vector product of random networks on random inputs, f32.
//!
//! `cargo bench --bench hvp [-- NAME] [THREADS]`, for the networks whose name contains NAME.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use flatness::curvature::{Curvature, CurvatureOperator};
use flatness::data::{Dataset, Inputs, Targets};
use flatness::formats::family;
use flatness::kernels::{KeepingAllocator, keep_freed_memory};
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::operator::LinearOperator;
use flatness::program::Loss;
use flatness::random::{Purpose, stream};
use rand::Rng;

#[global_allocator]
static ALLOCATOR: KeepingAllocator = KeepingAllocator::new();

const REPEATS: usize = 5;

fn main() -> flatness::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let threads = arguments.iter().find_map(|argument| argument.parse().ok());
    let wanted = arguments.iter().find(|argument| argument.parse::<usize>().is_err());
    for (name, shape, rows) in [
        ("mlp:512-512", &[784][..], 512),
        ("resnet-cifar:8", &[3, 32, 32], 200),
        ("resnet-cifar:20", &[3, 32, 32], 200),
    ] {
        if wanted.is_none_or(|wanted| name.contains(wanted)) {
            measure(name, shape, rows, threads)?;
        }
    }
    Ok(())
}

fn measure(name: &str, shape: &[usize], rows: usize, threads: Option<usize>) -> flatness::Result<()> {
    let mut rng = stream(0, Purpose::Check);
    let architecture = family(name, shape, 10)?;
    let buffers = architecture.buffers()?.into_iter();
    let buffers = buffers.map(|(name, shape)| Ok((name, Tensor::ones(shape, DType::F64, &Device::Cpu)?)));
    let network = architecture.network(buffers.collect::<flatness::Result<_>>()?)?;
    let pixels = (0..rows * shape.iter().product::<usize>()).map(|_| rng.next_u32() as u8).collect();
    let targets = Targets::Classes { labels: (0..rows as u32).map(|row| row % 10).collect(), num_classes: 10 };
    let data = Dataset::new("random".into(), shape.to_vec(), Inputs::Bytes(pixels), targets, None)?;
    let mut options = ObjectiveOptions::new(Loss::cross_entropy());
    options.execution.threads = threads.unwrap_or(options.execution.threads);
    let threads = options.execution.threads;
    keep_freed_memory(options.execution.memory_bytes);
    let objective = Objective::new(&network, &data, options)?;
    let mut uniform = |scale: f64| (rng.next_u32() as f64 / f64::from(u32::MAX) - 0.5) * scale;
    let theta: Vec<f64> = (0..objective.dim()).map(|_| uniform(0.1)).collect();
    let theta = objective.place(&Tensor::new(theta, &Device::Cpu)?)?;
    println!("{name}, {rows} rows, f32, {threads} threads");
    let gradient = median(|| objective.gradient(&theta, &mut ()).map(drop))?;
    println!("gradient            {gradient:.4} s  (micro-batch {})", objective.micro_batch(0));
    let operator = CurvatureOperator::new(&objective, &theta, Curvature::Hessian)?;
    for k in [1, 4, 8, 16] {
        let block: Vec<f64> = (0..k * objective.dim()).map(|_| uniform(2.0)).collect();
        let block = objective.place(&Tensor::from_vec(block, (k, objective.dim()), &Device::Cpu)?)?;
        let seconds = median(|| operator.multiply(&block, &mut ()).map(drop))? / k as f64;
        let (ratio, micro_batch) = (seconds / gradient, objective.micro_batch(k.min(objective.block_size())));
        println!("HVP per direction   {seconds:.4} s  K = {k:2}  ({ratio:.2} gradients, micro-batch {micro_batch})");
    }
    Ok(())
}

fn median(mut f: impl FnMut() -> flatness::Result<()>) -> flatness::Result<f64> {
    let mut seconds = Vec::new();
    for _ in 0..REPEATS {
        let start = Instant::now();
        f()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[REPEATS / 2])
}
