//! Programs written by hand: fusion, coupled rows, exact traces, whole numbers, and what is evaluated once.

mod coupling;
mod fusion;
mod traces;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use flatness::autodiff::ParamSpace;
use flatness::curvature::Curvature;
use flatness::data::{Dataset, Inputs, Targets};
use flatness::objective::{Objective, ObjectiveOptions};
use flatness::program::{
    About, Add, Arange, Compare, Comparison, Embedding, Input, Kind, Linear, Loss, Mul, Network, Node, Op, Operand,
    Place, Program, Size, Sum, View, Where,
};
use flatness::vocabulary::ParamKind;

use crate::support::*;

/// A program for inputs `x`, a line at a time.
struct Writer(Program);

impl Writer {
    fn new(parameters: &[(&str, &[usize])]) -> Self {
        let parameters = parameters.iter().map(|(name, shape)| ((*name).into(), shape.to_vec(), ParamKind::Weight));
        let inputs = vec![Input { name: "x".into(), kind: Kind::Float }];
        Self(Program { inputs, parameters: ParamSpace::new(parameters), ..Program::default() })
    }

    /// Appends an operation on named operands; numbers are numbers, `-` leaves an operand out.
    fn line(mut self, name: &str, operation: impl Into<Op>, operands: &[&str]) -> Self {
        let operand = |text: &&str| match (*text, text.parse()) {
            ("-", _) => Operand::None,
            (_, Ok(number)) => Operand::Number(number),
            (name, Err(_)) => Operand::Name(name.into()),
        };
        let place = Place { module: name.into(), kind: "line".into() };
        let operands = operands.iter().map(operand).collect();
        self.0.nodes.push(Node { name: name.into(), operation: operation.into(), operands, place });
        self
    }

    fn constant(mut self, name: &str, tensor: Tensor) -> Self {
        self.0.constants.push((name.into(), tensor));
        self
    }

    fn output(mut self, name: &str) -> Network {
        self.0.output = name.into();
        Network::new(self.0, HashMap::new(), About::default()).unwrap()
    }

    fn output_and_loss(mut self, output: &str, loss: &str) -> Network {
        (self.0.output, self.0.loss) = (output.into(), Some(loss.into()));
        Network::new(self.0, HashMap::new(), About::default()).unwrap()
    }
}

fn rows(shape: &[usize], rows: usize) -> Dataset {
    let inputs = Inputs::Float64(uniform(&mut random(91), rows * shape.iter().product::<usize>(), -1.0, 1.0));
    let labels = (0..rows as u32).map(|row| (2 * row + 1) % 3).collect();
    Dataset::new("test".into(), shape.to_vec(), inputs, Targets::Classes { labels, num_classes: 3 }, None).unwrap()
}

const CROSS_ENTROPY: Loss = Loss::smoothed(0.1);

fn options(loss: Loss) -> ObjectiveOptions {
    ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(loss) }
}

fn theta(network: &Network) -> Vec<f64> {
    uniform(&mut random(92), network.space().dim(), -0.8, 0.8)
}

fn gradient(objective: &Objective<'_>, theta: &[f64]) -> Vec<f64> {
    values(&objective.gradient(&vector(theta), &mut ()).unwrap().gradient)
}

/// The dense Hessian by differences of the gradient, row by row.
fn differences(objective: &Objective<'_>, theta: &[f64]) -> Vec<f64> {
    let n = theta.len();
    let column = |index: usize| {
        derivative(|h| {
            let mut moved = theta.to_vec();
            moved[index] += h;
            gradient(objective, &moved)
        })
    };
    (0..n).flat_map(column).collect()
}

#[test]
fn whole_numbers_and_truth_values_choose_among_floats() {
    // Positions are looked up in a table with a padding row, kept where they are below 2, and added to the input.
    let table = Tensor::from_vec((0..12).map(f64::from).collect::<Vec<_>>(), (3, 4), &Device::Cpu).unwrap();
    let network = Writer::new(&[("e", &[3, 4]), ("w", &[3, 4])])
        .constant("two", Tensor::new(2i64, &Device::Cpu).unwrap())
        .line("i", Arange { end: Size::fixed(3) }, &[])
        .line("p", Embedding { padding_idx: Some(1) }, &["e", "i"])
        .line("c", Compare { comparison: Comparison::Lt }, &["i", "two"])
        .line("d", View { size: vec![Size::fixed(3), Size::fixed(1)] }, &["c"])
        .line("k", Where {}, &["d", "p", "0.5"])
        .line("s", Sum { dim: vec![0], keepdim: false }, &["k"])
        .line("y", Add {}, &["x", "s"])
        .line("z", Linear {}, &["y", "w", "-"])
        .output("z");
    let data = rows(&[4], 5);
    let objective = Objective::new(&network, &data, options(CROSS_ENTROPY)).unwrap();
    let mut at = theta(&network);
    at[..12].copy_from_slice(&values(&table));
    let gradient = gradient(&objective, &at);
    let expected = derivative_of_loss(&objective, &at);
    for (index, (got, expected)) in gradient.iter().zip(&expected).enumerate() {
        // Row 1 is a constant in the look-up, row 2 is not chosen: nothing flows into either.
        let expected = if (4..12).contains(&index) { 0.0 } else { *expected };
        assert!((got - expected).abs() <= DIFFERENCE_TOLERANCE, "{index}: {got} {expected}");
    }
    assert!(gradient[..4].iter().all(|entry| *entry != 0.0));
    let dense = dense(&objective, &at, Curvature::Hessian);
    assert_symmetric("padding row", &dense, at.len());
}

/// The gradient by differences of the loss.
fn derivative_of_loss(objective: &Objective<'_>, theta: &[f64]) -> Vec<f64> {
    let entry = |index: usize| {
        derivative(|h| {
            let mut moved = theta.to_vec();
            moved[index] += h;
            vec![objective.evaluate(&vector(&moved), &mut ()).unwrap().loss]
        })[0]
    };
    (0..theta.len()).map(entry).collect()
}

#[test]
fn what_depends_on_constants_alone_is_evaluated_once_and_in_f64() {
    // A table that f32 cannot add up: 1 + 2⁻³⁰ − 1. Folded in f64 it is 2⁻³⁰ exactly, whatever the network's dtype.
    let tiny = f64::powi(2.0, -30);
    let network = Writer::new(&[("w", &[3, 4])])
        .constant("a", Tensor::new(1.0 + tiny, &Device::Cpu).unwrap())
        .line("b", Add {}, &["a", "-1"])
        .line("y", Mul {}, &["x", "1"])
        .line("k", Mul {}, &["y", "b"])
        .line("z", Linear {}, &["k", "w", "-"])
        .output("z");
    let data = rows(&[4], 5);
    for dtype in [DType::F64, DType::F32] {
        let options = ObjectiveOptions { dtype, ..options(Loss::cross_entropy()) };
        let objective = Objective::new(&network, &data, options).unwrap();
        let at = objective.place(&vector(&theta(&network))).unwrap();
        let norm = largest(&values(&objective.gradient(&at, &mut ()).unwrap().gradient.to_dtype(DType::F64).unwrap()));
        assert!(norm > 0.01 * tiny && norm < tiny, "{norm:e}");
    }
}
