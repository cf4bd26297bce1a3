//! Whether the rows of a batch touch one another, and what one row costs: read off the program, and checked by a trial.

use std::fmt;

use candle_core::{DType, Device, Tensor};

use super::{Objective, ObjectiveError, SampleCost};
use crate::Result;
use crate::autodiff::{Saved, Tape};
use crate::data::{Batch, DataError};
use crate::program::{BatchNormMode, Inferred, Mode, Place, Start};

/// Bytes that one row may take whatever the memory to plan with: less cannot be promised.
const LEAST_ROW: usize = 64 << 20;

/// The operation through which the loss of a row depends on other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coupling {
    /// Where it stands in the description of the network.
    pub place: Place,
    /// How it mixes rows, in words.
    pub how: String,
}

impl fmt::Display for Coupling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.module.as_str() {
            "" => f.write_str(&self.how),
            module => write!(f, "{module} ({}): {}", self.place.kind, self.how),
        }
    }
}

impl Objective<'_> {
    /// Runs one row forwards and counts; every misfit between network, data and loss shows here.
    pub(super) fn dry_run(&self) -> Result<SampleCost> {
        self.options.loss.check()?;
        if self.data.is_empty() {
            return Err(DataError::NoRows { source_name: self.data.source.clone() }.into());
        }
        let batch = self.batch(&[0])?;
        let shapes: Vec<Vec<usize>> = batch.inputs().iter().map(|input| input.dims().to_vec()).collect();
        // What does not fit together is said in the words of the description, which fusion leaves out.
        self.network.program().infer(&shapes, false)?;
        let inferred = self.network.fused().infer(&shapes, false)?;
        self.check_memory(&inferred)?;
        let (space, cost) = (self.network.space(), inferred.cost);
        let zeros = Tensor::zeros(space.dim(), self.options.dtype, &self.options.device)?;
        let params = space.split(&zeros)?;
        let mut tape = Tape::<Tensor>::new(Saved::Nothing);
        let outcome = self.forward(&mut tape, &params, &batch, Mode::Eval)?;
        let output = &outcome.output;
        self.options.loss.check_targets(output.dims()?, self.data)?;
        self.row_loss(&mut tape, &outcome, &batch)?;
        Ok(SampleCost {
            multiply_adds: cost.multiply_adds,
            activations: cost.activations,
            largest_activation: cost.largest_activation,
            outputs: output.dims()?.iter().product(),
        })
    }

    /// Refuses a network of which a single row does not fit the memory: nothing can be cut further.
    fn check_memory(&self, inferred: &Inferred) -> Result<(), ObjectiveError> {
        let size = self.options.dtype.size_in_bytes();
        let memory_bytes = self.options.execution.memory_bytes.max(LEAST_ROW);
        let (largest, place) = &inferred.largest;
        let (elements, place) = match inferred.cost.activations {
            all if all > *largest => (all, &Place::default()),
            _ => (*largest, place),
        };
        match elements.saturating_mul(size) > memory_bytes {
            true => Err(ObjectiveError::RowTooLarge { place: place.clone(), elements, memory_bytes }),
            false => Ok(()),
        }
    }

    /// The first operation that mixes rows in this objective's mode; `None` where none does. Where the operations say that
    /// rows do not touch one another, two rows together and one alone must agree.
    pub(super) fn find_coupling(&self) -> Result<Option<Coupling>> {
        let in_training = self.options.batch_norm == BatchNormMode::Train;
        let mut shapes: Vec<Vec<usize>> =
            self.batch(&[0])?.inputs().iter().map(|input| input.dims().to_vec()).collect();
        shapes.iter_mut().filter_map(|shape| shape.first_mut()).for_each(|rows| *rows = 2);
        if let Some((place, how)) = self.network.program().infer(&shapes, in_training)?.mixing {
            return Ok(Some(Coupling { place, how }));
        }
        Ok(if self.data.len() > 1 { self.probe()? } else { None })
    }

    /// The first row's outputs beside another row and alone, at parameters of the size with which a training begins.
    fn probe(&self) -> Result<Option<Coupling>> {
        let params = self.network.space().split(&self.place(&self.plausible_parameters()?)?)?;
        let outputs = |batch: &Batch| -> Result<Vec<f64>> {
            let mut tape = Tape::<Tensor>::new(Saved::Nothing);
            let output = self.forward(&mut tape, &params, batch, self.mode())?.output;
            let first = output.value().narrow(0, 0, 1)?.flatten_all()?;
            Ok(first.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>()?)
        };
        let (together, alone) = (outputs(&self.batch(&[0, 1])?)?, outputs(&self.batch(&[0])?)?);
        let size = together.iter().chain(&alone).fold(0.0f64, |size, output| size.max(output.abs()));
        let largest = together.iter().zip(&alone).fold(0.0f64, |gap, (a, b)| gap.max((a - b).abs()));
        let epsilon = if self.options.dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        // Sums in another order differ by far less, another row's share by far more. What is not finite tells nothing.
        let differs = size.is_finite() && largest > epsilon.sqrt() * size;
        let how = "the outputs of a row change when another row is in the batch".to_owned();
        Ok(differs.then(|| Coupling { place: Place::default(), how }))
    }

    /// Parameters that depend on nothing but the program: fixed irregular numbers of the size of its initial weights.
    fn plausible_parameters(&self) -> Result<Tensor> {
        let program = self.network.program();
        let starts = program.starts();
        let mut values = Vec::with_capacity(program.parameters.dim());
        for tensor in program.parameters.tensors() {
            let (centre, reach) = match starts.get(tensor.name.as_str()) {
                Some(Start::Uniform { bound }) => (0.0, *bound),
                Some(Start::Normal { std }) => (0.0, *std),
                Some(Start::Constant(value)) => (*value, 0.1),
                None => (0.0, 0.1),
            };
            // Multiples of the golden ratio are spread evenly over the unit interval (Weyl 1916).
            let unit = |index: usize| ((index + 1) as f64 * 0.618_033_988_749_894_9).fract();
            values.extend((0..tensor.len()).map(|index| centre + reach * (2.0 * unit(index) - 1.0)));
        }
        let n = values.len();
        Ok(Tensor::from_vec(values, n, &Device::Cpu)?)
    }
}
