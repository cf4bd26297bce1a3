//! Seconds per gradient and per Hessian-vector product, ResNet-20 on 200 random images, f32.
//!
//! `cargo bench --bench hvp [-- THREADS]`

use std::time::Instant;

use candle_core::{Device, Tensor};
use flatness::curvature::{Curvature, CurvatureOperator, LinearOperator, Objective, ObjectiveOptions};
use flatness::data::{Dataset, Inputs, Targets};
use flatness::models::{Loss, Network, family};
use flatness::random::{Purpose, stream};
use rand::Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 200;
const REPEATS: usize = 5;

fn main() -> flatness::Result<()> {
    let mut rng = stream(0, Purpose::Check);
    let architecture = family("resnet-cifar:20", &[3, 32, 32], 10)?;
    let buffers = architecture.buffers()?.into_iter();
    let buffers = buffers.map(|(name, shape)| Ok((name, Tensor::ones(shape, candle_core::DType::F64, &Device::Cpu)?)));
    let network = Network::new(architecture.clone(), buffers.collect::<flatness::Result<_>>()?)?;
    let pixels = (0..ROWS * 3 * 32 * 32).map(|_| rng.next_u32() as u8).collect();
    let labels = (0..ROWS).map(|row| row as u32 % 10).collect();
    let targets = Targets::Classes { labels, num_classes: 10 };
    let data = Dataset::new("random".into(), vec![3, 32, 32], Inputs::Bytes(pixels), targets, None)?;
    let mut options = ObjectiveOptions::new(Loss::CrossEntropy { label_smoothing: 0.0 });
    if let Some(threads) = std::env::args().skip(1).find_map(|argument| argument.parse().ok()) {
        options.execution.threads = threads;
    }
    let threads = options.execution.threads;
    let objective = Objective::new(&network, &data, options)?;
    let mut uniform = |scale: f64| (rng.next_u32() as f64 / f64::from(u32::MAX) - 0.5) * scale;
    let theta: Vec<f64> = (0..objective.dim()).map(|_| uniform(0.1)).collect();
    let theta = objective.place(&Tensor::new(theta, &Device::Cpu)?)?;
    println!("resnet-cifar:20, {ROWS} images, f32, {threads} threads");
    let gradient = median(|| objective.gradient(&theta, &mut ()).map(drop))?;
    println!("gradient            {gradient:.3} s  (micro-batch {})", objective.micro_batch(0));
    let operator = CurvatureOperator::new(&objective, &theta, Curvature::Hessian)?;
    for k in [1, 4, 8] {
        let block: Vec<f64> = (0..k * objective.dim()).map(|_| uniform(2.0)).collect();
        let block = objective.place(&Tensor::from_vec(block, (k, objective.dim()), &Device::Cpu)?)?;
        let seconds = median(|| operator.apply(&block, &mut ()).map(drop))? / k as f64;
        let (ratio, micro_batch) = (seconds / gradient, objective.micro_batch(k));
        println!("HVP per direction   {seconds:.3} s  K = {k}  ({ratio:.2} gradients, micro-batch {micro_batch})");
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
