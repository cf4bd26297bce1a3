//! Recurrent layers (Hochreiter and Schmidhuber 1997), a step at a time out of primitives.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{Linear, Pointwise};
use crate::program::composites::cat;
use crate::program::infer::Cost;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::rows::{RowAxis, Tracked};
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Results, Start};

/// Which of the values of a recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recurrent {
    /// The hidden states of all steps of the last layer, `[N, T, D·H]`, or `[T, N, D·H]`.
    Output,
    /// The last hidden states of all layers, `[L·D, N, H]`.
    Hidden,
    /// The last cell states of all layers, `[L·D, N, H]`.
    Cell,
}

/// `i, f, g, o` = parts of `W_ih x + b_ih + W_hh h + b_hh`; `c ← σ(f) c + σ(i) tanh(g)`, `h ← σ(o) tanh(c)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lstm {
    /// Whether there are biases.
    pub has_biases: bool,
    /// Layers one upon another.
    pub num_layers: usize,
    /// Whether each layer has a second half that runs backwards.
    pub bidirectional: bool,
    /// Whether rows lie along the first axis of input and output, not the second.
    pub batch_first: bool,
    /// Which value this is.
    pub value: Recurrent,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    (call.name == "lstm").then(|| lstm(call))
}

fn lstm(call: &mut Call<'_>) -> Results {
    let mut operands = vec![call.operand("input")?];
    operands.extend(call.operands("hx")?);
    operands.extend(call.operands("params")?);
    let (has_biases, num_layers) = (call.flag("has_biases", true)?, call.count("num_layers", None)?);
    let (bidirectional, batch_first) = (call.flag("bidirectional", false)?, call.flag("batch_first", false)?);
    let (dropout, train) = (call.number("dropout")?.unwrap_or(0.0), call.flag("train", false)?);
    call.only("dropout", dropout > 0.0 && train, false)?;
    let of = |value| Lstm { has_biases, num_layers, bidirectional, batch_first, value };
    let values = [Recurrent::Output, Recurrent::Hidden, Recurrent::Cell];
    Ok(values.map(|value| call.push(of(value), operands.clone())).to_vec())
}

/// Operands in front of the weights: input, hidden states, cell states.
const GIVEN: usize = 3;

/// Layers in both directions, at most.
const MAX_UNITS: usize = 256;

impl Lstm {
    fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// Weights and biases of one layer in one direction.
    fn tensors(&self) -> usize {
        if self.has_biases { 4 } else { 2 }
    }

    /// Rows, steps and `H`, where all operands fit.
    fn sizes(&self, shapes: &[&[usize]]) -> Result<[usize; 3], String> {
        let units = self.num_layers.saturating_mul(self.directions());
        let Some((&[input, hidden, cell], weights)) = shapes.split_first_chunk::<GIVEN>() else {
            return Err("operands are missing".into());
        };
        let (&[first, second, mut width], &[states, rows, size]) = (input, hidden) else {
            return Err(format!(
                "expects inputs [N, T, in] and states [L, N, H], but they are {input:?} and {hidden:?}"
            ));
        };
        let (own_rows, steps) = if self.batch_first { (first, second) } else { (second, first) };
        if cell != hidden || states != units || rows != own_rows || steps == 0 || size == 0 {
            return Err(format!("states of shapes {hidden:?} and {cell:?} do not fit an input {input:?}"));
        }
        if units == 0 || units > MAX_UNITS || weights.len() != units.saturating_mul(self.tensors()) {
            return Err(format!("{} tensors of weights do not make {units} layers", weights.len()));
        }
        for (unit, tensors) in weights.chunks(self.tensors()).enumerate() {
            if unit > 0 && unit % self.directions() == 0 {
                width = size * self.directions();
            }
            let expected: [&[usize]; 4] = [&[4 * size, width], &[4 * size, size], &[4 * size], &[4 * size]];
            if let Some((got, expected)) = tensors.iter().zip(expected).find(|(got, expected)| **got != *expected) {
                return Err(format!("a tensor of weights has shape {got:?}, expected {expected:?}"));
            }
        }
        Ok([own_rows, steps, size])
    }
}

impl Operation for Lstm {
    columns! {
        name: "lstm",
        operands: &["input", "hidden", "cell", "params"],
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let shapes = operands.iter().map(|operand| operand.map(|fact| fact.shape.as_slice()));
        let shapes: Vec<&[usize]> = shapes.collect::<Option<_>>().ok_or("operands are missing")?;
        let [rows, steps, size] = self.sizes(&shapes)?;
        let width = size * self.directions();
        Ok(match (self.value, self.batch_first) {
            (Recurrent::Output, true) => Fact::float(&[rows, steps, width]),
            (Recurrent::Output, false) => Fact::float(&[steps, rows, width]),
            (Recurrent::Hidden | Recurrent::Cell, _) => Fact::float(&fact(operands, 1)?.shape),
        })
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let input = operands[0].map_or(0, |x| x.shape[..2].iter().product::<usize>());
        let weights: usize = operands[GIVEN..].iter().flatten().filter(|w| w.shape.len() == 2).map(|w| w.len()).sum();
        let size = operands[1].and_then(|hidden| hidden.shape.last()).copied().unwrap_or(0);
        // Gates, their functions and the states of each step.
        let states = input * size * self.directions() * self.num_layers;
        Cost::with_activations(input * weights, &[4 * states, 8 * states, result.len()])
    }

    fn start(&self, _place: usize, shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        let hidden = shapes.get(GIVEN + 1).copied().flatten().and_then(<[usize]>::last).copied();
        Start::fan_in(hidden.unwrap_or(1))
    }

    fn affinity(&self, _in_training: bool) -> Affinity {
        // Every operand passes a smooth function.
        const ALL: [usize; GIVEN + 4 * MAX_UNITS] = {
            let mut all = [0; GIVEN + 4 * MAX_UNITS];
            let mut place = 0;
            while place < all.len() {
                all[place] = place;
                place += 1;
            }
            all
        };
        Affinity { products: &[], smooth: &ALL }
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::still(&operands[GIVEN..])?;
        let axis = if self.batch_first { 0 } else { 1 };
        for (place, axis) in [(0, axis), (1, 1), (2, 1)] {
            let rows = operands[place].and_then(|fact| fact.rows);
            if rows.is_some_and(|rows| rows != RowAxis { axis, ..RowAxis::FIRST }) {
                return Err("rows do not lie along the axis of the batch".into());
            }
        }
        let moving = operands.iter().flatten().any(|fact| fact.rows.is_some());
        let axis = if self.value == Recurrent::Output { axis } else { 1 };
        Ok(moving.then_some(RowAxis { axis, ..RowAxis::FIRST }))
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let vars: Vec<Var<V>> = (0..operands.len()).map(|place| run.var(operands, place)).collect::<Result<_>>()?;
        let shapes = vars.iter().map(Var::dims).collect::<candle_core::Result<Vec<_>>>()?;
        let [rows, steps, size] = self.sizes(&shapes).map_err(|reason| run.misfit(reason))?;
        let swap = vec![1, 0, 2];
        // Rows first inside.
        let mut x = if self.batch_first { vars[0].clone() } else { run.permuted(&vars[0], swap.clone())? };
        let (mut hidden, mut cells) = (Vec::new(), Vec::new());
        for layer in 0..self.num_layers {
            let mut halves = Vec::new();
            for direction in 0..self.directions() {
                let unit = layer * self.directions() + direction;
                let weights = &vars[GIVEN + unit * self.tensors()..][..self.tensors()];
                let states = [run.entry(&vars[1], 0, unit)?, run.entry(&vars[2], 0, unit)?];
                let (outputs, [h, c]) = run.layer(&x, weights, states, ([rows, steps, size], direction == 1))?;
                halves.push(outputs);
                hidden.push(run.reshape(&h, &[1, rows, size])?);
                cells.push(run.reshape(&c, &[1, rows, size])?);
            }
            x = if halves.len() == 1 { halves.remove(0) } else { cat(run.tape, &halves, 2)? };
        }
        Ok(Slot::Float(match self.value {
            Recurrent::Output if self.batch_first => x,
            Recurrent::Output => run.permuted(&x, swap)?,
            Recurrent::Hidden => cat(run.tape, &hidden, 0)?,
            Recurrent::Cell => cat(run.tape, &cells, 0)?,
        }))
    }
}

impl<V: Value> Run<'_, V> {
    /// One entry of an axis, which goes.
    fn entry(&mut self, x: &Var<V>, axis: usize, start: usize) -> Result<Var<V>> {
        let mut dims = x.dims()?.to_vec();
        let narrow = Linear::Narrow { axis, start, len: 1, size: dims[axis], rank: dims.len() };
        let one = self.tape.linear(narrow, x)?;
        dims.remove(axis);
        self.reshape(&one, &dims)
    }

    /// One layer in one direction on `[N, T, in]`: the hidden states of all steps `[N, T, H]`, and the last states.
    fn layer(
        &mut self,
        x: &Var<V>,
        weights: &[Var<V>],
        [mut h, mut c]: [Var<V>; 2],
        ([rows, steps, size], backwards): ([usize; 3], bool),
    ) -> Result<(Var<V>, [Var<V>; 2])> {
        let inputs = self.rows_times_matrix(x, x.dims()?[2], (&weights[0], weights.get(2)))?;
        let inputs = self.reshape(&inputs, &[rows, steps, 4 * size])?;
        let mut outputs = Vec::with_capacity(steps);
        for step in 0..steps {
            let step = if backwards { steps - 1 - step } else { step };
            let own = self.entry(&inputs, 1, step)?;
            let fed = self.rows_times_matrix(&h, size, (&weights[1], weights.get(3)))?;
            let fed = self.reshape(&fed, &[rows, 4 * size])?;
            let gates = self.tape.add(&own, &fed)?;
            let part = |run: &mut Self, place: usize, function: Pointwise| {
                let narrow = Linear::Narrow { axis: 1, start: place * size, len: size, size: 4 * size, rank: 2 };
                let part = run.tape.linear(narrow, &gates)?;
                Ok::<_, crate::Error>(run.tape.pointwise(function, &part)?)
            };
            let (input, forget) = (part(self, 0, Pointwise::Sigmoid)?, part(self, 1, Pointwise::Sigmoid)?);
            let (new, out) = (part(self, 2, Pointwise::Tanh)?, part(self, 3, Pointwise::Sigmoid)?);
            let (kept, added) = (self.product(&forget, &c)?, self.product(&input, &new)?);
            c = self.tape.add(&kept, &added)?;
            let shown = self.tape.pointwise(Pointwise::Tanh, &c)?;
            h = self.product(&out, &shown)?;
            outputs.push(self.reshape(&h, &[rows, 1, size])?);
        }
        if backwards {
            outputs.reverse();
        }
        Ok((cat(self.tape, &outputs, 1)?, [h, c]))
    }
}
