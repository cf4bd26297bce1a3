//! Activations that are written with other operations, so that every answer about them follows.

use super::fused::HARD_GATE;
use super::{
    Add, Chunk, Clamp, Compare, Comparison, Connective, Extremum, Function, Logical, Mul, PerChannel, Sub, To, Unary,
    Where,
};
use crate::program::{Call, Kind, Operand, Results};

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "abs" | "absolute" => absolute(call),
        "leaky_relu" | "rrelu" => leaky_relu(call),
        "elu" => elu(call),
        "celu" => celu(call),
        "selu" => selu(call),
        "prelu" | "_prelu_kernel" => prelu(call),
        "hardtanh" | "relu6" => hardtanh(call),
        "clamp" | "clip" | "clamp_min" | "clamp_max" => clamp(call),
        "hardsigmoid" => hardsigmoid(call),
        "hardswish" => hardswish(call),
        "mish" => mish(call),
        "softplus" => softplus(call),
        "glu" => glu(call),
        "masked_fill" => masked_fill(call),
        "hardshrink" => hardshrink(call),
        "softshrink" => softshrink(call),
        "tanhshrink" => tanhshrink(call),
        "threshold" => threshold(call),
        "softsign" => softsign(call),
        "log_sigmoid" => log_sigmoid(call),
        _ => return None,
    })
}

fn number(value: f64) -> Operand {
    Operand::Number(value)
}

impl Call<'_> {
    /// `factor · x`.
    pub(super) fn times(&mut self, x: &Operand, factor: f64) -> Operand {
        if factor == 1.0 { x.clone() } else { self.push(Mul {}, [x.clone(), number(factor)]) }
    }

    /// `x + shift`.
    pub(super) fn plus(&mut self, x: &Operand, shift: f64) -> Operand {
        if shift == 0.0 { x.clone() } else { self.push(Add {}, [x.clone(), number(shift)]) }
    }

    pub(super) fn apply(&mut self, function: Function, x: &Operand) -> Operand {
        self.push(Unary::from(function), [x.clone()])
    }

    /// `min(x, 0)`, with derivative 1 at 0.
    fn negative_part(&mut self, x: &Operand) -> Operand {
        self.push(Clamp { min: None, max: Some(0.0), closed: true }, [x.clone()])
    }

    /// `|x|`, with derivative 0 at 0.
    pub(super) fn absolute(&mut self, x: &Operand) -> Operand {
        let positive = self.push(Clamp { min: Some(0.0), max: None, closed: true }, [x.clone()]);
        let negative = self.negative_part(x);
        self.push(Sub {}, [positive, negative])
    }

    /// `min(max(x + 3, 0), 6) / 6`
    fn hard_gate(&mut self, x: &Operand) -> Operand {
        let shifted = self.plus(x, 3.0);
        let cut = self.push(HARD_GATE, [shifted]);
        self.times(&cut, 1.0 / 6.0)
    }

    /// `x / divisor`
    pub(super) fn quotient(&mut self, x: &Operand, divisor: Operand) -> Operand {
        let inverse = match divisor {
            Operand::Number(divisor) => number(1.0 / divisor),
            divisor => self.apply(Function::Reciprocal, &divisor),
        };
        self.push(Mul {}, [x.clone(), inverse])
    }
}

fn absolute(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    Ok(vec![call.absolute(&x)])
}

/// `max(x, 0) + s·min(x, 0)`; of random slopes the mean.
fn leaky_relu(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let slope = match call.name {
        "rrelu" => {
            let (lower, upper) = (call.number("lower")?.unwrap_or(0.125), call.number("upper")?.unwrap_or(1.0 / 3.0));
            let training = call.flag("training", false)?;
            call.only("training", training, false)?;
            0.5 * (lower + upper)
        }
        _ => call.number("negative_slope")?.unwrap_or(0.01),
    };
    let (positive, negative) = (call.apply(Function::Relu, &x), call.negative_part(&x));
    let negative = call.times(&negative, slope);
    call.gives(Add {}, [positive, negative])
}

/// `s (max(x, 0) + α (e^{i min(x, 0)} − 1))`, `i` the scale of the input.
fn elu(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let mut setting = |name: &str| Ok::<f64, String>(call.number(name)?.unwrap_or(1.0));
    let (alpha, scale, input_scale) = (setting("alpha")?, setting("scale")?, setting("input_scale")?);
    exponential_unit(call, &x, [alpha, scale, input_scale])
}

fn exponential_unit(call: &mut Call<'_>, x: &Operand, [alpha, scale, input_scale]: [f64; 3]) -> Results {
    let (positive, negative) = (call.apply(Function::Relu, x), call.negative_part(x));
    let exponent = call.times(&negative, input_scale);
    let exponential = call.apply(Function::Expm1, &exponent);
    let low = call.times(&exponential, alpha);
    let sum = call.push(Add {}, [positive, low]);
    Ok(vec![call.times(&sum, scale)])
}

fn celu(call: &mut Call<'_>) -> Results {
    let (x, alpha) = (call.operand("self")?, call.number("alpha")?.unwrap_or(1.0));
    exponential_unit(call, &x, [alpha, 1.0, 1.0 / alpha])
}

/// The constants of Klambauer et al. 2017.
fn selu(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    exponential_unit(call, &x, [1.673_263_242_354_377_2, 1.050_700_987_355_480_5, 1.0])
}

/// `max(x, 0) + w·min(x, 0)`, `w` for each entry of axis 1.
fn prelu(call: &mut Call<'_>) -> Results {
    let (x, weight) = (call.operand("self")?, call.operand("weight")?);
    let (positive, negative) = (call.apply(Function::Relu, &x), call.negative_part(&x));
    let slopes = call.push(PerChannel {}, [weight, x]);
    let product = call.push(Mul {}, [negative, slopes]);
    call.gives(Add {}, [positive, product])
}

fn hardtanh(call: &mut Call<'_>) -> Results {
    let (min, max) = match call.name {
        "relu6" => (0.0, 6.0),
        _ => (call.number("min_val")?.unwrap_or(-1.0), call.number("max_val")?.unwrap_or(1.0)),
    };
    let x = call.operand("self")?;
    call.gives(Clamp { min: Some(min), max: Some(max), closed: false }, [x])
}

/// Bounds that are numbers or values.
fn clamp(call: &mut Call<'_>) -> Results {
    let (mut x, mut bounds) = (call.operand("self")?, [None; 2]);
    for (bound, name) in bounds.iter_mut().zip(["min", "max"]) {
        match call.optional(name)? {
            Operand::None => {}
            Operand::Number(number) => *bound = Some(number),
            value => x = call.push(Extremum { largest: name == "min" }, [x, value]),
        }
    }
    match bounds {
        [None, None] => Ok(vec![x]),
        [min, max] => call.gives(Clamp { min, max, closed: true }, [x]),
    }
}

fn hardsigmoid(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    Ok(vec![call.hard_gate(&x)])
}

/// `x · hardsigmoid(x)`
fn hardswish(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let gate = call.hard_gate(&x);
    call.gives(Mul {}, [x, gate])
}

/// `x · tanh(ln(1 + eˣ))`
fn mish(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let softplus = call.apply(Function::Softplus, &x);
    let gate = call.apply(Function::Tanh, &softplus);
    call.gives(Mul {}, [x, gate])
}

/// `ln(1 + e^{βx}) / β`; above the threshold PyTorch takes `x`, which differs by less than `e^{−20}`.
fn softplus(call: &mut Call<'_>) -> Results {
    let (x, beta) = (call.operand("self")?, call.number("beta")?.unwrap_or(1.0));
    if call.number("threshold")?.is_some_and(|threshold| threshold < 20.0) {
        return Err("a threshold below 20 is not supported".into());
    }
    let scaled = call.times(&x, beta);
    let softplus = call.apply(Function::Softplus, &scaled);
    Ok(vec![call.times(&softplus, 1.0 / beta)])
}

/// `a · sigmoid(b)`, the halves of an axis.
fn glu(call: &mut Call<'_>) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dim", Some(-1))?);
    let [a, b] = [0, 1].map(|index| call.push(Chunk { chunks: 2, dim, index }, [x.clone()]));
    let gate = call.apply(Function::Sigmoid, &b);
    call.gives(Mul {}, [a, gate])
}

fn masked_fill(call: &mut Call<'_>) -> Results {
    let (x, mask, value) = (call.operand("self")?, call.operand("mask")?, call.operand("value")?);
    let filled = call.push(Where {}, [mask, value, x.clone()]);
    if call.is_truth(&x) { call.gives(To { kind: Kind::Truth }, [filled]) } else { Ok(vec![filled]) }
}

/// `x` beyond `±λ`, else 0.
fn hardshrink(call: &mut Call<'_>) -> Results {
    let (x, bound) = (call.operand("self")?, call.number("lambd")?.unwrap_or(0.5));
    let above = call.push(Compare { comparison: Comparison::Gt }, [x.clone(), number(bound)]);
    let below = call.push(Compare { comparison: Comparison::Lt }, [x.clone(), number(-bound)]);
    let beyond = call.push(Logical { connective: Connective::Or }, [above, below]);
    call.gives(Where {}, [beyond, x, number(0.0)])
}

/// `x − min(max(x, −λ), λ)`
fn softshrink(call: &mut Call<'_>) -> Results {
    let (x, bound) = (call.operand("self")?, call.number("lambd")?.unwrap_or(0.5));
    let inner = call.push(Clamp { min: Some(-bound), max: Some(bound), closed: true }, [x.clone()]);
    call.gives(Sub {}, [x, inner])
}

fn tanhshrink(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let tanh = call.apply(Function::Tanh, &x);
    call.gives(Sub {}, [x, tanh])
}

fn threshold(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let (bound, value) = (call.operand("threshold")?, call.operand("value")?);
    let above = call.push(Compare { comparison: Comparison::Gt }, [x.clone(), bound]);
    call.gives(Where {}, [above, x, value])
}

/// `x / (1 + |x|)`
fn softsign(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let size = call.absolute(&x);
    let divisor = call.plus(&size, 1.0);
    Ok(vec![call.quotient(&x, divisor)])
}

/// `−ln(1 + e^{−x})`
fn log_sigmoid(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let negative = call.times(&x, -1.0);
    let softplus = call.apply(Function::Softplus, &negative);
    Ok(vec![call.times(&softplus, -1.0)])
}
