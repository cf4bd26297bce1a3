//! Operations that draw random numbers in training.

use candle_core::Tensor;
use rand::Rng;
use serde::Serialize;

use crate::Result;
use crate::autodiff::Value;
use crate::program::infer::Cost;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows::{self, Tracked};
use crate::program::run::{Mode, Run, Slot};
use crate::program::{Call, Fact, Results, Start};

/// The identity in analysis; in training zeroes entries with probability `p` and scales the rest by `1/(1 − p)`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dropout {
    /// The probability.
    pub p: f64,
}

/// Reads a call of this family. Programs are exported for analysis, where dropout is the identity, and for training.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "dropout" | "feature_dropout" | "alpha_dropout" | "feature_alpha_dropout" | "native_dropout" => dropout(call),
        _ => return None,
    })
}

fn dropout(call: &mut Call<'_>) -> Results {
    let (x, p) = (call.optional("input")?, call.number("p")?.unwrap_or(0.5));
    // In place it is called on `self`.
    let x = if x.name().is_some() { x } else { call.operand("self")? };
    if !call.flag("train", true)? {
        return Ok(vec![x]);
    }
    call.only("train", call.name, "dropout")?;
    call.gives(Dropout { p }, [x])
}

impl Operation for Dropout {
    columns! {
        name: "dropout",
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        if !(0.0..=1.0).contains(&self.p) {
            return Err(format!("`p` is {}, but a probability lies in 0..=1", self.p));
        }
        Ok(Fact::float(&fact(operands, 0)?.shape))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let Mode::Train { dropout: Some(rng) } = &mut run.mode else { return Ok(Slot::Float(x)) };
        if self.p == 0.0 {
            return Ok(Slot::Float(x));
        }
        let full = x.dims()?.to_vec();
        let kept = 1.0 / (1.0 - self.p);
        // 53 random bits make a uniform number in 0..1.
        let mut draw = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mask: Vec<f64> = (0..full.iter().product()).map(|_| if draw() < self.p { 0.0 } else { kept }).collect();
        let mask = Tensor::from_vec(mask, full, &run.device)?.to_dtype(run.dtype)?;
        let mask = run.tape.constant(mask);
        Ok(Slot::Float(run.product(&x, &mask)?))
    }
}
