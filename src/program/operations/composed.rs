//! Calls that are written with other operations, so that every answer about them follows: functions with kinks out of
//! ReLU, quotients, powers, gated units.

use super::{Add, Chunk, Function, Matmul, Mul, PerChannel, Sub, Unary, Where};
use crate::program::{Call, Operand, Results};

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "abs" => absolute(call),
        "leaky_relu" => leaky_relu(call),
        "elu" => elu(call),
        "prelu" | "_prelu_kernel" => prelu(call),
        "relu6" => clamped(call, Some(0.0), Some(6.0)),
        "hardtanh" => hardtanh(call),
        "clamp" | "clip" => clamp(call),
        "clamp_min" => call.number("min").and_then(|min| clamped(call, min, None)),
        "clamp_max" => call.number("max").and_then(|max| clamped(call, None, max)),
        "hardsigmoid" => hardsigmoid(call),
        "hardswish" => hardswish(call),
        "mish" => mish(call),
        "softplus" => softplus(call),
        "glu" => glu(call),
        "square" => square(call),
        "pow" => pow(call),
        "neg" => call.operand("self").and_then(|x| call.gives(Mul {}, [x, Operand::Number(-1.0)])),
        "div" | "true_divide" => div(call),
        "rsub" => rsub(call),
        "addmm" => addmm(call),
        "masked_fill" => masked_fill(call),
        _ => return None,
    })
}

fn number(value: f64) -> Operand {
    Operand::Number(value)
}

impl Call<'_> {
    /// `factor · x`.
    fn times(&mut self, x: &Operand, factor: f64) -> Operand {
        if factor == 1.0 { x.clone() } else { self.push(Mul {}, [x.clone(), number(factor)]) }
    }

    /// `x + shift`.
    fn plus(&mut self, x: &Operand, shift: f64) -> Operand {
        if shift == 0.0 { x.clone() } else { self.push(Add {}, [x.clone(), number(shift)]) }
    }

    fn apply(&mut self, function: Function, x: &Operand) -> Operand {
        self.push(Unary::from(function), [x.clone()])
    }

    /// `max(−x, 0)`.
    fn negative_part(&mut self, x: &Operand) -> Operand {
        let negative = self.times(x, -1.0);
        self.apply(Function::Relu, &negative)
    }

    /// `min(max(x, low), high)`.
    fn between(&mut self, x: &Operand, low: Option<f64>, high: Option<f64>) -> Operand {
        let low_part = low.map(|low| {
            let shifted = self.plus(x, -low);
            let positive = self.apply(Function::Relu, &shifted);
            self.plus(&positive, low)
        });
        let x = low_part.unwrap_or_else(|| x.clone());
        let Some(high) = high else { return x };
        // min(x, h) = h − max(h − x, 0)
        let turned = self.times(&x, -1.0);
        let left = self.plus(&turned, high);
        let positive = self.apply(Function::Relu, &left);
        let turned = self.times(&positive, -1.0);
        self.plus(&turned, high)
    }

    /// `min(max(x + 3, 0), 6) / 6`
    fn hard_gate(&mut self, x: &Operand) -> Operand {
        let shifted = self.plus(x, 3.0);
        let cut = self.between(&shifted, Some(0.0), Some(6.0));
        self.times(&cut, 1.0 / 6.0)
    }
}

/// `max(x, 0) + max(−x, 0)`
fn absolute(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let (positive, negative) = (call.apply(Function::Relu, &x), call.negative_part(&x));
    call.gives(Add {}, [positive, negative])
}

/// `max(x, 0) − s·max(−x, 0)`
fn leaky_relu(call: &mut Call<'_>) -> Results {
    let (x, slope) = (call.operand("self")?, call.number("negative_slope")?.unwrap_or(0.01));
    let (positive, negative) = (call.apply(Function::Relu, &x), call.negative_part(&x));
    let negative = call.times(&negative, -slope);
    call.gives(Add {}, [positive, negative])
}

/// `s (max(x, 0) + α (e^{−max(−i x, 0)} − 1))`, `i` the scale of the input.
fn elu(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let mut setting = |name: &str| Ok::<f64, String>(call.number(name)?.unwrap_or(1.0));
    let (alpha, scale, input_scale) = (setting("alpha")?, setting("scale")?, setting("input_scale")?);
    let (positive, negative) = (call.apply(Function::Relu, &x), call.negative_part(&x));
    let exponent = call.times(&negative, -input_scale);
    let exponential = call.apply(Function::Exp, &exponent);
    let shifted = call.plus(&exponential, -1.0);
    let low = call.times(&shifted, alpha);
    let sum = call.push(Add {}, [positive, low]);
    Ok(vec![call.times(&sum, scale)])
}

/// `max(x, 0) − w·max(−x, 0)`, `w` for each entry of axis 1.
fn prelu(call: &mut Call<'_>) -> Results {
    let (x, weight) = (call.operand("self")?, call.operand("weight")?);
    let (positive, negative) = (call.apply(Function::Relu, &x), call.negative_part(&x));
    let slopes = call.push(PerChannel {}, [weight, x]);
    let product = call.push(Mul {}, [negative, slopes]);
    call.gives(Sub {}, [positive, product])
}

fn clamped(call: &mut Call<'_>, low: Option<f64>, high: Option<f64>) -> Results {
    let x = call.operand("self")?;
    Ok(vec![call.between(&x, low, high)])
}

fn hardtanh(call: &mut Call<'_>) -> Results {
    let (low, high) = (call.number("min_val")?.unwrap_or(-1.0), call.number("max_val")?.unwrap_or(1.0));
    clamped(call, Some(low), Some(high))
}

fn clamp(call: &mut Call<'_>) -> Results {
    let (low, high) = (call.number("min")?, call.number("max")?);
    clamped(call, low, high)
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

fn square(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    call.gives(Mul {}, [x.clone(), x])
}

/// Whole exponents as products, by squaring; halves by roots.
fn pow(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let exponent = call.number("exponent")?.ok_or("its exponent is missing")?;
    if exponent == 0.5 || exponent == -0.5 {
        return Ok(vec![call.apply(if exponent > 0.0 { Function::Sqrt } else { Function::Rsqrt }, &x)]);
    }
    if exponent.fract() != 0.0 || exponent == 0.0 || exponent.abs() > 64.0 {
        return Err(format!("the exponent {exponent} is not supported"));
    }
    let (mut left, mut factor, mut product) = (exponent.abs() as u32, x, None);
    while left > 0 {
        if left % 2 == 1 {
            product = Some(match product {
                None => factor.clone(),
                Some(product) => call.push(Mul {}, [product, factor.clone()]),
            });
        }
        left /= 2;
        if left > 0 {
            factor = call.push(Mul {}, [factor.clone(), factor]);
        }
    }
    let power = product.ok_or("its exponent is missing")?;
    Ok(vec![if exponent < 0.0 { call.apply(Function::Reciprocal, &power) } else { power }])
}

fn div(call: &mut Call<'_>) -> Results {
    let (x, divisor) = (call.operand("self")?, call.operand("other")?);
    let inverse = match divisor {
        Operand::Number(divisor) => number(1.0 / divisor),
        divisor => call.apply(Function::Reciprocal, &divisor),
    };
    call.gives(Mul {}, [x, inverse])
}

/// `other − α·input`
fn rsub(call: &mut Call<'_>) -> Results {
    let (x, other) = (call.operand("self")?, call.operand("other")?);
    let alpha = call.number("alpha")?.unwrap_or(1.0);
    let negative = call.times(&x, -alpha);
    call.gives(Add {}, [negative, other])
}

/// `β·input + α·(mat1 mat2)`
fn addmm(call: &mut Call<'_>) -> Results {
    let (x, a, b) = (call.operand("self")?, call.operand("mat1")?, call.operand("mat2")?);
    let (beta, alpha) = (call.number("beta")?.unwrap_or(1.0), call.number("alpha")?.unwrap_or(1.0));
    let product = call.push(Matmul {}, [a, b]);
    let (product, x) = (call.times(&product, alpha), call.times(&x, beta));
    call.gives(Add {}, [product, x])
}

fn masked_fill(call: &mut Call<'_>) -> Results {
    let (x, mask, value) = (call.operand("self")?, call.operand("mask")?, call.operand("value")?);
    call.gives(Where {}, [mask, value, x])
}
