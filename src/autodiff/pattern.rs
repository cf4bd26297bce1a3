//! The activation pattern: which piece of a piecewise linear function each unit is on.

use candle_core::{Device, Result, Tensor};

/// How a tape chooses the pieces of ReLU and max pooling.
///
/// Finite differences across a kink measure something else than the Hessian, so checks record the pattern at `θ` and
/// replay it at `θ ± h v`.
#[derive(Debug, Clone, Default)]
pub enum Pattern {
    /// Each value chooses its own piece.
    #[default]
    Free,
    /// Free, and the choices are kept: ReLU inputs and pooling indices in order of evaluation.
    Record(Vec<Tensor>),
    /// The recorded choices are used, whatever the values.
    Replay {
        /// The record.
        choices: Vec<Tensor>,
        /// How many have been used.
        next: usize,
        /// In how many units the free choice would have differed.
        crossings: usize,
    },
}

impl Pattern {
    /// Replays what a [`Pattern::Record`] has gathered.
    pub fn replay(choices: Vec<Tensor>) -> Self {
        Self::Replay { choices, next: 0, crossings: 0 }
    }

    /// The gate or the indices to use where `free` is what the value itself would choose.
    pub fn choose(&mut self, free: Tensor) -> Result<Tensor> {
        match self {
            Self::Free => Ok(free),
            Self::Record(choices) => {
                choices.push(free.clone());
                Ok(free)
            }
            Self::Replay { choices, next, crossings } => {
                let Some(choice) = choices.get(*next) else { candle_core::bail!("the recorded pattern is too short") };
                *next += 1;
                *crossings += differences(&free, choice)?;
                Ok(choice.clone())
            }
        }
    }
}

/// Gates differ where their signs do, indices where their values do.
fn differences(free: &Tensor, choice: &Tensor) -> Result<usize> {
    let differ = if free.dtype().is_float() { free.gt(0.0)?.ne(&choice.gt(0.0)?)? } else { free.ne(choice)? };
    let flags = differ.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<u8>()?;
    Ok(flags.into_iter().filter(|&flag| flag != 0).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn a_replay_keeps_the_recorded_pieces_and_counts_crossings() {
        let mut record = Pattern::Record(Vec::new());
        record.choose(tensor(&[1.0, -1.0, 0.0])).unwrap();
        record.choose(Tensor::new(&[3u32, 1], &Device::Cpu).unwrap()).unwrap();
        let Pattern::Record(choices) = record else { panic!("a record stays one") };

        let mut replay = Pattern::replay(choices);
        // 0 and negative inputs are the same piece of a ReLU; the first and the last unit cross.
        let gate = replay.choose(tensor(&[-2.0, -0.0, 0.5])).unwrap();
        assert_eq!(gate.to_vec1::<f64>().unwrap(), [1.0, -1.0, 0.0]);
        let indices = replay.choose(Tensor::new(&[3u32, 2], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(indices.to_vec1::<u32>().unwrap(), [3, 1]);
        assert!(matches!(replay, Pattern::Replay { crossings: 3, next: 2, .. }));
        let error = replay.choose(tensor(&[1.0])).unwrap_err();
        assert!(error.to_string().contains("too short"), "{error}");
    }
}
