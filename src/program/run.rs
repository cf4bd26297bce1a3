//! One forward pass: the tape, the mode, and what operations share.

use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::ProgramError;
use super::operand::{Operand, Place};
use crate::Result;
use crate::autodiff::{Tape, Value, Var};
use crate::kernels::{Bilinear, Linear};

/// How operations with two behaviours behave.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // one exists per pass; a box would only complicate callers
pub enum Mode {
    /// Stored statistics, nothing random.
    Eval,
    /// Batch statistics.
    Train {
        /// In steps of training, random numbers for dropout and its like; then the program of training runs, where the
        /// network has one. `None` leaves dropout out.
        draws: Option<ChaCha8Rng>,
    },
}

impl Mode {
    /// Whether batch statistics are used.
    pub(crate) fn is_training(&self) -> bool {
        matches!(self, Self::Train { .. })
    }
}

/// Batch statistics of one normalisation, for the running averages.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// Name of the running mean.
    pub running_mean: String,
    /// Name of the running variance.
    pub running_var: String,
    /// Weight of the new value in the running average.
    pub momentum: f64,
    /// Mean per channel, `[C]`.
    pub mean: Tensor,
    /// Unbiased variance per channel, `[C]`.
    pub var: Tensor,
}

/// A tensor that does not change from pass to pass.
#[derive(Debug, Clone)]
pub struct Stored {
    /// As it was read or computed: floats in f64 where they were computed here, whole numbers, truth values.
    pub exact: Tensor,
    /// Floats in the dtype and on the device of the pass.
    pub placed: Tensor,
}

impl Stored {
    /// A tensor for passes in a dtype on a device.
    ///
    /// # Errors
    /// Making the tensors.
    pub fn new(exact: Tensor, dtype: DType, device: &Device) -> Result<Self> {
        let placed = if exact.dtype().is_float() { exact.to_dtype(dtype)? } else { exact.clone() };
        Ok(Self { exact: exact.to_device(device)?, placed: placed.to_device(device)? })
    }
}

/// The value of an operand.
#[derive(Clone)]
pub enum Slot<V> {
    /// On the tape.
    Float(Var<V>),
    /// A buffer, a constant, or what was computed from these alone.
    Stored(Stored),
    /// Whole numbers or truth values.
    Whole(Tensor),
    /// A number.
    Number(f64),
    /// Left out.
    None,
}

impl<V: Value> Slot<V> {
    /// An input that a batch brings: floats on the tape as constants, anything else as it is.
    pub fn input(tape: &Tape<V>, tensor: Tensor) -> Self {
        if tensor.dtype().is_float() { Self::Float(tape.constant(tensor)) } else { Self::Whole(tensor) }
    }

    /// The shape of a value; a number has none.
    ///
    /// # Errors
    /// A value without primal, which no forward computation makes.
    pub fn shape(&self) -> Result<Vec<usize>> {
        Ok(match self {
            Self::Float(var) => var.dims()?.to_vec(),
            Self::Stored(stored) => stored.exact.dims().to_vec(),
            Self::Whole(tensor) => tensor.dims().to_vec(),
            Self::Number(_) | Self::None => Vec::new(),
        })
    }
}

/// What operations compute with.
pub struct Run<'a, V> {
    /// Records what is computed.
    pub tape: &'a mut Tape<V>,
    /// Eval or training.
    pub mode: Mode,
    /// Rows of the batch.
    pub rows: usize,
    /// Of all floats.
    pub dtype: DType,
    /// Where tensors live.
    pub device: Device,
    /// Where the operation at hand comes from.
    pub place: Option<&'a Place>,
    /// The names of its operands.
    pub operands: &'a [Operand],
    /// Statistics of each batch normalisation in training mode, in order.
    pub statistics: Vec<BatchStatistics>,
}

impl<V: Value> Run<'_, V> {
    /// What does not fit at the operation at hand.
    pub fn misfit(&self, reason: impl Into<String>) -> crate::Error {
        let place = self.place.cloned().unwrap_or_default();
        ProgramError::misfit(&place, reason).into()
    }

    /// The name of an operand.
    pub(crate) fn operand_name(&self, place: usize) -> Option<&str> {
        self.operands.get(place)?.name()
    }

    /// The operand as floats; whole numbers and truth values as constants, as PyTorch's arithmetic takes them.
    ///
    /// # Errors
    /// One that is missing.
    pub fn var(&self, operands: &[Slot<V>], place: usize) -> Result<Var<V>> {
        match operands.get(place) {
            Some(Slot::Float(var)) => Ok(var.clone()),
            Some(Slot::Stored(stored)) if stored.exact.dtype().is_float() => {
                Ok(self.tape.constant(stored.placed.clone()))
            }
            Some(Slot::Number(number)) => {
                let number = Tensor::new(*number, &self.device)?.to_dtype(self.dtype)?;
                Ok(self.tape.constant(number))
            }
            Some(Slot::Stored(Stored { exact: whole, .. }) | Slot::Whole(whole)) => {
                Ok(self.tape.constant(whole.to_dtype(self.dtype)?))
            }
            Some(Slot::None) | None => Err(self.misfit(format!("operand {} is missing", place + 1))),
        }
    }

    /// The operand as floats, `None` where it is left out.
    ///
    /// # Errors
    /// Of the conversion.
    pub fn optional(&self, operands: &[Slot<V>], place: usize) -> Result<Option<Var<V>>> {
        match operands.get(place) {
            None | Some(Slot::None) => Ok(None),
            Some(_) => self.var(operands, place).map(Some),
        }
    }

    /// The operand as whole numbers or truth values.
    ///
    /// # Errors
    /// One that is missing or holds floats.
    pub fn whole(&self, operands: &[Slot<V>], place: usize) -> Result<Tensor> {
        match operands.get(place) {
            Some(Slot::Whole(tensor)) => Ok(tensor.clone()),
            Some(Slot::Stored(stored)) if !stored.exact.dtype().is_float() => Ok(stored.exact.clone()),
            Some(Slot::Number(number)) if number.fract() == 0.0 => Ok(Tensor::new(*number as i64, &self.device)?),
            _ => Err(self.misfit(format!("operand {} must be whole numbers", place + 1))),
        }
    }

    /// The operand, where it is a tensor of whole numbers or truth values.
    pub(super) fn whole_or_none(&self, operands: &[Slot<V>], place: usize) -> Option<Tensor> {
        match operands.get(place) {
            Some(Slot::Number(_)) => None,
            _ => self.whole(operands, place).ok(),
        }
    }

    /// The same elements in another shape.
    pub(super) fn reshape(&mut self, x: &Var<V>, to: &[usize]) -> Result<Var<V>> {
        let from = x.dims()?.to_vec();
        if from == to {
            return Ok(x.clone());
        }
        Ok(self.tape.linear(Linear::Reshape { from, to: to.to_vec() }, x)?)
    }

    /// The mean over the axes where `small` has 1.
    pub(super) fn mean(&mut self, x: &Var<V>, full: &[usize], small: &[usize]) -> Result<Var<V>> {
        let sum = self.tape.linear(Linear::SumTo { from: full.to_vec(), to: small.to_vec() }, x)?;
        let factor = small.iter().product::<usize>() as f64 / full.iter().product::<usize>() as f64;
        Ok(self.tape.linear(Linear::Scale { factor }, &sum)?)
    }

    /// `−x`.
    pub(super) fn negative(&mut self, x: &Var<V>) -> Result<Var<V>> {
        Ok(self.tape.linear(Linear::Scale { factor: -1.0 }, x)?)
    }

    /// `x ⊙ y`, `y` broadcast to the shape of `x` along axes of size 1.
    pub(super) fn product(&mut self, x: &Var<V>, y: &Var<V>) -> Result<Var<V>> {
        let product = Bilinear::Product { full: x.dims()?.to_vec(), small: y.dims()?.to_vec() };
        Ok(self.tape.bilinear(product, x, y)?)
    }
}

/// The place named in an error about an input or a buffer, which no node makes.
pub(super) fn input_place(name: &str) -> Place {
    Place { module: name.into(), kind: "input".into() }
}
