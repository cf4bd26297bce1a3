//! Broadcasting and pooling against plain loops, and what happens at NaN, at ties and on empty axes.

use candle_core::{DType, Device, Tensor};
use flatness::kernels::{Bilinear, Linear, MatMul, PoolGeometry, affine, fallback, max_pool_indices};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::primitives::{DTYPES, pools, stack};
use crate::reference::indices;
use crate::support::*;

#[test]
fn axes_of_size_zero() {
    let full = vec![2, 0, 3];
    let x = Tensor::zeros(full.as_slice(), DType::F64, &Device::Cpu).unwrap();
    let stacked = Tensor::zeros(&[4, 2, 0, 3], DType::F64, &Device::Cpu).unwrap();
    for small in [vec![2, 1, 3], vec![1, 1, 1], vec![2, 1, 1], vec![1, 1, 3]] {
        let shift = Tensor::ones(small.as_slice(), DType::F64, &Device::Cpu).unwrap();
        assert_eq!(affine(&full, &[(&x, Some(&shift))], Some(&shift)).unwrap().dims(), full);
        assert_eq!(affine(&full, &[(&stacked, None)], Some(&shift)).unwrap().dims(), [4, 2, 0, 3]);
        let sum = Linear::SumTo { from: full.clone(), to: small.clone() };
        assert!(values(&sum.apply(&x).unwrap()).iter().all(|&value| value == 0.0));
        assert_eq!(sum.apply(&stacked).unwrap().dims(), stack(Some(4), &small));
        let product = Bilinear::ProductSum { full: full.clone(), small };
        assert!(values(&product.apply(&[(&x, &stacked), (&stacked, &x)]).unwrap()).iter().all(|&value| value == 0.0));
    }
    for (m, k, n) in [(0, 2, 3), (2, 0, 3), (2, 3, 0)] {
        let product = MatMul { batch: 1, m, k, n, transpose_a: false, transpose_b: true };
        let zeros = |shape: [usize; 3]| Tensor::zeros(&shape, DType::F64, &Device::Cpu).unwrap();
        let (a, b) = (zeros(product.a_shape()), zeros(product.b_shape()));
        let out = Bilinear::MatMul(product).apply(&[(&a, &b), (&a, &b)]).unwrap();
        assert_eq!(out.dims(), product.out_shape());
        assert!(values(&out).iter().all(|&value| value == 0.0));
    }
}

/// A random shape of rank 2 to 5 and one that broadcasts to it.
fn broadcast(rng: &mut ChaCha8Rng) -> (Vec<usize>, Vec<usize>) {
    let rank = rng.random_range(2..6);
    let full: Vec<usize> = (0..rank).map(|_| [1, 2, 3, 5][rng.random_range(0..4)]).collect();
    let small = match rng.random_range(0..5) {
        0 => vec![1; rank],
        1 => full.clone(),
        2 => (0..rank).map(|axis| if axis == 1 { full[axis] } else { 1 }).collect(),
        3 => (0..rank).map(|axis| if axis == 0 { full[axis] } else { 1 }).collect(),
        _ => full.iter().map(|&size| if rng.random_bool(0.5) { size } else { 1 }).collect(),
    };
    (full, small)
}

/// Flat position in an operand of shape `dims` (with `K` in front where `stacked`) of an index of direction `k`.
fn position(index: &[usize], k: usize, dims: &[usize], stacked: bool) -> usize {
    let within = index.iter().zip(dims).fold(0, |flat, (&i, &size)| flat * size + if size == 1 { 0 } else { i });
    if stacked { k * dims.iter().product::<usize>() + within } else { within }
}

#[test]
fn broadcasting_equals_a_plain_loop() {
    let mut rng = random(5);
    for _ in 0..400 {
        let (full, small) = broadcast(&mut rng);
        let directions = [None, Some(1), Some(3)][rng.random_range(0..3)];
        let mut stacked = || directions.is_some() && rng.random_bool(0.5);
        let flags = [stacked(), stacked(), stacked()];
        let mut draw =
            |shape: &[usize], flag: bool| tensor(&mut rng, &stack(directions.filter(|_| flag), shape), DType::F64);
        let (x, scale, shift) = (draw(&full, flags[0]), draw(&small, flags[1]), draw(&small, flags[2]));
        let other = draw(&full, flags[1]);
        let [xs, ss, bs, os] = [&x, &scale, &shift, &other].map(values);
        let k = if flags.contains(&true) { directions.unwrap_or(1) } else { 1 };
        let len: usize = full.iter().product();
        let small_len: usize = small.iter().product();
        let mut expected = [vec![0.0; k * len], vec![0.0; k * len], vec![0.0; k * small_len], vec![0.0; k * small_len]];
        for direction in 0..k {
            for flat in 0..len {
                let mut index = vec![0; full.len()];
                let mut rest = flat;
                for axis in (0..full.len()).rev() {
                    (index[axis], rest) = (rest % full[axis], rest / full[axis]);
                }
                let x = xs[position(&index, direction, &full, flags[0])];
                let scale = ss[position(&index, direction, &small, flags[1])];
                let other = os[position(&index, direction, &full, flags[1])];
                let target = position(&index, direction, &small, true);
                expected[0][direction * len + flat] = x * scale + bs[position(&index, direction, &small, flags[2])];
                expected[1][direction * len + flat] = x + bs[position(&index, direction, &small, flags[2])];
                expected[2][target] += x * other;
                expected[3][target] += x;
            }
        }
        let product = Bilinear::ProductSum { full: full.clone(), small: small.clone() };
        let what = format!("{full:?} {small:?} {directions:?} {flags:?}");
        // Sums have at most `len` addends below 1 in magnitude.
        let tolerance = (len + 2) as f64 * f64::EPSILON;
        let wide = |got: Tensor, len: usize| {
            // A result without directions stands for all of them.
            let got = values(&got);
            if got.len() == len { got.repeat(k) } else { got }
        };
        let scaled = wide(affine(&full, &[(&x, Some(&scale))], Some(&shift)).unwrap(), len);
        assert_close(&format!("affine {what}"), &scaled, &expected[0], tolerance);
        let shifted = wide(affine(&full, &[(&x, None)], Some(&shift)).unwrap(), len);
        assert_close(&format!("shift {what}"), &shifted, &expected[1], tolerance);
        let summed = wide(product.apply(&[(&x, &other)]).unwrap(), small_len);
        assert_close(&format!("product sum {what}"), &summed, &expected[2], tolerance * len as f64);
        let sum = Linear::SumTo { from: full, to: small };
        assert_close(
            &format!("sum {what}"),
            &wide(sum.apply(&x).unwrap(), small_len),
            &expected[3],
            tolerance * len as f64,
        );
    }
}

#[test]
fn pooling_equals_a_plain_loop() {
    let mut rng = random(6);
    for geometry in pools() {
        let PoolGeometry { kernel, stride, padding, input: [height, width], count_padding } = geometry;
        let [rows, columns] = geometry.output();
        let x = tensor(&mut rng, &[2, 3, height, width], DType::F64);
        let data = values(&x);
        let (mut averages, mut winners) = (Vec::new(), Vec::new());
        for [plane, row, column] in indices([6, rows, columns]) {
            let mut window = Vec::new();
            for [i, j] in indices(kernel) {
                let (i, j) =
                    ((row * stride[0] + i).wrapping_sub(padding[0]), (column * stride[1] + j).wrapping_sub(padding[1]));
                if i < height && j < width {
                    window.push((plane * height + i) * width + j);
                }
            }
            let count = if count_padding { kernel[0] * kernel[1] } else { window.len() };
            averages.push(window.iter().map(|&index| data[index]).sum::<f64>() / count as f64);
            winners.push(window.iter().map(|&index| data[index]).fold(f64::NEG_INFINITY, f64::max));
        }
        let average = values(&Linear::AveragePool(geometry).apply(&x).unwrap());
        assert_close(&format!("{geometry:?}"), &average, &averages, (kernel[0] * kernel[1]) as f64 * f64::EPSILON);
        let chosen = max_pool_indices(&geometry, &x).unwrap();
        assert_eq!(chosen.dims(), [2, 3, rows, columns]);
        let gather = Linear::Gather { indices: chosen, from: x.dims().to_vec() };
        assert_eq!(values(&gather.apply(&x).unwrap()), winners, "{geometry:?}");
    }
}

#[test]
fn the_first_of_equal_maxima_wins() {
    let geometry = PoolGeometry { kernel: [2, 2], stride: [2, 2], padding: [0, 0], input: [2, 4], count_padding: true };
    let x = Tensor::new(&[[[[1f32, 2., -0., 0.], [2., 2., -1., 0.]]]], &Device::Cpu).unwrap();
    let winners = max_pool_indices(&geometry, &x).unwrap().flatten_all().unwrap().to_vec1::<u32>().unwrap();
    assert_eq!(winners, [1, 2]);
}

/// A broken weight must show in the loss: a ReLU or a maximum that drops NaN would hide it.
#[test]
fn relu_and_max_pool_pass_nan_on() {
    let nan = f64::NAN;
    let x = Tensor::new(
        &[[[[nan, 1., 2., 3.], [1., 1., 2., nan], [nan, nan, -1., -2.], [nan, nan, -3., -4.]]]],
        &Device::Cpu,
    );
    let x = x.unwrap();
    for dtype in DTYPES {
        let x = x.to_dtype(dtype).unwrap();
        let geometry =
            PoolGeometry { kernel: [2, 2], stride: [2, 2], padding: [0, 0], input: [4, 4], count_padding: true };
        let chosen = max_pool_indices(&geometry, &x).unwrap();
        let pooled = values(&Linear::Gather { indices: chosen, from: x.dims().to_vec() }.apply(&x).unwrap());
        assert!(pooled[..3].iter().all(|value| value.is_nan()) && pooled[3] == -1.0, "{pooled:?}");
        let relu = Linear::Gate { gate: x.clone() };
        for got in [relu.apply(&x).unwrap(), fallback::linear(&relu, &x).unwrap()] {
            for (got, x) in values(&got).into_iter().zip(values(&x)) {
                assert!(if x.is_nan() { got.is_nan() } else { got == x.max(0.0) }, "relu({x}) = {got}");
            }
        }
    }
}

#[test]
fn a_closed_gate_stops_infinities() {
    let gate = Tensor::new(&[-1.0, 0.0, 1.0], &Device::Cpu).unwrap();
    let x = Tensor::new(&[f64::NEG_INFINITY, f64::INFINITY, f64::INFINITY], &Device::Cpu).unwrap();
    let map = Linear::Gate { gate };
    for got in [map.apply(&x).unwrap(), fallback::linear(&map, &x).unwrap()] {
        assert_eq!(values(&got), [0.0, 0.0, f64::INFINITY]);
    }
}
