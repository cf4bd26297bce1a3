//! Functions of one number, elementwise: all answer alike but for the function.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::Value;
use crate::kernels::Pointwise;
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Results, Start};

/// The functions by PyTorch's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the formulas stand with each
pub enum Function {
    /// `max(x, 0)`, derivative 0 at 0.
    Relu,
    /// `x Φ(x)`
    Gelu,
    /// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`, PyTorch's `gelu` with `approximate="tanh"`.
    GeluTanh,
    /// `x sigmoid(x)`
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
    /// `ln(1 + eˣ)`
    Softplus,
    /// `eˣ`
    Exp,
    /// `ln x`
    Log,
    /// `1/x`
    Reciprocal,
    /// `1/√x`
    Rsqrt,
    /// `√x`
    Sqrt,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// `ln(1 + x)`
    Log1p,
    /// `eˣ − 1`
    Expm1,
    /// `2/√π ∫₀ˣ e^(−t²) dt`
    Erf,
    /// `arctan x`
    Atan,
}

/// `x^exponent`, elementwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pow {
    /// The exponent.
    pub exponent: f64,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    let function = match call.name {
        "relu" => Function::Relu,
        "gelu" => return Some(gelu(call)),
        "silu" => Function::Silu,
        "tanh" => Function::Tanh,
        "sigmoid" => Function::Sigmoid,
        "exp" => Function::Exp,
        "log" => Function::Log,
        "reciprocal" => Function::Reciprocal,
        "rsqrt" => Function::Rsqrt,
        "sqrt" => Function::Sqrt,
        "sin" => Function::Sin,
        "cos" => Function::Cos,
        "log1p" => Function::Log1p,
        "expm1" => Function::Expm1,
        "erf" | "special_erf" => Function::Erf,
        "atan" | "arctan" => Function::Atan,
        _ => return None,
    };
    Some(call.operand("self").and_then(|x| call.gives(Unary::from(function), [x])))
}

fn gelu(call: &mut Call<'_>) -> Results {
    let (x, form) = (call.operand("self")?, call.text("approximate")?);
    let function = match form.as_deref().unwrap_or("none") {
        "none" => Function::Gelu,
        "tanh" => Function::GeluTanh,
        form => return Err(format!("its form `{form}` is unknown")),
    };
    call.gives(Unary::from(function), [x])
}

impl Function {
    /// PyTorch's name, and the kernel; `None` for the one function with a kink.
    fn facts(self) -> (&'static str, Option<Pointwise>) {
        match self {
            Self::Relu => ("relu", None),
            Self::Gelu => ("gelu", Some(Pointwise::GeluErf)),
            Self::GeluTanh => ("gelu", Some(Pointwise::GeluTanh)),
            Self::Silu => ("silu", Some(Pointwise::Silu)),
            Self::Tanh => ("tanh", Some(Pointwise::Tanh)),
            Self::Sigmoid => ("sigmoid", Some(Pointwise::Sigmoid)),
            Self::Softplus => ("softplus", Some(Pointwise::Softplus)),
            Self::Exp => ("exp", Some(Pointwise::Exp)),
            Self::Log => ("log", Some(Pointwise::Log)),
            Self::Reciprocal => ("reciprocal", Some(Pointwise::Reciprocal)),
            Self::Rsqrt => ("rsqrt", Some(Pointwise::Rsqrt)),
            Self::Sqrt => ("sqrt", Some(Pointwise::Sqrt)),
            Self::Sin => ("sin", Some(Pointwise::Sin)),
            Self::Cos => ("cos", Some(Pointwise::Cos)),
            Self::Log1p => ("log1p", Some(Pointwise::Log1p)),
            Self::Expm1 => ("expm1", Some(Pointwise::Expm1)),
            Self::Erf => ("erf", Some(Pointwise::Erf)),
            Self::Atan => ("atan", Some(Pointwise::Atan)),
        }
    }
}

/// `f(x)`, elementwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unary {
    /// The function; PyTorch has an operation for each.
    pub function: Function,
}

impl From<Function> for Unary {
    fn from(function: Function) -> Self {
        Self { function }
    }
}

impl Operation for Unary {
    columns! {
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(1.0),
    }

    fn name(&self) -> &'static str {
        self.function.facts().0
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact::float(&fact(operands, 0)?.shape))
    }

    fn affinity(&self, _in_training: bool) -> Affinity {
        match self.function.facts().1 {
            None => Affinity::AFFINE,
            Some(_) => Affinity { products: &[], smooth: &[0] },
        }
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        Ok(Slot::Float(match self.function.facts().1 {
            None => run.tape.relu(&x)?,
            Some(function) => run.tape.pointwise(function, &x)?,
        }))
    }
}

impl Operation for Pow {
    columns! {
        name: "pow",
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(1.0),
        affinity: Affinity { products: &[], smooth: &[0] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact::float(&fact(operands, 0)?.shape))
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        Ok(Slot::Float(run.tape.pointwise(Pointwise::Power(self.exponent), &x)?))
    }
}
