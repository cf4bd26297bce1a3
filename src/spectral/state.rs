//! The state of a survey as named tensors, so that a killed one goes on bit for bit.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use nalgebra::DMatrix;
use rand_chacha::ChaCha8Rng;

use super::SpectralError;
use super::basis::Basis;
use crate::operator::ShardForms;
use crate::{Error, Result};

/// Everything that a survey needs to go on: tensors by name, which a file can hold.
#[derive(Debug, Clone, Default)]
pub struct SurveyState {
    /// By name, without the basis.
    pub tensors: BTreeMap<String, Tensor>,
    pub(super) basis: Basis,
}

/// The blocks of the basis are named by their place.
const BLOCK: &str = "basis.";

/// Where a survey keeps its state. `()` keeps nothing.
pub trait Store {
    /// What an earlier run left.
    ///
    /// # Errors
    /// A state that cannot be read or belongs to another computation.
    fn load(&mut self) -> Result<Option<SurveyState>> {
        Ok(None)
    }
    /// Whether a state of this many bytes should be saved now; at the end of a run (`last`) it is asked once more.
    fn wants(&mut self, _bytes: usize, _last: bool) -> bool {
        false
    }
    /// Writes or copies it: the search goes on in the memory of its tensors. A failure is not an error of the survey. Where
    /// ranks share a basis, each is called, and has to go through [`SurveyState::gathered`].
    fn save(&mut self, _state: &SurveyState) {}
}

impl Store for () {}

impl SurveyState {
    /// A state whose tensors have these names; `get` gives them. Of a basis that ranks share, each keeps its part.
    ///
    /// # Errors
    /// What `get` says; a basis of vectors of different lengths.
    pub fn read(names: &[String], mut get: impl FnMut(&str) -> Result<Tensor>) -> Result<Self> {
        let mut state = Self::default();
        let (blocks, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.starts_with(BLOCK));
        for name in others {
            state.tensors.insert(name.clone(), get(name)?);
        }
        for index in 0..blocks.len() {
            let name = format!("{BLOCK}{index}");
            let block = get(&name)?;
            if block.rank() != 2 || index > 0 && block.dims()[1] != state.basis.dim() {
                return Err(damaged(&name));
            }
            state.basis.push(block)?;
        }
        Ok(state)
    }

    /// Names, types and shapes of all tensors, in the order of [`Self::gathered`].
    pub fn layout(&self) -> Vec<(String, DType, Vec<usize>)> {
        let others = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dtype(), tensor.dims().to_vec()));
        let named =
            |(index, (dtype, dims)): (usize, (DType, [usize; 2]))| (format!("{BLOCK}{index}"), dtype, dims.to_vec());
        others.chain(self.basis.layout().enumerate().map(named)).collect()
    }

    /// All tensors, one after the other. A block of a basis that ranks share is put together on rank 0 when its turn comes;
    /// other ranks have to ask for it too, and get their part.
    pub fn gathered(&self) -> impl Iterator<Item = Result<Tensor>> + '_ {
        self.tensors.values().cloned().map(Ok).chain(self.basis.gathered())
    }

    pub(super) fn put_numbers(&mut self, name: &str, values: &[f64]) -> Result<()> {
        self.tensors.insert(name.into(), Tensor::new(values, &Device::Cpu)?);
        Ok(())
    }

    pub(super) fn put_matrix(&mut self, name: &str, matrix: &DMatrix<f64>) -> Result<()> {
        // Column-major, with its shape in front.
        let mut values = vec![matrix.nrows() as f64, matrix.ncols() as f64];
        values.extend_from_slice(matrix.as_slice());
        self.put_numbers(name, &values)
    }

    pub(super) fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.tensor(name)?.to_dtype(DType::F64)?.to_vec1()?)
    }

    pub(super) fn matrix(&self, name: &str) -> Result<DMatrix<f64>> {
        let values = self.numbers(name)?;
        match values.as_slice() {
            &[rows, columns, ref entries @ ..] => {
                let shape = (rows as usize, columns as usize);
                // Numbers that are not counts become other ones on the way to integers.
                let counts = (shape.0 as f64, shape.1 as f64) == (rows, columns);
                if !counts || shape.0.checked_mul(shape.1) != Some(entries.len()) {
                    return Err(damaged(name));
                }
                Ok(DMatrix::from_column_slice(shape.0, shape.1, entries))
            }
            _ => Err(damaged(name)),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| damaged(name))
    }

    /// The forms of some vectors by shard.
    pub(super) fn put_forms(&mut self, shards: &ShardForms) -> Result<()> {
        self.put_numbers("shards.weights", &shards.weights)?;
        self.put_numbers("shards.rows", &shards.rows.iter().map(|&rows| rows as f64).collect::<Vec<_>>())?;
        self.put_numbers("shards.forms", &shards.forms.concat())
    }

    /// Those of `count` vectors, where there are any.
    pub(super) fn forms(&self, count: usize) -> Result<Option<ShardForms>> {
        if !self.tensors.contains_key("shards.rows") {
            return Ok(None);
        }
        let rows: Vec<usize> = self.numbers("shards.rows")?.into_iter().map(|rows| rows as usize).collect();
        let (weights, forms) = (self.numbers("shards.weights")?, self.numbers("shards.forms")?);
        if rows.is_empty() || count == 0 || weights.len() != rows.len() || forms.len() != rows.len() * count {
            return Err(damaged("shards.forms"));
        }
        let forms = forms.chunks(count).map(<[f64]>::to_vec).collect();
        Ok(Some(ShardForms { rows, weights, forms }))
    }

    /// The random stream's position.
    pub(super) fn put_position(&mut self, rng: &ChaCha8Rng) -> Result<()> {
        let position = rng.get_word_pos();
        // Words of 32 bits are exact in f64.
        let words: Vec<f64> = (0..4).map(|word| f64::from((position >> (32 * word)) as u32)).collect();
        self.put_numbers("rng", &words)
    }

    pub(super) fn set_position(&self, rng: &mut ChaCha8Rng) -> Result<()> {
        let words = self.numbers("rng")?;
        rng.set_word_pos(words.iter().rev().fold(0, |position: u128, &word| position << 32 | word as u128));
        Ok(())
    }
}

/// A part that is missing or has another shape than this version writes.
pub(super) fn damaged(part: &str) -> Error {
    SpectralError::DamagedState { part: part.to_owned() }.into()
}
