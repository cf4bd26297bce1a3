//! A program ready to run: names resolved, what depends on no parameter and no input evaluated once.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, DeviceLocation, Tensor};

use super::run::{Run, Slot, Stored, input_place};
use super::{BatchStatistics, Input, Kind, Mode, Node, Op, Operand, Program, ProgramError};
use crate::Result;
use crate::autodiff::{Saved, Tape, Value, Var};

/// What a forward pass leaves.
pub struct Outcome<V> {
    /// The network's output.
    pub output: Var<V>,
    /// The loss per row, where the program brings one.
    pub loss: Option<Var<V>>,
    /// Statistics of each batch normalisation in training mode, in order.
    pub statistics: Vec<BatchStatistics>,
}

/// The parameters of a forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a, V> {
    /// Their values, in the order of the space.
    pub values: &'a [V],
    /// Which of them are held fixed, by their place; `false` where the list is too short. They get no gradient, and the
    /// backward pass ends at the first operation whose parameters are not all fixed.
    pub fixed: &'a [bool],
}

/// A program, and the tensors that belong to a checkpoint.
#[derive(Clone, Copy)]
pub(super) struct Programs<'a> {
    /// As it is computed.
    pub(super) runs: &'a Program,
    /// As it was written, assertions and all.
    pub(super) written: &'a Program,
    pub(super) buffers: &'a HashMap<String, Tensor>,
}

/// Values by place: inputs, parameters, buffers, constants, then the results of the nodes.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    /// Nodes that depend on no parameter, no input and no random number.
    fixed: Vec<bool>,
    output: usize,
    loss: Option<usize>,
    /// Buffers and constants by dtype and device.
    stored: Cache<(DType, DeviceLocation), Vec<Stored>>,
    /// Results of fixed nodes, by rows too.
    folded: Cache<(usize, DType, DeviceLocation), Vec<Option<Stored>>>,
    /// Shapes of inputs that fit.
    checked: Mutex<HashSet<Vec<Vec<usize>>>>,
}

#[derive(Debug)]
struct Step {
    operands: Vec<Source>,
    /// Values that no later step reads.
    done: Vec<usize>,
}

#[derive(Debug)]
enum Source {
    Value(usize),
    Number(f64),
    None,
}

/// What was computed once for each key.
#[derive(Debug)]
struct Cache<K, T>(Mutex<HashMap<K, Arc<T>>>);

/// Entries of a cache at most: batches of a pass have few sizes.
const KEPT: usize = 16;

impl<K: Eq + Hash, T> Cache<K, T> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, key: K, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let entries = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = entries().get(&key) {
            return Ok(found.clone());
        }
        // Not under the lock: while a thread of a pool computes, it may be given work that asks this cache too.
        let made = Arc::new(make()?);
        let mut entries = entries();
        if entries.len() >= KEPT {
            entries.clear();
        }
        Ok(entries.entry(key).or_insert(made).clone())
    }
}

impl Plan {
    /// Resolves the names of a program.
    ///
    /// # Errors
    /// Names that do not exist before their use, or twice.
    pub fn new(program: &Program) -> Result<Self, ProgramError> {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let given = (program.inputs.iter().map(|input| &input.name))
            .chain(program.parameters.tensors().iter().map(|tensor| &tensor.name))
            .chain(program.buffers.iter().map(|(name, _)| name))
            .chain(program.constants.iter().map(|(name, _)| name));
        for name in given {
            add(&mut places, name)?;
        }
        let (first_stored, first_node) = (program.inputs.len() + program.parameters.tensors().len(), places.len());
        let (mut steps, mut fixed): (Vec<Step>, Vec<bool>) = (Vec::new(), Vec::new());
        for node in &program.nodes {
            let source = |operand: &Operand| match operand {
                Operand::Name(name) => find(&places, &node.name, name).map(Source::Value),
                Operand::Number(number) => Ok(Source::Number(*number)),
                Operand::None => Ok(Source::None),
            };
            let mut operands: Vec<Source> = node.operands.iter().map(source).collect::<Result<_, _>>()?;
            operands.resize_with(operands.len().max(node.operation.operands().len()), || Source::None);
            let is_fixed = |source: &Source| match *source {
                Source::Value(place) if place >= first_node => fixed[place - first_node],
                Source::Value(place) => place >= first_stored,
                Source::Number(_) | Source::None => true,
            };
            // What training does otherwise than analysis is not evaluated for both.
            let by_mode = matches!(node.operation, Op::Dropout(_) | Op::Draw(_) | Op::BatchNorm(_) | Op::Fused(_));
            fixed.push(!by_mode && operands.iter().all(is_fixed));
            steps.push(Step { operands, done: Vec::new() });
            add(&mut places, &node.name)?;
        }
        let output = find(&places, "the output", &program.output)?;
        let loss = program.loss.as_ref().map(|name| find(&places, "the loss", name)).transpose()?;
        let mut read: HashSet<usize> = loss.into_iter().chain([output]).collect();
        for step in steps.iter_mut().rev() {
            let values = step.operands.iter().filter_map(|source| match source {
                Source::Value(place) => Some(*place),
                Source::Number(_) | Source::None => None,
            });
            step.done = values.filter(|place| read.insert(*place)).collect();
        }
        let (stored, folded, checked) = (Cache::new(), Cache::new(), Mutex::default());
        Ok(Self { steps, fixed, output, loss, stored, folded, checked })
    }

    /// Runs the program on one batch, once the program as it was `written`, assertions and all, has found that it fits.
    ///
    /// # Errors
    /// Inputs that do not fit; a missing buffer; a kernel that fails.
    pub fn run<V: Value>(
        &self,
        Programs { runs: program, written, buffers }: Programs<'_>,
        tape: &mut Tape<V>,
        Parameters { values, fixed: held }: Parameters<'_, V>,
        inputs: Vec<Slot<V>>,
        mode: Mode,
    ) -> Result<Outcome<V>> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(Slot::shape).collect::<Result<_>>()?;
        for (input, given) in written.inputs.iter().zip(&inputs) {
            input.check_kind(given)?;
        }
        self.check(written, &shapes, mode.is_training())?;
        let floats = inputs.iter().find_map(|input| match input {
            Slot::Float(var) => var.value().primal(),
            _ => None,
        });
        let like = values.first().and_then(V::primal).or(floats);
        let (dtype, device) = like.map_or((DType::F32, Device::Cpu), |t| (t.dtype(), t.device().clone()));
        let rows = shapes.first().and_then(|shape| shape.first()).copied().unwrap_or(1);
        let key = (dtype, device.location());
        let stored = self.stored.get(key, || stored(program, buffers, dtype, &device))?;
        let folded = match self.fixed.contains(&true) {
            true => {
                let key = (rows, dtype, device.location());
                self.folded.get(key, || self.fold(program, &stored, rows, dtype, &device))?
            }
            false => Arc::default(),
        };
        let mut slots: Vec<Slot<V>> = Vec::with_capacity(inputs.len() + values.len() + stored.len() + self.steps.len());
        slots.extend(inputs);
        // The tape's first leaves, in the order of the space.
        for (place, value) in values.iter().enumerate() {
            let is_held = held.get(place).copied().unwrap_or(false);
            let leaf = if is_held { tape.fixed_leaf(value.clone()) } else { tape.leaf(value.clone()) };
            slots.push(Slot::Float(leaf));
        }
        slots.extend(stored.iter().cloned().map(Slot::Stored));
        let mut run = Run { tape, mode, rows, dtype, device, place: None, operands: &[], statistics: Vec::new() };
        for (index, (step, node)) in self.steps.iter().zip(&program.nodes).enumerate() {
            let slot = match folded.get(index) {
                Some(Some(stored)) => Slot::Stored(stored.clone()),
                _ => step.forward(&mut run, node, &slots)?,
            };
            step.done.iter().for_each(|&place| slots[place] = Slot::None);
            slots.push(slot);
        }
        let output = run.var(&slots, self.output)?;
        let loss = self.loss.map(|place| run.var(&slots, place)).transpose()?;
        Ok(Outcome { output, loss, statistics: run.statistics })
    }

    /// That a batch of such inputs fits, once for each shape.
    fn check(&self, program: &Program, shapes: &[Vec<usize>], in_training: bool) -> Result<()> {
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked().contains(shapes) {
            return Ok(());
        }
        for (input, shape) in program.inputs.iter().zip(shapes) {
            if shape.is_empty() || shape.contains(&0) {
                let reason = format!("nothing to compute on in a batch of shape {shape:?}");
                return Err(ProgramError::misfit(&input_place(&input.name), reason).into());
            }
        }
        program.infer(shapes, in_training)?;
        let mut checked = checked();
        if checked.len() >= KEPT {
            checked.clear();
        }
        checked.insert(shapes.to_vec());
        Ok(())
    }

    /// The results of the nodes that depend on buffers and constants alone, in f64.
    fn fold(
        &self,
        program: &Program,
        stored: &[Stored],
        rows: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Vec<Option<Stored>>> {
        let mut tape = Tape::<Tensor>::new(Saved::Nothing);
        let before = program.inputs.len() + program.parameters.tensors().len();
        let mut slots: Vec<Slot<Tensor>> = vec![Slot::None; before];
        for stored in stored {
            let exact = stored.exact.to_device(&Device::Cpu)?;
            let exact = if exact.dtype().is_float() { exact.to_dtype(DType::F64)? } else { exact };
            slots.push(Slot::Stored(Stored { placed: exact.clone(), exact }));
        }
        let mut run = Run {
            tape: &mut tape,
            mode: Mode::Eval,
            rows,
            dtype: DType::F64,
            device: Device::Cpu,
            place: None,
            operands: &[],
            statistics: Vec::new(),
        };
        let mut folded = Vec::with_capacity(self.steps.len());
        for ((step, node), fixed) in self.steps.iter().zip(&program.nodes).zip(&self.fixed) {
            let slot = if *fixed { step.forward(&mut run, node, &slots)? } else { Slot::None };
            folded.push(match &slot {
                Slot::Float(var) => Some(Stored::new(var.value().clone(), dtype, device)?),
                Slot::Whole(tensor) => Some(Stored::new(tensor.clone(), dtype, device)?),
                Slot::Stored(stored) => Some(Stored::new(stored.exact.clone(), dtype, device)?),
                Slot::Number(_) | Slot::None => None,
            });
            slots.push(slot);
        }
        Ok(folded)
    }
}

impl Step {
    fn forward<'a, V: Value>(&self, run: &mut Run<'a, V>, node: &'a Node, slots: &[Slot<V>]) -> Result<Slot<V>> {
        let operands: Vec<Slot<V>> = self
            .operands
            .iter()
            .map(|source| match source {
                Source::Value(place) => slots[*place].clone(),
                Source::Number(number) => Slot::Number(*number),
                Source::None => Slot::None,
            })
            .collect();
        (run.place, run.operands) = (Some(&node.place), &node.operands);
        let result = node.operation.forward(run, &operands)?;
        // What is chosen by values that depend on the parameters has kinks where the choice changes.
        let chosen = operands.iter().any(|operand| matches!(operand, Slot::Float(_)));
        Ok(match result {
            Slot::Whole(choice) if chosen => Slot::Whole(run.tape.pattern.choose(choice)?),
            other => other,
        })
    }
}

impl Input {
    /// Checks that what a batch brings is of this input's kind.
    fn check_kind<V>(&self, given: &Slot<V>) -> Result<(), ProgramError> {
        let reason = match (self.kind, given) {
            (Kind::Float, Slot::Whole(_)) => "expects floats, but the data holds whole numbers",
            (Kind::Whole | Kind::Truth, Slot::Float(_)) => "expects whole numbers, but the data holds floats",
            _ => return Ok(()),
        };
        Err(ProgramError::misfit(&input_place(&self.name), reason))
    }
}

/// Gives the next value its place.
fn add<'a>(places: &mut HashMap<&'a str, usize>, name: &'a str) -> Result<(), ProgramError> {
    let place = places.len();
    match places.insert(name, place) {
        None => Ok(()),
        Some(_) => Err(ProgramError::DuplicateName { name: name.into() }),
    }
}

fn find(places: &HashMap<&str, usize>, node: &str, name: &str) -> Result<usize, ProgramError> {
    let unknown = || ProgramError::UnknownValue { node: node.into(), name: name.into() };
    places.get(name).copied().ok_or_else(unknown)
}

/// Buffers and constants in the dtype and on the device of a pass.
fn stored(program: &Program, buffers: &HashMap<String, Tensor>, dtype: DType, device: &Device) -> Result<Vec<Stored>> {
    let buffers = program.buffers.iter().map(|(name, shape)| match buffers.get(name) {
        Some(buffer) if buffer.dims() == shape.as_slice() => Stored::new(buffer.clone(), dtype, device),
        Some(buffer) => {
            let reason = format!("buffer `{name}` has shape {:?}, expected {shape:?}", buffer.dims());
            Err(ProgramError::misfit(&input_place(name), reason).into())
        }
        None => Err(ProgramError::MissingTensor { name: name.clone() }.into()),
    });
    let constants = program.constants.iter().map(|(_, tensor)| Stored::new(tensor.clone(), dtype, device));
    buffers.chain(constants).collect()
}
