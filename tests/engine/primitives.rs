//! The three families: fast kernels against candle's operations and plain loops, adjoints, stacked operands, threads.

use candle_core::{DType, Device, Tensor};
use flatness::kernels::{
    Bilinear, ConvGeometry, Linear, MatMul, Pointwise, PoolGeometry, Side, affine, fallback, max_pool_indices,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::reference::indices;
use crate::support::*;

const DTYPES: [DType; 2] = [DType::F32, DType::F64];

fn stack(directions: Option<usize>, shape: &[usize]) -> Vec<usize> {
    directions.into_iter().chain(shape.iter().copied()).collect()
}

/// Direction `k` of an operand of rank `rank`, stacked or not.
fn direction(x: &Tensor, rank: usize, k: usize) -> Tensor {
    if x.rank() > rank { x.get(k).unwrap() } else { x.clone() }
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    values(a).iter().zip(values(b)).map(|(a, b)| a * b).sum()
}

fn pools() -> Vec<PoolGeometry> {
    let pool = |kernel, stride, padding, input, count_padding| PoolGeometry { kernel, stride, padding, input, count_padding };
    vec![
        pool([2, 2], [2, 2], [0, 0], [4, 6], true),
        pool([2, 2], [2, 2], [0, 0], [5, 5], true),
        pool([3, 3], [2, 2], [1, 1], [5, 6], true),
        pool([3, 3], [2, 2], [1, 1], [5, 6], false),
        pool([2, 3], [1, 2], [1, 0], [4, 7], false),
        pool([1, 2], [2, 3], [0, 1], [5, 7], true),
        pool([1, 1], [3, 2], [0, 0], [4, 4], true),
        pool([1, 4], [1, 1], [0, 2], [1, 1], false),
        pool([3, 2], [3, 1], [0, 0], [3, 2], true),
    ]
}

/// Linear maps with the shape that they take.
fn linear_maps(dtype: DType) -> Vec<(Linear, Vec<usize>)> {
    let mut rng = random(1);
    let mut maps = vec![
        (Linear::Reshape { from: vec![2, 3, 4], to: vec![6, 4] }, vec![2, 3, 4]),
        (Linear::Permute { axes: vec![2, 0, 1] }, vec![2, 3, 4]),
        (Linear::Permute { axes: vec![1, 0] }, vec![1, 5]),
        (Linear::Scale { factor: -0.7 }, vec![3, 1, 2]),
        (Linear::Subsample { input: [5, 4], step: 2 }, vec![2, 3, 5, 4]),
        (Linear::Subsample { input: [5, 7], step: 3 }, vec![1, 2, 5, 7]),
        (Linear::Subsample { input: [1, 1], step: 2 }, vec![2, 1, 1, 1]),
        (Linear::Gate { gate: tensor(&mut rng, &[3, 2, 5], dtype) }, vec![3, 2, 5]),
        (Linear::Gate { gate: Tensor::zeros(&[4], dtype, &Device::Cpu).unwrap() }, vec![4]),
    ];
    for (small, full) in [
        (vec![2, 1, 3, 1], vec![2, 4, 3, 5]),
        (vec![1], vec![7]),
        (vec![1, 3], vec![9, 3]),
        (vec![4, 1], vec![4, 9]),
        (vec![1, 3, 1, 1], vec![2, 3, 5, 4]),
        (vec![2, 1, 1, 1, 3], vec![2, 2, 1, 3, 3]),
    ] {
        maps.push((Linear::Broadcast { from: small.clone(), to: full }, small));
    }
    for (axis, start, len, size, shape) in
        [(1, 1, 2, 4, [2, 4, 3]), (0, 0, 1, 3, [3, 1, 2]), (2, 4, 1, 5, [1, 2, 5]), (1, 0, 2, 2, [3, 2, 1])]
    {
        maps.push((Linear::Narrow { axis, start, len, size, rank: 3 }, shape.to_vec()));
    }
    for positions in [vec![0u32, 5, 5, 2, 0], vec![3; 4], vec![1]] {
        let indices = Tensor::from_vec(positions.clone(), positions.len(), &Device::Cpu).unwrap();
        maps.push((Linear::Gather { indices, from: vec![2, 3] }, vec![2, 3]));
    }
    for geometry in pools() {
        maps.push((Linear::AveragePool(geometry), vec![2, 3, geometry.input[0], geometry.input[1]]));
    }
    let transposed: Vec<(Linear, Vec<usize>)> = maps
        .iter()
        .map(|(map, from)| {
            let ones = Tensor::ones(from.as_slice(), dtype, &Device::Cpu).unwrap();
            (map.transpose(), map.apply(&ones).unwrap().dims().to_vec())
        })
        .collect();
    maps.extend(transposed);
    maps
}

#[test]
fn linear_maps_equal_candle_and_their_transposes() {
    let mut rng = random(2);
    for dtype in DTYPES {
        for (map, from) in linear_maps(dtype) {
            let one = tensor(&mut rng, &from, dtype);
            let to = map.apply(&one).unwrap().dims().to_vec();
            for directions in [None, Some(1), Some(3)] {
                let x = tensor(&mut rng, &stack(directions, &from), dtype);
                let got = map.apply(&x).unwrap();
                assert_eq!(got.dims(), stack(directions, &to), "{map:?}");
                // Each entry sums at most as many products as an operand has entries, in each of the two programs.
                let count = one.elem_count() as f64 + 4.0;
                let magnitude = values(&fallback::linear(&map, &x.abs().unwrap()).unwrap());
                let tolerance: Vec<f64> = magnitude.iter().map(|m| count * epsilon(dtype) * m.abs()).collect();
                let expected = values(&fallback::linear(&map, &x).unwrap());
                assert_each_close(&format!("{map:?} {dtype:?} {directions:?}"), &values(&got), &expected, &tolerance);
                for k in 0..directions.unwrap_or(0) {
                    let alone = map.apply(&x.get(k).unwrap()).unwrap();
                    assert_eq!(values(&alone), values(&got.get(k).unwrap()), "{map:?}: direction {k} alone");
                }
                let y = tensor(&mut rng, &stack(directions, &to), dtype);
                let (left, right) = (dot(&got, &y), dot(&x, &map.transpose().apply(&y).unwrap()));
                let magnitude: f64 = magnitude.iter().zip(values(&y)).map(|(m, y)| (m * y).abs()).sum();
                let tolerance = count * epsilon(dtype) * magnitude;
                assert!((left - right).abs() <= tolerance, "{map:?} {dtype:?}: <Lx, y> = {left}, <x, L'y> = {right}");
            }
        }
    }
}

fn convolutions() -> Vec<ConvGeometry> {
    let conv = |[in_channels, out_channels, groups]: [usize; 3], kernel, stride, padding, dilation, input| ConvGeometry {
        in_channels,
        out_channels,
        groups,
        kernel,
        stride,
        padding,
        dilation,
        input,
    };
    vec![
        conv([2, 3, 1], [3, 3], [1, 1], [1, 1], [1, 1], [5, 4]),
        conv([4, 6, 2], [1, 2], [1, 1], [0, 0], [1, 1], [3, 5]),
        conv([3, 3, 3], [3, 3], [1, 1], [1, 1], [1, 1], [4, 7]),
        conv([2, 4, 2], [3, 2], [2, 1], [2, 0], [1, 2], [6, 5]),
        conv([1, 2, 1], [2, 3], [3, 2], [1, 2], [2, 1], [7, 6]),
        conv([3, 1, 1], [1, 1], [2, 2], [0, 0], [1, 1], [5, 3]),
        conv([1, 1, 1], [1, 1], [1, 1], [0, 0], [1, 1], [1, 1]),
        conv([2, 2, 1], [4, 5], [1, 1], [0, 0], [1, 1], [4, 5]),
    ]
}

/// Bilinear maps with the shapes of `a`, `b` and the result.
fn bilinear_maps() -> Vec<(Bilinear, [Vec<usize>; 3])> {
    let mut maps = Vec::new();
    for (full, small) in [
        (vec![2, 3, 4, 5], vec![1, 3, 1, 1]),
        (vec![4, 6], vec![4, 1]),
        (vec![4, 6], vec![1, 6]),
        (vec![3, 1, 5], vec![3, 1, 5]),
        (vec![2, 3, 2, 1, 3], vec![1, 3, 1, 1, 3]),
        (vec![1, 1], vec![1, 1]),
        (vec![17], vec![1]),
    ] {
        let (a, b) = (full.clone(), small.clone());
        maps.push((Bilinear::Product { full: a.clone(), small: b.clone() }, [a.clone(), b.clone(), a.clone()]));
        maps.push((Bilinear::ProductSum { full: a.clone(), small: b.clone() }, [a.clone(), a, b]));
    }
    for (batch, m, k, n) in [(1, 3, 4, 5), (3, 2, 1, 4), (1, 70, 3, 2), (2, 1, 5, 1), (1, 130, 9, 7), (2, 65, 2, 3)] {
        for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let product = MatMul { batch, m, k, n, transpose_a, transpose_b };
            let shapes = [product.a_shape(), product.b_shape(), product.out_shape()].map(|shape| shape.to_vec());
            maps.push((Bilinear::MatMul(product), shapes));
        }
    }
    for geometry in convolutions() {
        let ConvGeometry { in_channels, out_channels, groups, kernel, input, .. } = geometry.clone();
        let x = vec![2, in_channels, input[0], input[1]];
        let w = vec![out_channels, in_channels / groups, kernel[0], kernel[1]];
        let y = vec![2, out_channels, geometry.output()[0], geometry.output()[1]];
        maps.push((Bilinear::Conv2d(geometry.clone()), [x.clone(), w.clone(), y.clone()]));
        maps.push((Bilinear::ConvInputGradient(geometry.clone()), [y.clone(), w.clone(), x.clone()]));
        maps.push((Bilinear::ConvWeightGradient(geometry), [x, y, w]));
    }
    maps
}

/// Entrywise bounds on the difference of two programs for `Σ B(a, b)`: number of addends × ε × sum of magnitudes.
fn bounds(map: &Bilinear, terms: &[(&Tensor, &Tensor)], dtype: DType) -> Vec<f64> {
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap().abs().unwrap();
    let held: Vec<(Tensor, Tensor)> = terms.iter().map(|(a, b)| (wide(a), wide(b))).collect();
    let ones: Vec<(Tensor, Tensor)> =
        held.iter().map(|(a, b)| (a.ones_like().unwrap(), b.ones_like().unwrap())).collect();
    let sum = |held: &[(Tensor, Tensor)]| {
        let terms: Vec<(&Tensor, &Tensor)> = held.iter().map(|(a, b)| (a, b)).collect();
        values(&fallback::bilinear(map, &terms).unwrap())
    };
    sum(&held).iter().zip(sum(&ones)).map(|(size, count)| (count + 2.0) * epsilon(dtype) * size).collect()
}

#[test]
fn bilinear_maps_equal_candle_with_one_and_two_terms() {
    let mut rng = random(3);
    for dtype in DTYPES {
        for (map, [a_shape, b_shape, out_shape]) in bilinear_maps() {
            for directions in [None, Some(1), Some(3)] {
                // Of each term, which operands carry directions; the first term is the one that decides alone.
                let both: &[(bool, bool)] =
                    if directions.is_none() { &[(false, false)] } else { &[(true, false), (false, true), (true, true)] };
                for &(a_stacked, b_stacked) in both {
                    let shape = |stacked: bool, shape: &[usize]| stack(directions.filter(|_| stacked), shape);
                    let a = tensor(&mut rng, &shape(a_stacked, &a_shape), dtype);
                    let b = tensor(&mut rng, &shape(b_stacked, &b_shape), dtype);
                    let c = tensor(&mut rng, &shape(!a_stacked, &a_shape), dtype);
                    let d = tensor(&mut rng, &shape(a_stacked, &b_shape), dtype);
                    for terms in [vec![(&a, &b)], vec![(&a, &b), (&c, &d)]] {
                        let what = format!("{map:?} {dtype:?} {directions:?} {a_stacked} {b_stacked}");
                        let got = map.apply(&terms).unwrap();
                        assert_eq!(got.dims(), stack(directions, &out_shape), "{what}");
                        let expected = values(&fallback::bilinear(&map, &terms).unwrap());
                        assert_each_close(&what, &values(&got), &expected, &bounds(&map, &terms, dtype));
                    }
                }
            }
        }
    }
}

#[test]
fn adjoints_of_bilinear_maps() {
    let mut rng = random(4);
    let play = |(map, side): (Bilinear, Side), cotangent: &Tensor, other: &Tensor| match side {
        Side::Left => map.apply(&[(cotangent, other)]).unwrap(),
        Side::Right => map.apply(&[(other, cotangent)]).unwrap(),
    };
    for (map, [a_shape, b_shape, out_shape]) in bilinear_maps() {
        for directions in [None, Some(1), Some(3)] {
            let a = tensor(&mut rng, &a_shape, DType::F64);
            let b = tensor(&mut rng, &stack(directions, &b_shape), DType::F64);
            let c = tensor(&mut rng, &stack(directions, &out_shape), DType::F64);
            let (value, for_a, for_b) =
                (map.apply(&[(&a, &b)]).unwrap(), play(map.adjoint_a(), &c, &b), play(map.adjoint_b(), &c, &a));
            assert_eq!(for_a.dims(), stack(directions, &a_shape), "{map:?}");
            assert_eq!(for_b.dims(), b.dims(), "{map:?}");
            for k in 0..directions.unwrap_or(1) {
                let of = |x: &Tensor, shape: &[usize]| direction(x, shape.len(), k);
                let (b, c) = (of(&b, &b_shape), of(&c, &out_shape));
                let identity = [
                    dot(&of(&value, &out_shape), &c),
                    dot(&of(&for_a, &a_shape), &a),
                    dot(&of(&for_b, &b_shape), &b),
                ];
                let size: f64 = bounds(&map, &[(&a, &b)], DType::F64).iter().sum();
                let tolerance = size * c.elem_count() as f64;
                assert!((identity[0] - identity[1]).abs() <= tolerance, "{map:?}: {identity:?}");
                assert!((identity[0] - identity[2]).abs() <= tolerance, "{map:?}: {identity:?}");
            }
        }
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
        let mut draw = |shape: &[usize], flag: bool| {
            tensor(&mut rng, &stack(directions.filter(|_| flag), shape), DType::F64)
        };
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
        assert_close(&format!("sum {what}"), &wide(sum.apply(&x).unwrap(), small_len), &expected[3], tolerance * len as f64);
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
                let (i, j) = ((row * stride[0] + i).wrapping_sub(padding[0]), (column * stride[1] + j).wrapping_sub(padding[1]));
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
    let x = Tensor::new(&[[[[nan, 1., 2., 3.], [1., 1., 2., nan], [nan, nan, -1., -2.], [nan, nan, -3., -4.]]]], &Device::Cpu);
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

const FUNCTIONS: [Pointwise; 10] = [
    Pointwise::Exp,
    Pointwise::Log,
    Pointwise::Reciprocal,
    Pointwise::Rsqrt,
    Pointwise::Tanh,
    Pointwise::Sigmoid,
    Pointwise::Softplus,
    Pointwise::Silu,
    Pointwise::GeluErf,
    Pointwise::GeluTanh,
];

#[test]
fn pointwise_functions_equal_candle() {
    let mut rng = random(7);
    for dtype in DTYPES {
        for f in FUNCTIONS {
            let low = if matches!(f, Pointwise::Log | Pointwise::Rsqrt) { 0.2 } else { -4.0 };
            let mut points = uniform(&mut rng, 105, low, 4.0);
            points.iter_mut().filter(|x| x.abs() < 0.2).for_each(|x| *x += 0.5);
            let x = Tensor::from_vec(points, (3, 5, 7), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            for order in 0..=2 {
                let expected = values(&fallback::pointwise(f, order, &x).unwrap());
                // About ten roundings, on intermediate results up to |f| and up to 6 (the argument of tanh in GELU).
                let tolerance: Vec<f64> = expected.iter().map(|v| 60.0 * epsilon(dtype) * (1.0 + v.abs())).collect();
                let got = values(&f.apply(order, &x).unwrap());
                assert_each_close(&format!("{f:?} order {order} {dtype:?}"), &got, &expected, &tolerance);
            }
        }
    }
}

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
