//! Each kernel against differences of its own value, and its adjoint against the transposed map.

use candle_core::{DType, Device, Result, Tensor};

use super::{Norm, OwnParts, Parts, Softmax};
use crate::kernels::Pointwise;

const DIRECTIONS: usize = 3;
const STEP: f64 = 1e-5;
/// Differences are off by `STEP²` and by rounding over `STEP`, times third derivatives of some size.
const TOLERANCE: f64 = 2e-8;

/// Numbers between −1 and 1, the same for the same seed.
fn numbers(seed: usize, shape: &[usize]) -> Tensor {
    let len = shape.iter().product::<usize>();
    let values: Vec<f64> = (0..len).map(|i| ((i * 7 + 3 + seed * 101) as f64 * 0.731).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn stacked(seed: usize, shape: &[usize]) -> Tensor {
    numbers(seed, &[&[DIRECTIONS], shape].concat())
}

fn parts(tensors: &[Option<Tensor>; 2]) -> Parts<'_> {
    Parts { primal: tensors[0].as_ref(), tangents: tensors[1].as_ref() }
}

/// Its own derivative in each direction, by central differences: `f` maps operands to a tensor.
fn differences(operands: &[[Option<Tensor>; 2]], f: impl Fn(&[Tensor]) -> Tensor) -> Tensor {
    let moved = |k: usize, step: f64| {
        let moved = operands.iter().map(|[primal, tangents]| {
            let primal = primal.as_ref().unwrap();
            tangents.as_ref().map_or(primal.clone(), |t| (primal + (t.get(k).unwrap() * step).unwrap()).unwrap())
        });
        f(&moved.collect::<Vec<_>>())
    };
    let of = |k| ((moved(k, STEP) - moved(k, -STEP)).unwrap() / (2.0 * STEP)).unwrap();
    Tensor::stack(&(0..DIRECTIONS).map(of).collect::<Vec<_>>(), 0).unwrap()
}

fn largest(x: &Tensor) -> f64 {
    x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap()
}

fn assert_close(a: &Tensor, b: &Tensor, tolerance: f64, what: &str) {
    let (a, b) = (a.to_dtype(DType::F64).unwrap(), b.to_dtype(DType::F64).unwrap());
    let error = largest(&(a - &b).unwrap()) / largest(&b).max(1.0);
    assert!(error <= tolerance, "{what}: off by {error:e}");
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).unwrap().sum_all().unwrap().to_scalar().unwrap()
}

type Forward = dyn Fn(&[Parts<'_>]) -> Result<OwnParts>;
type Adjoint = dyn Fn(&[Parts<'_>], &Parts<'_>) -> Result<Vec<OwnParts>>;

/// A kernel with some operands: value and tangents, and the cotangents of the operands from one of the value.
struct Kernel {
    name: String,
    operands: Vec<[Option<Tensor>; 2]>,
    forward: Box<Forward>,
    adjoint: Box<Adjoint>,
}

/// All kernels, on rows of several lengths: below, at and above the lanes of a vector.
fn kernels() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for len in [1, 5, 16, 37] {
        let shape = [2, 3, len];
        let x = || [Some((numbers(1, &shape) * 2.0).unwrap()), Some(stacked(2, &shape))];
        for is_log in [false, true] {
            let softmax = Softmax { is_log };
            kernels.push(Kernel {
                name: format!("{softmax:?} of {len}"),
                operands: vec![x()],
                forward: Box::new(move |operands| softmax.forward(&operands[0])),
                adjoint: Box::new(move |operands, c| {
                    let y = softmax.forward(&operands[0])?;
                    Ok(vec![softmax.adjoint(&parts(&[y.primal, y.tangents]), c)?])
                }),
            });
        }
        for f in [Pointwise::GeluErf, Pointwise::Silu, Pointwise::Tanh] {
            kernels.push(Kernel {
                name: format!("{f:?} of {len}"),
                operands: vec![x()],
                forward: Box::new(move |operands| f.forward(&operands[0])),
                adjoint: Box::new(move |operands, c| Ok(vec![f.adjoint(&operands[0], c)?])),
            });
        }
        for centred in [false, true] {
            let norm = Norm { centred, eps: 0.1 };
            let weight = [Some(numbers(3, &[len])), Some(stacked(4, &[len]))];
            let bias = [Some(numbers(5, &[len])), Some(stacked(6, &[len]))];
            kernels.push(Kernel {
                name: format!("{norm:?} of {len}"),
                operands: vec![x(), weight, bias],
                forward: Box::new(move |operands| norm.forward(&operands[0], &operands[1], &operands[2])),
                adjoint: Box::new(move |operands, c| {
                    let given = norm.adjoint(&operands[0], &operands[1], c)?;
                    Ok(vec![given.x, given.weight, given.bias])
                }),
            });
            kernels.push(Kernel {
                name: format!("{norm:?} of {len} without scale"),
                operands: vec![x()],
                forward: Box::new(move |operands| norm.forward(&operands[0], &Parts::default(), &Parts::default())),
                adjoint: Box::new(move |operands, c| Ok(vec![norm.adjoint(&operands[0], &Parts::default(), c)?.x])),
            });
        }
    }
    kernels
}

impl Kernel {
    fn all(&self) -> Vec<Parts<'_>> {
        self.operands.iter().map(parts).collect()
    }

    /// The value, and the cotangents from `c`, at plain operands.
    fn plain(&self, operands: &[Tensor], c: &Tensor) -> (Tensor, Vec<Tensor>) {
        let held: Vec<_> = operands.iter().map(|x| Parts { primal: Some(x), tangents: None }).collect();
        let value = (self.forward)(&held).unwrap().primal.unwrap();
        let given = (self.adjoint)(&held, &Parts { primal: Some(c), tangents: None }).unwrap();
        (value, given.into_iter().map(|part| part.primal.unwrap()).collect())
    }
}

#[test]
fn tangents_are_the_derivative_and_adjoints_the_transposed_map() {
    for kernel in kernels() {
        let value = (kernel.forward)(&kernel.all()).unwrap();
        let (y, y_tangents) = (value.primal.unwrap(), value.tangents.unwrap());
        let c = numbers(7, y.dims());
        let expected = differences(&kernel.operands, |operands| kernel.plain(operands, &c).0);
        assert_close(&y_tangents, &expected, TOLERANCE, &kernel.name);

        let primals: Vec<Tensor> = kernel.operands.iter().map(|[primal, _]| primal.clone().unwrap()).collect();
        let given = kernel.plain(&primals, &c).1;
        for k in 0..DIRECTIONS {
            let forwards = dot(&c, &y_tangents.get(k).unwrap());
            let backwards: f64 = kernel
                .operands
                .iter()
                .zip(&given)
                .map(|([_, tangents], given)| dot(&tangents.as_ref().unwrap().get(k).unwrap(), given))
                .sum();
            assert!((forwards - backwards).abs() < 1e-12 * (1.0 + forwards.abs()), "{}", kernel.name);
        }
    }
}

#[test]
fn tangents_of_the_adjoint_are_its_derivative() {
    for kernel in kernels() {
        let y = (kernel.forward)(&kernel.all()).unwrap().primal.unwrap();
        let cotangents = [Some(numbers(8, y.dims())), Some(stacked(9, y.dims()))];
        for constant in [false, true] {
            let cotangent = [cotangents[0].clone(), cotangents[1].clone().filter(|_| !constant)];
            let given = (kernel.adjoint)(&kernel.all(), &parts(&cotangent)).unwrap();
            let all: Vec<_> = kernel.operands.iter().chain([&cotangent]).cloned().collect();
            for (place, given) in given.iter().enumerate() {
                let expected = differences(&all, |operands| {
                    let (c, operands) = operands.split_last().unwrap();
                    kernel.plain(operands, c).1.swap_remove(place)
                });
                // Of a bias, a constant cotangent gives a constant one, for which zeros may stand.
                let tangents = given.tangents.clone().unwrap_or(expected.zeros_like().unwrap());
                assert_close(&tangents, &expected, TOLERANCE, &format!("{}, operand {place}", kernel.name));
            }
        }
        // Without a primal, the map is linear in the tangents alone.
        let given = (kernel.adjoint)(&kernel.all(), &parts(&[None, cotangents[1].clone()])).unwrap();
        let primals: Vec<Tensor> = kernel.operands.iter().map(|[primal, _]| primal.clone().unwrap()).collect();
        for (place, given) in given.iter().enumerate() {
            let each =
                |k| kernel.plain(&primals, &cotangents[1].as_ref().unwrap().get(k).unwrap()).1.swap_remove(place);
            let expected = Tensor::stack(&(0..DIRECTIONS).map(each).collect::<Vec<_>>(), 0).unwrap();
            assert!(given.primal.is_none(), "{}", kernel.name);
            assert_close(given.tangents.as_ref().unwrap(), &expected, 1e-13, &kernel.name);
        }
    }
}

#[test]
fn single_precision_agrees_with_double() {
    for kernel in kernels() {
        let single = |x: &Option<Tensor>| x.as_ref().map(|x| x.to_dtype(DType::F32).unwrap());
        let operands: Vec<_> = kernel.operands.iter().map(|[a, b]| [single(a), single(b)]).collect();
        let in_single: Vec<Parts<'_>> = operands.iter().map(parts).collect();
        let (wide, narrow) = ((kernel.forward)(&kernel.all()).unwrap(), (kernel.forward)(&in_single).unwrap());
        assert_close(&narrow.primal.unwrap(), wide.primal.as_ref().unwrap(), 3e-6, &kernel.name);
        assert_close(&narrow.tangents.unwrap(), &wide.tangents.unwrap(), 3e-6, &kernel.name);
        let dims = wide.primal.unwrap().dims().to_vec();
        let c = [Some(numbers(8, &dims)), Some(stacked(9, &dims))];
        let wide = (kernel.adjoint)(&kernel.all(), &parts(&c)).unwrap();
        let narrow = (kernel.adjoint)(&in_single, &parts(&[single(&c[0]), single(&c[1])])).unwrap();
        for (narrow, wide) in narrow.iter().zip(&wide) {
            assert_close(narrow.primal.as_ref().unwrap(), wide.primal.as_ref().unwrap(), 1e-5, &kernel.name);
            assert_close(narrow.tangents.as_ref().unwrap(), wide.tangents.as_ref().unwrap(), 1e-5, &kernel.name);
        }
    }
}

#[test]
fn masked_and_broken_rows() {
    let x = Tensor::new(&[[0.0f32, f32::NEG_INFINITY, 1.0], [0.0, f32::NAN, 1.0]], &Device::Cpu).unwrap();
    let y = Softmax { is_log: false }.forward(&Parts { primal: Some(&x), tangents: None }).unwrap().primal.unwrap();
    let rows = y.to_vec2::<f32>().unwrap();
    assert_eq!(rows[0][1], 0.0);
    assert!((rows[0][0] + rows[0][2] - 1.0).abs() < 1e-6);
    // NaN stays visible.
    assert!(rows[1].iter().all(|p| p.is_nan()));
}
