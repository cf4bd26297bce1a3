//! Where the classes of outputs lie, and the outputs place by place.

use candle_core::Tensor;

use super::definition::{CrossEntropy, Loss};
use super::targets::{Given, misfit};
use crate::Result;
use crate::autodiff::{Tape, Value, Var};
use crate::kernels::Linear;
use crate::program::ProgramError;

/// Outputs as classes at places: `[N, count, …]`, or `[N, …, count]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::program) struct Classes {
    /// How many classes.
    pub(in crate::program) count: usize,
    /// Places of a row: one, or as many as it has tokens or pixels.
    pub(in crate::program) places: usize,
    /// Whether they are on axis 1, and not on the last.
    first: bool,
}

impl Classes {
    /// Classes of outputs `[N, …]` for labels, one a place, or for probabilities in the shape of the outputs.
    ///
    /// # Errors
    /// Shapes that do not fit; [`ProgramError::ClassAxis`] where two axes would do; another number of class weights.
    pub(in crate::program) fn find(loss: &CrossEntropy, output: &[usize], given: Given<'_>) -> Result<Self> {
        let misfit = || misfit(&Loss::CrossEntropy(loss.clone()), output, given);
        let [_, sizes @ ..] = output else { return Err(misfit()) };
        let ([first, behind @ ..], [before @ .., last]) = (sizes, sizes) else { return Err(misfit()) };
        let fits = |places: &[usize]| match given {
            Given::Labels(shape) => shape == places,
            Given::Values(shape) => shape == sizes,
        };
        let (fits_first, fits_last) = (fits(behind), fits(before));
        let is_first = match loss.class_axis {
            Some(1) if fits_first => true,
            Some(-1) if fits_last => false,
            None if sizes.len() == 1 && fits_first => true,
            None if fits_first && fits_last => {
                return Err(ProgramError::ClassAxis { outputs: output.to_vec() }.into());
            }
            None if fits_first || fits_last => fits_first,
            _ => return Err(misfit()),
        };
        let (count, places) = if is_first { (*first, behind) } else { (*last, before) };
        if let Some(weight) = loss.weight.as_ref().filter(|weight| weight.len() != count) {
            return Err(ProgramError::ClassWeights { got: weight.len(), classes: count }.into());
        }
        Ok(Self { count, places: places.iter().product(), first: is_first })
    }

    /// The outputs place by place, `[N · places, count]`.
    pub(super) fn flatten<V: Value>(&self, tape: &mut Tape<V>, output: &Var<V>) -> Result<Var<V>> {
        let from = output.dims()?.to_vec();
        let (n, &Self { count, places, first }) = (from[0], self);
        let flat = vec![n * places, count];
        if from == flat {
            return Ok(output.clone());
        }
        if !first {
            return Ok(tape.linear(Linear::Reshape { from, to: flat }, output)?);
        }
        let cut = tape.linear(Linear::Reshape { from, to: vec![n, count, places] }, output)?;
        let last = tape.linear(Linear::Permute { axes: vec![0, 2, 1] }, &cut)?;
        Ok(tape.linear(Linear::Reshape { from: vec![n, places, count], to: flat }, &last)?)
    }

    /// The same of a tensor.
    pub(in crate::program) fn rows_of(&self, output: &Tensor) -> Result<Tensor> {
        let n = output.dims().first().copied().unwrap_or(0);
        let &Self { count, places, first } = self;
        Ok(match first {
            true => output.reshape((n, count, places))?.transpose(1, 2)?.reshape((n * places, count))?,
            false => output.reshape((n * places, count))?,
        })
    }

    /// Where the classes of a place stand among the outputs of a row.
    pub(in crate::program) fn of_place(&self, place: usize) -> impl Iterator<Item = usize> + use<> {
        let &Self { count, places, first } = self;
        (0..count).map(move |class| if first { class * places + place } else { place * count + class })
    }

    /// The sum over each row's places, `[N, 1]`, of a number for each place, `[N · places, 1]`.
    pub(super) fn sum<V: Value>(&self, tape: &mut Tape<V>, each: &Var<V>) -> Result<Var<V>> {
        let from = each.dims()?.to_vec();
        if self.places == 1 {
            return Ok(each.clone());
        }
        let (n, places) = (from[0] / self.places, self.places);
        let by_row = tape.linear(Linear::Reshape { from, to: vec![n, places] }, each)?;
        Ok(tape.linear(Linear::SumTo { from: vec![n, places], to: vec![n, 1] }, &by_row)?)
    }
}
