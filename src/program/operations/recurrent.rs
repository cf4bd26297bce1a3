//! Recurrent layers (Hochreiter and Schmidhuber 1997), a step at a time out of primitives.

use serde::{Deserialize, Serialize};

use super::{Squeeze, Unsqueeze};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{Linear, Pointwise};
use crate::program::composites::cat;
use crate::program::cost::Cost;
use crate::program::fact::{RowAxis, Tracked};
use crate::program::operation::{Affinity, Operation, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Operand, Results, Start};

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

/// What happens in a step, by PyTorch's names: `a` and `b` are parts of `W_ih x + b_ih` and `W_hh h + b_hh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// `i, f, g, o = a + b`; `c ← σ(f) c + σ(i) tanh(g)`, `h ← σ(o) tanh(c)`.
    Lstm,
    /// `r, z = σ(a + b)`, `n = tanh(a + r b)`; `h ← n + z (h − n)` (Cho et al. 2014).
    Gru,
    /// `h ← tanh(a + b)`
    Tanh,
    /// `h ← max(a + b, 0)`
    Relu,
}

/// A recurrent layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rnn {
    /// What happens in a step.
    pub cell: Cell,
    /// Whether there are biases.
    pub has_biases: bool,
    /// Layers one upon another.
    pub num_layers: usize,
    /// Whether each layer has a second half that runs backwards.
    pub bidirectional: bool,
    /// Whether rows lie along the first axis of input and output, not the second.
    pub batch_first: bool,
    /// Whether a matrix makes hidden states of another size out of those of the cell (Sak et al. 2014).
    pub projected: bool,
    /// Which value this is.
    pub value: Recurrent,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "lstm" => layers(call, Cell::Lstm),
        "gru" => layers(call, Cell::Gru),
        "rnn_tanh" => layers(call, Cell::Tanh),
        "rnn_relu" => layers(call, Cell::Relu),
        "lstm_cell" => step(call, Cell::Lstm),
        "gru_cell" => step(call, Cell::Gru),
        "rnn_tanh_cell" => step(call, Cell::Tanh),
        "rnn_relu_cell" => step(call, Cell::Relu),
        _ => return None,
    })
}

/// The states that a cell begins with.
fn states(call: &mut Call<'_>, cell: Cell) -> Result<Vec<Operand>, String> {
    if cell == Cell::Lstm { call.operands("hx") } else { call.operand("hx").map(|hidden| vec![hidden]) }
}

fn layers(call: &mut Call<'_>, cell: Cell) -> Results {
    let mut operands = vec![call.operand("input")?];
    operands.extend(states(call, cell)?);
    let params = call.operands("params")?;
    let (has_biases, num_layers) = (call.flag("has_biases", true)?, call.count("num_layers", None)?);
    let (bidirectional, batch_first) = (call.flag("bidirectional", false)?, call.flag("batch_first", false)?);
    let (dropout, train) = (call.number("dropout")?.unwrap_or(0.0), call.flag("train", false)?);
    call.only("dropout", dropout > 0.0 && train, false)?;
    let units = num_layers * if bidirectional { 2 } else { 1 };
    let projected = cell == Cell::Lstm && params.len() == units * if has_biases { 5 } else { 3 };
    operands.extend(params);
    let of = |value| Rnn { cell, has_biases, num_layers, bidirectional, batch_first, projected, value };
    let values = [Recurrent::Output, Recurrent::Hidden, Recurrent::Cell];
    Ok(values[..=cell.states()].iter().map(|&value| call.push(of(value), operands.clone())).collect())
}

/// One step of one layer, as a sequence of one.
fn step(call: &mut Call<'_>, cell: Cell) -> Results {
    let x = call.operand("input")?;
    let mut operands = vec![call.push(Unsqueeze { dim: 1 }, [x])];
    for state in states(call, cell)? {
        operands.push(call.push(Unsqueeze { dim: 0 }, [state]));
    }
    operands.extend([call.operand("w_ih")?, call.operand("w_hh")?]);
    let biases = [call.optional("b_ih")?, call.optional("b_hh")?];
    let has_biases = biases[0] != Operand::None;
    operands.extend(biases.into_iter().filter(|bias| *bias != Operand::None));
    let (num_layers, bidirectional, batch_first, projected) = (1, false, true, false);
    let of = |value| Rnn { cell, has_biases, num_layers, bidirectional, batch_first, projected, value };
    let values = [Recurrent::Hidden, Recurrent::Cell];
    let mut results = Vec::new();
    for &value in &values[..cell.states()] {
        let states = call.push(of(value), operands.clone());
        results.push(call.push(Squeeze { dim: vec![0] }, [states]));
    }
    Ok(results)
}

impl Cell {
    /// Parts that the weights are cut into.
    fn parts(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Tanh | Self::Relu => 1,
        }
    }

    /// States that a step hands on.
    fn states(self) -> usize {
        if self == Self::Lstm { 2 } else { 1 }
    }
}

/// Layers in both directions, at most.
const MAX_UNITS: usize = 256;

impl Rnn {
    fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// Operands in front of the weights: input, hidden states, cell states where there are any.
    fn given(&self) -> usize {
        1 + self.cell.states()
    }

    /// Weights and biases of one layer in one direction.
    fn tensors(&self) -> usize {
        usize::from(self.projected) + if self.has_biases { 4 } else { 2 }
    }

    /// Rows, steps, and the sizes of cells and hidden states, where all operands fit.
    fn sizes(&self, shapes: &[&[usize]]) -> Result<[usize; 4], String> {
        let units = self.num_layers.saturating_mul(self.directions());
        let (Some((&[input, hidden], _)), true) = (shapes.split_first_chunk(), shapes.len() >= self.given()) else {
            return Err("operands are missing".into());
        };
        let (cell, weights) = (shapes[self.given() - 1], &shapes[self.given()..]);
        let (&[first, second, mut width], &[states, rows, shown], &[_, _, size]) = (input, hidden, cell) else {
            return Err(format!(
                "expects inputs [N, T, in] and states [L, N, H], but they are {input:?} and {hidden:?}"
            ));
        };
        let (own_rows, steps) = if self.batch_first { (first, second) } else { (second, first) };
        let fits = cell[..2] == hidden[..2] && (self.projected || size == shown);
        if !fits || states != units || rows != own_rows || steps == 0 || size == 0 {
            return Err(format!("states of shapes {hidden:?} and {cell:?} do not fit an input {input:?}"));
        }
        if units == 0 || units > MAX_UNITS || weights.len() != units.saturating_mul(self.tensors()) {
            return Err(format!("{} tensors of weights do not make {units} layers", weights.len()));
        }
        for (unit, tensors) in weights.chunks(self.tensors()).enumerate() {
            if unit > 0 && unit % self.directions() == 0 {
                width = shown * self.directions();
            }
            let all = self.cell.parts() * size;
            let mut expected: Vec<Vec<usize>> = vec![vec![all, width], vec![all, shown]];
            expected.extend(vec![vec![all]; if self.has_biases { 2 } else { 0 }]);
            expected.push(vec![shown, size]);
            if let Some((got, expected)) =
                tensors.iter().zip(expected).find(|(got, expected)| **got != expected.as_slice())
            {
                return Err(format!("a tensor of weights has shape {got:?}, expected {expected:?}"));
            }
        }
        Ok([own_rows, steps, size, shown])
    }
}

impl Operation for Rnn {
    fn name(&self) -> &'static str {
        match self.cell {
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
            Cell::Tanh => "rnn_tanh",
            Cell::Relu => "rnn_relu",
        }
    }

    fn operands(&self) -> &'static [&'static str] {
        match self.cell {
            Cell::Lstm => &["input", "hidden", "cell", "params"],
            _ => &["input", "hidden", "params"],
        }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let shapes = operands.iter().map(|operand| operand.map(|fact| fact.shape.as_slice()));
        let shapes: Vec<&[usize]> = shapes.collect::<Option<_>>().ok_or("operands are missing")?;
        let [rows, steps, _, shown] = self.sizes(&shapes)?;
        let width = shown * self.directions();
        Ok(match (self.value, self.batch_first) {
            (Recurrent::Output, true) => Fact::float(&[rows, steps, width]),
            (Recurrent::Output, false) => Fact::float(&[steps, rows, width]),
            (Recurrent::Hidden, _) => Fact::float(&fact(operands, 1)?.shape),
            (Recurrent::Cell, _) => Fact::float(&fact(operands, 2)?.shape),
        })
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let input = operands[0].map_or(0, |x| x.shape[..2].iter().product::<usize>());
        let weights: usize =
            operands[self.given()..].iter().flatten().filter(|w| w.shape.len() == 2).map(|w| w.len()).sum();
        let size = operands[1].and_then(|hidden| hidden.shape.last()).copied().unwrap_or(0);
        // Gates, their functions and the states of each step.
        let states = input * size * self.directions() * self.num_layers;
        Cost::with_activations(input * weights, &[self.cell.parts() * states, 8 * states, result.len()])
    }

    fn start(&self, _place: usize, shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        let hidden = shapes.get(self.given() + 1).copied().flatten().and_then(<[usize]>::last).copied();
        Start::fan_in(hidden.unwrap_or(1))
    }

    fn affinity(&self, _in_training: bool) -> Affinity {
        // Every operand passes a smooth function.
        const ALL: [usize; 3 + 5 * MAX_UNITS] = {
            let mut all = [0; 3 + 5 * MAX_UNITS];
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
        rows::still(&operands[self.given()..])?;
        let axis = if self.batch_first { 0 } else { 1 };
        for (place, axis) in std::iter::once((0, axis)).chain((1..self.given()).map(|place| (place, 1))) {
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
        let [rows, _, size, shown] = self.sizes(&shapes).map_err(|reason| run.misfit(reason))?;
        let swap = vec![1, 0, 2];
        // Rows first inside.
        let mut x = if self.batch_first { vars[0].clone() } else { run.permuted(&vars[0], swap.clone())? };
        let (mut hidden, mut cells) = (Vec::new(), Vec::new());
        for layer in 0..self.num_layers {
            let mut halves = Vec::new();
            for direction in 0..self.directions() {
                let unit = layer * self.directions() + direction;
                let weights = &vars[self.given() + unit * self.tensors()..][..self.tensors()];
                let states = (1..self.given()).map(|place| run.entry(&vars[place], 0, unit));
                let states = states.collect::<Result<Vec<_>>>()?;
                let unit = Unit { rnn: self, weights, size, backwards: direction == 1 };
                let (outputs, states) = run.layer(&unit, &x, states)?;
                halves.push(outputs);
                for ((all, last), size) in [&mut hidden, &mut cells].into_iter().zip(&states).zip([shown, size]) {
                    all.push(run.reshape(last, &[1, rows, size])?);
                }
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

/// One layer in one direction.
struct Unit<'a, V> {
    rnn: &'a Rnn,
    weights: &'a [Var<V>],
    /// Of the cells.
    size: usize,
    /// Whether the steps are taken from the last to the first.
    backwards: bool,
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
    fn layer(&mut self, unit: &Unit<'_, V>, x: &Var<V>, mut states: Vec<Var<V>>) -> Result<(Var<V>, Vec<Var<V>>)> {
        let Unit { rnn, weights, size, backwards } = *unit;
        let (rows, steps) = (x.dims()?[0], x.dims()?[1]);
        let (width, shown) = (rnn.cell.parts() * size, weights[1].dims()?[1]);
        let [of_input, of_hidden] = [2, 3].map(|place| weights.get(place).filter(|_| rnn.has_biases));
        let inputs = self.rows_times_matrix(x, x.dims()?[2], &weights[0], of_input)?;
        let inputs = self.reshape(&inputs, &[rows, steps, width])?;
        let mut outputs = Vec::with_capacity(steps);
        for step in 0..steps {
            let step = if backwards { steps - 1 - step } else { step };
            let own = self.entry(&inputs, 1, step)?;
            let fed = self.rows_times_matrix(&states[0], shown, &weights[1], of_hidden)?;
            let fed = self.reshape(&fed, &[rows, width])?;
            states = self.step(rnn.cell, [&own, &fed], states, size)?;
            if let Some(projection) = weights.last().filter(|_| rnn.projected) {
                let hidden = self.rows_times_matrix(&states[0], size, projection, None)?;
                states[0] = self.reshape(&hidden, &[rows, shown])?;
            }
            outputs.push(self.reshape(&states[0], &[rows, 1, shown])?);
        }
        if backwards {
            outputs.reverse();
        }
        Ok((cat(self.tape, &outputs, 1)?, states))
    }

    /// The states after a step, from what input and hidden state give.
    fn step(&mut self, cell: Cell, [own, fed]: [&Var<V>; 2], states: Vec<Var<V>>, size: usize) -> Result<Vec<Var<V>>> {
        let part = |run: &mut Self, of: &Var<V>, place: usize| run.entries_of(of, 1, place * size..(place + 1) * size);
        if cell == Cell::Gru {
            let hidden = &states[0];
            let gate = |run: &mut Self, place: usize| {
                let (own, fed) = (part(run, own, place)?, part(run, fed, place)?);
                let sum = run.tape.add(&own, &fed)?;
                Ok::<_, crate::Error>(run.tape.pointwise(Pointwise::Sigmoid, &sum)?)
            };
            let (reset, update) = (gate(self, 0)?, gate(self, 1)?);
            let (own, fed) = (part(self, own, 2)?, part(self, fed, 2)?);
            let fed = self.product(&reset, &fed)?;
            let sum = self.tape.add(&own, &fed)?;
            let new = self.tape.pointwise(Pointwise::Tanh, &sum)?;
            let negative = self.negative(&new)?;
            let change = self.tape.add(hidden, &negative)?;
            let kept = self.product(&update, &change)?;
            return Ok(vec![self.tape.add(&new, &kept)?]);
        }
        let sum = self.tape.add(own, fed)?;
        match cell {
            Cell::Tanh => Ok(vec![self.tape.pointwise(Pointwise::Tanh, &sum)?]),
            Cell::Relu => Ok(vec![self.tape.relu(&sum)?]),
            Cell::Gru | Cell::Lstm => {
                let of = |run: &mut Self, place: usize, function: Pointwise| {
                    let part = part(run, &sum, place)?;
                    Ok::<_, crate::Error>(run.tape.pointwise(function, &part)?)
                };
                let (input, forget) = (of(self, 0, Pointwise::Sigmoid)?, of(self, 1, Pointwise::Sigmoid)?);
                let (new, out) = (of(self, 2, Pointwise::Tanh)?, of(self, 3, Pointwise::Sigmoid)?);
                let (kept, added) = (self.product(&forget, &states[1])?, self.product(&input, &new)?);
                let cells = self.tape.add(&kept, &added)?;
                let shown = self.tape.pointwise(Pointwise::Tanh, &cells)?;
                Ok(vec![self.product(&out, &shown)?, cells])
            }
        }
    }
}
