//! The three families: fast kernels against candle's operations, stacked operands, and adjoint identities.

use candle_core::{DType, Device, Tensor};
use flatness::kernels::{Adjoint, Bilinear, ConvGeometry, Linear, MatMul, Pointwise, PoolGeometry, fallback};

use crate::support::*;

pub const DTYPES: [DType; 2] = [DType::F32, DType::F64];

/// `shape` with `K` in front where there are directions.
pub fn stack(directions: Option<usize>, shape: &[usize]) -> Vec<usize> {
    directions.into_iter().chain(shape.iter().copied()).collect()
}

/// Direction `k` of an operand of rank `rank`, stacked or not.
fn direction(x: &Tensor, rank: usize, k: usize) -> Tensor {
    if x.rank() > rank { x.get(k).unwrap() } else { x.clone() }
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    values(a).iter().zip(values(b)).map(|(a, b)| a * b).sum()
}

pub fn pools() -> Vec<PoolGeometry> {
    let pool =
        |kernel, stride, padding, input, count_padding| PoolGeometry { kernel, stride, padding, input, count_padding };
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
        (Linear::Subsample { input: [5, 4], step: [2, 2] }, vec![2, 3, 5, 4]),
        (Linear::Subsample { input: [5, 7], step: [3, 3] }, vec![1, 2, 5, 7]),
        (Linear::Subsample { input: [5, 7], step: [3, 1] }, vec![2, 5, 7]),
        (Linear::Subsample { input: [1, 1], step: [2, 2] }, vec![2, 1, 1, 1]),
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
    let conv = |[in_channels, out_channels, groups]: [usize; 3], kernel, stride, padding, dilation, input| {
        ConvGeometry { in_channels, out_channels, groups, kernel, stride, padding, dilation, input }
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
                let both: &[(bool, bool)] = if directions.is_none() {
                    &[(false, false)]
                } else {
                    &[(true, false), (false, true), (true, true)]
                };
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
    let play = |adjoint: Adjoint, cotangent: &Tensor, other: &Tensor| {
        adjoint.apply(|map, a, b| map.apply(&[(a, b)]), cotangent, other).unwrap()
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
                let identity =
                    [dot(&of(&value, &out_shape), &c), dot(&of(&for_a, &a_shape), &a), dot(&of(&for_b, &b_shape), &b)];
                let size: f64 = bounds(&map, &[(&a, &b)], DType::F64).iter().sum();
                let tolerance = size * c.elem_count() as f64;
                assert!((identity[0] - identity[1]).abs() <= tolerance, "{map:?}: {identity:?}");
                assert!((identity[0] - identity[2]).abs() <= tolerance, "{map:?}: {identity:?}");
            }
        }
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
