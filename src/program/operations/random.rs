//! Operations that draw random numbers in training.

use candle_core::Tensor;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::{Value, Var};
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Mode, Run, Slot};
use crate::program::{Call, Fact, Full, Kind, Operand, Results, Start};
use crate::random::uniform;

/// The identity in analysis; in training zeroes entries with probability `p` and scales the rest by `1/(1 − p)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The probability.
    pub p: f64,
}

/// Random numbers in the shape of an operand, which training draws; analysis has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draw {
    /// Their law.
    pub law: Law,
}

/// Laws of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Law {
    /// Uniform on 0..1.
    Uniform,
    /// Mean 0, variance 1.
    Normal,
    /// 1 with this probability, else 0.
    Bernoulli(f64),
}

/// Reads a call of this family. Programs are exported for analysis, where dropout is the identity, and for training.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "dropout" | "feature_dropout" | "alpha_dropout" | "feature_alpha_dropout" | "native_dropout" => dropout(call),
        "rand" => of_size(call, Law::Uniform),
        "randn" => of_size(call, Law::Normal),
        "rand_like" => like(call, Law::Uniform),
        "randn_like" => like(call, Law::Normal),
        "bernoulli" => bernoulli(call),
        _ => return None,
    })
}

fn dropout(call: &mut Call<'_>) -> Results {
    let (x, p) = (call.optional("input")?, call.number("p")?.unwrap_or(0.5));
    // In place it is called on `self`.
    let x = if x.name().is_some() { x } else { call.operand("self")? };
    let train = call.flag("train", true)?;
    match call.name {
        // In a program for analysis it waits for training.
        "dropout" if p > 0.0 => call.gives(Dropout { p }, [x]),
        // The native form also gives its mask.
        _ if p == 0.0 || !train => Ok(vec![x; call.count]),
        _ => Err("in training mode".into()),
    }
}

fn of_size(call: &mut Call<'_>, law: Law) -> Results {
    let size = call.sizes("size")?.ok_or("its sizes are missing")?;
    let kind = call.kind("dtype")?.unwrap_or_default();
    call.only("dtype", kind, Kind::Float)?;
    let zeros = call.push(Full { size, fill_value: 0.0, kind }, []);
    call.gives(Draw { law }, [zeros])
}

fn like(call: &mut Call<'_>, law: Law) -> Results {
    let x = call.operand("self")?;
    let kind = call.kind("dtype")?.unwrap_or_default();
    call.only("dtype", kind, Kind::Float)?;
    call.gives(Draw { law }, [x])
}

fn bernoulli(call: &mut Call<'_>) -> Results {
    let (x, p) = (call.operand("self")?, call.optional("p")?);
    match p {
        Operand::Number(p) => call.gives(Draw { law: Law::Bernoulli(p) }, [x]),
        Operand::Name(_) | Operand::None => Err("with a probability for each entry".into()),
    }
}

impl Operation for Draw {
    fn name(&self) -> &'static str {
        match self.law {
            Law::Uniform => "rand_like",
            Law::Normal => "randn_like",
            Law::Bernoulli(_) => "bernoulli",
        }
    }

    columns! {
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact::float(&fact(operands, 0)?.shape))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let shape = operands.first().map_or(Ok(Vec::new()), Slot::shape)?;
        let Mode::Train { draws: Some(rng) } = &mut run.mode else {
            return Err(
                run.misfit("it draws random numbers, which analysis has none of: export the module after .eval()")
            );
        };
        let mut draw = || match self.law {
            Law::Uniform => uniform(rng),
            Law::Normal => StandardNormal.sample(rng),
            Law::Bernoulli(p) => f64::from(u8::from(uniform(rng) < p)),
        };
        let numbers: Vec<f64> = (0..shape.iter().product()).map(|_| draw()).collect();
        let numbers = Tensor::from_vec(numbers, shape, &run.device)?.to_dtype(run.dtype)?;
        Ok(Slot::Float(run.tape.constant(numbers)))
    }
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
        check_probability("p", self.p)?;
        Ok(Fact::float(&fact(operands, 0)?.shape))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        Ok(Slot::Float(run.dropped(x, self.p)?))
    }
}

/// That a setting is a probability.
pub(super) fn check_probability(name: &str, p: f64) -> Result<(), String> {
    match (0.0..=1.0).contains(&p) {
        true => Ok(()),
        false => Err(format!("`{name}` is {p}, but a probability lies in 0..=1")),
    }
}

impl<V: Value> Run<'_, V> {
    /// In steps of training, `x` with entries zeroed with probability `p` and the rest scaled by `1/(1 − p)`; else `x`.
    pub(super) fn dropped(&mut self, x: Var<V>, p: f64) -> Result<Var<V>> {
        let Mode::Train { draws: Some(rng) } = &mut self.mode else { return Ok(x) };
        if p == 0.0 {
            return Ok(x);
        }
        let full = x.dims()?.to_vec();
        let kept = 1.0 / (1.0 - p);
        let mut entry = || if uniform(rng) < p { 0.0 } else { kept };
        let mask: Vec<f64> = (0..full.iter().product()).map(|_| entry()).collect();
        let mask = Tensor::from_vec(mask, full, &self.device)?.to_dtype(self.dtype)?;
        let mask = self.tape.constant(mask);
        self.product(&x, &mask)
    }
}
