//! GFLOP/s of the convolution kernels and of a matrix product on one core, f32, counted as direct products.
//!
//! `cargo bench --bench kernels [-- NAME]`, for the convolutions whose name contains NAME.

use std::time::Instant;

use candle_core::{Device, Result, Tensor};
use flatness::kernels::{Bilinear, ConvGeometry, KeepingAllocator, MatMul};

#[global_allocator]
static ALLOCATOR: KeepingAllocator = KeepingAllocator::new();

/// Samples of one call, and directions of the two stacked operands of a product rule.
const SAMPLES: usize = 4;
const DIRECTIONS: usize = 8;

fn main() -> Result<()> {
    // candle's product, of the crate `gemm`, takes as many threads as this says.
    // SAFETY: no other thread has begun.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    println!("{:<36} {:>8}", "matrix product", "GFLOP/s");
    // The last four: a layer of 784 inputs and 512 outputs on 128 rows, its weights stacked and not.
    for (name, [batch, m, k, n], [transpose_a, transpose_b], stacked) in [
        ("768 x 768 x 768", [1, 768, 768, 768], [false, false], [false, false]),
        ("forward, inputs stacked", [1, 128, 784, 512], [false, true], [true, false]),
        ("forward, weights stacked", [1, 128, 784, 512], [false, true], [false, true]),
        ("input gradient", [1, 128, 512, 784], [false, false], [true, false]),
        ("weight gradient", [1, 512, 128, 784], [true, false], [true, false]),
    ] {
        let product = MatMul { batch, m, k, n, transpose_a, transpose_b };
        let operand = |stacked: bool, shape: [usize; 3]| {
            let shape: Vec<usize> = stacked.then_some(DIRECTIONS).into_iter().chain(shape).collect();
            values(&shape)
        };
        let (a, b) = (operand(stacked[0], product.a_shape())?, operand(stacked[1], product.b_shape())?);
        let directions = if stacked == [false, false] { 1 } else { DIRECTIONS };
        let rate = rate(2 * directions * m * k * n, || Bilinear::MatMul(product).apply(&[(&a, &b)]))?;
        println!("{name:<36} {rate:>8.0}");
    }
    let [a, b] = [values(&[768, 768])?, values(&[768, 768])?];
    println!("{:<36} {:>8.0}", "768 x 768 x 768, crate gemm", rate(2 * 768 * 768 * 768, || a.matmul(&b))?);
    println!();
    println!("{:<36} {:>8} {:>12} {:>12}", "convolution", "forward", "input grad.", "weight grad.");
    for (name, in_channels, out_channels, kernel, stride, input) in [
        ("3 -> 16, 3x3, 32x32", 3, 16, 3, 1, 32),
        ("16 -> 16, 3x3, 32x32", 16, 16, 3, 1, 32),
        ("16 -> 32, 3x3, stride 2, 32x32", 16, 32, 3, 2, 32),
        ("32 -> 32, 3x3, 16x16", 32, 32, 3, 1, 16),
        ("32 -> 64, 3x3, stride 2, 16x16", 32, 64, 3, 2, 16),
        ("64 -> 64, 3x3, 8x8", 64, 64, 3, 1, 8),
        ("64 -> 64, 3x3, 32x32", 64, 64, 3, 1, 32),
        ("512 -> 512, 3x3, 4x4", 512, 512, 3, 1, 4),
        ("64 -> 128, 1x1, stride 2, 32x32", 64, 128, 1, 2, 32),
        ("256 -> 64, 1x1, 16x16", 256, 64, 1, 1, 16),
        ("3 -> 64, 7x7, stride 2, 64x64", 3, 64, 7, 2, 64),
        ("256 -> 256, 3x3, 8x8", 256, 256, 3, 1, 8),
        ("512 -> 512, 3x3, stride 2, 8x8", 512, 512, 3, 2, 8),
        ("64 -> 256, 1x1, 32x32", 64, 256, 1, 1, 32),
        ("512 -> 2048, 1x1, 4x4", 512, 2048, 1, 1, 4),
        ("1024 -> 2048, 1x1, stride 2, 8x8", 1024, 2048, 1, 2, 8),
        ("40, 7x7 depthwise, 16x16", 40, 40, 7, 1, 16),
        ("160, 7x7 depthwise, 4x4", 160, 160, 7, 1, 4),
        ("96, 3x3 depthwise, stride 2, 16x16", 96, 96, 3, 2, 16),
        ("240, 5x5 depthwise, 4x4", 240, 240, 5, 1, 4),
    ] {
        if !name.contains(&wanted) {
            continue;
        }
        let groups = if name.contains("depthwise") { in_channels } else { 1 };
        let geometry = ConvGeometry {
            in_channels,
            out_channels,
            groups,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
            input: [input; 2],
        };
        let [height, width] = geometry.output();
        let x = [SAMPLES, in_channels, input, input];
        let w = [out_channels, in_channels / groups, kernel, kernel];
        let y = [SAMPLES, out_channels, height, width];
        let flops = 2 * DIRECTIONS * 2 * SAMPLES * geometry.weight_len() * height * width;
        let rates = [
            (Bilinear::Conv2d(geometry.clone()), x, w),
            (Bilinear::ConvInputGradient(geometry.clone()), y, w),
            (Bilinear::ConvWeightGradient(geometry), x, y),
        ]
        .map(|(map, a, b)| -> Result<f64> {
            let stack = |shape: [usize; 4]| values(&[&[DIRECTIONS], &shape[..]].concat());
            let (a_tangents, b_tangents, a, b) = (stack(a)?, stack(b)?, values(&a)?, values(&b)?);
            rate(flops, || map.apply(&[(&a_tangents, &b), (&a, &b_tangents)]))
        });
        let [forward, input_gradient, weight_gradient] = rates;
        println!("{name:<36} {:>8.0} {:>12.0} {:>12.0}", forward?, input_gradient?, weight_gradient?);
        if groups > 1 {
            // Operands with their directions, and the directions of the result: of weights there are next to none.
            let [x, y] = [x, y].map(|shape| shape.iter().product::<usize>());
            let moved = [[x, y], [y, x]].map(|[from, to]| (1 + DIRECTIONS) * from + DIRECTIONS * to);
            let [forward, input_gradient, weight_gradient] =
                [moved[0], moved[1], (1 + DIRECTIONS) * (x + y)].map(|numbers| copying_rate(flops, numbers));
            println!("{:<36} {forward:>8.0} {input_gradient:>12.0} {weight_gradient:>12.0}", "  as fast as copying");
        }
    }
    Ok(())
}

/// The rate of a kernel that takes as long as moving so many numbers, half of them read and half written.
fn copying_rate(flops: usize, numbers: usize) -> f64 {
    let (from, mut to) = (vec![1.0f32; numbers / 2], vec![0.0f32; numbers / 2]);
    let seconds = median(|| std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from)));
    flops as f64 / seconds * 1e-9
}

/// Some numbers between −1 and 1.
fn values(shape: &[usize]) -> Result<Tensor> {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| (i as f32 * 0.7).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

fn rate(flops: usize, mut f: impl FnMut() -> Result<Tensor>) -> Result<f64> {
    f()?;
    let mut failure = None;
    let seconds = median(|| failure = f().err());
    failure.map_or(Ok(flops as f64 / seconds * 1e-9), Err)
}

/// The median of at least seven calls and 0.3 seconds.
fn median(mut f: impl FnMut()) -> f64 {
    let (begin, mut seconds) = (Instant::now(), Vec::new());
    while seconds.len() < 7 || begin.elapsed().as_secs_f64() < 0.3 {
        let start = Instant::now();
        f();
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
