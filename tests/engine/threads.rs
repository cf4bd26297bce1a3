//! Kernels share their work with the rayon pool they are called in, and no bit depends on it.

use candle_core::DType;
use flatness::kernels::{Bilinear, ConvGeometry, Linear, MatMul, Pointwise, PoolGeometry, affine, max_pool_indices};

use crate::primitives::{DTYPES, stack};
use crate::support::*;

/// Work on enough elements that every kernel cuts it into several chunks.
fn large_work(dtype: DType) -> Vec<Vec<f64>> {
    let mut rng = random(8);
    let mut draw = |shape: &[usize]| tensor(&mut rng, shape, dtype);
    let full = vec![4, 6, 33, 31];
    let x = draw(&[3, 4, 6, 33, 31]);
    let (y, channel) = (draw(&full), draw(&[3, 1, 6, 1, 1]));
    let small = vec![1, 6, 1, 1];
    let row = vec![4, 6, 33, 1];
    let pool = PoolGeometry { kernel: [3, 3], stride: [2, 2], padding: [1, 1], input: [33, 31], count_padding: false };
    let mut results = vec![
        affine(&full, &[(&x, Some(&channel)), (&y, Some(&channel))], Some(&channel)),
        Bilinear::ProductSum { full: full.clone(), small: small.clone() }.apply(&[(&x, &y), (&y, &y)]),
        Linear::SumTo { from: full.clone(), to: small }.apply(&x),
        Linear::SumTo { from: full.clone(), to: row }.apply(&x),
        Linear::SumTo { from: full.clone(), to: vec![1, 1, 33, 31] }.apply(&x),
        Linear::Gate { gate: y.clone() }.apply(&x),
        Linear::AveragePool(pool).apply(&x),
        Pointwise::Tanh.apply(1, &x),
    ];
    let indices = max_pool_indices(&pool, &y).unwrap();
    let gather = Linear::Gather { indices, from: full };
    let gathered = gather.apply(&x).unwrap();
    results.extend([gather.transpose().apply(&gathered), Linear::AveragePool(pool).transpose().apply(&gathered)]);
    for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
        for (batch, directions) in [(1, Some(3)), (2, None)] {
            let product = MatMul { batch, m: 200, k: 37, n: 29, transpose_a, transpose_b };
            let (a, b) = (draw(&stack(directions, &product.a_shape())), draw(&product.b_shape()));
            let (c, d) = (draw(&product.a_shape()), draw(&stack(directions, &product.b_shape())));
            results.push(Bilinear::MatMul(product).apply(&[(&a, &b), (&c, &d)]));
        }
    }
    let geometry = ConvGeometry {
        in_channels: 6,
        out_channels: 4,
        groups: 2,
        kernel: [3, 3],
        stride: [1, 2],
        padding: [1, 1],
        dilation: [1, 1],
        input: [33, 31],
    };
    let (w, z) = (draw(&[4, 3, 3, 3]), draw(&[3, 4, 4, 33, 16]));
    results.extend([
        Bilinear::Conv2d(geometry.clone()).apply(&[(&x, &w)]),
        Bilinear::ConvInputGradient(geometry.clone()).apply(&[(&z, &w)]),
        Bilinear::ConvWeightGradient(geometry).apply(&[(&x, &z), (&y, &z)]),
    ]);
    results.into_iter().map(|result| values(&result.unwrap())).collect()
}

#[test]
fn threads_change_no_bit() {
    for dtype in DTYPES {
        let alone = large_work(dtype);
        for threads in [1, 2, 3, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let pooled = pool.install(|| large_work(dtype));
            for (index, (alone, pooled)) in alone.iter().zip(&pooled).enumerate() {
                assert!(alone == pooled, "result {index} differs on {threads} threads, {dtype:?}");
            }
        }
    }
}
