//! Arithmetic that is written with other operations: quotients, powers, other bases and inverses of functions.

use super::{
    Add, Compare, Comparison, Connective, Function, Logical, Mul, Pow, RoundedDiv, Step, Steps, Sub, To, Where,
};
use crate::program::{Call, Kind, Operand, Results};

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "neg" | "negative" => call.operand("self").and_then(|x| call.gives(Mul {}, [x, Operand::Number(-1.0)])),
        "square" => square(call),
        "pow" | "float_power" => pow(call),
        "div" | "true_divide" | "divide" => div(call),
        "floor_divide" => rounded_div(call, true),
        "remainder" | "__mod__" => remainder(call, true),
        "fmod" => remainder(call, false),
        "rsub" => rsub(call),
        "lerp" => lerp(call),
        "addcmul" => addcmul(call),
        "addcdiv" => addcdiv(call),
        "frac" => frac(call),
        "xlogy" => xlogy(call),
        "logaddexp" => logaddexp(call),
        "hypot" => hypot(call),
        "atan2" | "arctan2" => atan2(call),
        "nan_to_num" => nan_to_num(call),
        "isnan" => not_a_number(call),
        "isinf" => infinite(call, Comparison::Eq),
        "isfinite" => infinite(call, Comparison::Lt),
        "log2" | "log10" | "exp2" | "sinh" | "cosh" | "tan" | "asin" | "arcsin" | "acos" | "arccos" | "asinh"
        | "acosh" | "atanh" | "logit" | "erfc" => function(call),
        _ => return None,
    })
}

fn square(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    call.gives(Mul {}, [x.clone(), x])
}

fn pow(call: &mut Call<'_>) -> Results {
    let (x, exponent) = (call.operand("self")?, call.operand("exponent")?);
    match (&x, exponent) {
        (_, Operand::Number(exponent)) => Ok(vec![power(call, x, exponent)]),
        // aˣ = e^(x ln a)
        (Operand::Number(base), exponent) if *base > 0.0 => {
            let scaled = call.times(&exponent, base.ln());
            Ok(vec![call.apply(Function::Exp, &scaled)])
        }
        (Operand::Number(base), _) => Err(format!("powers of {base} are not supported")),
        (_, exponent) => {
            let log = call.apply(Function::Log, &x);
            let scaled = call.push(Mul {}, [log, exponent]);
            Ok(vec![call.apply(Function::Exp, &scaled)])
        }
    }
}

/// Small whole exponents as products, by squaring; halves by roots.
fn power(call: &mut Call<'_>, x: Operand, exponent: f64) -> Operand {
    if exponent == 0.5 || exponent == -0.5 {
        return call.apply(if exponent > 0.0 { Function::Sqrt } else { Function::Rsqrt }, &x);
    }
    if exponent.fract() != 0.0 || exponent == 0.0 || exponent.abs() > 64.0 {
        return call.push(Pow { exponent }, [x]);
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
    let power = product.unwrap_or(factor);
    if exponent < 0.0 { call.apply(Function::Reciprocal, &power) } else { power }
}

fn div(call: &mut Call<'_>) -> Results {
    let floor = match call.text("rounding_mode")?.as_deref() {
        None => {
            let (x, divisor) = (call.operand("self")?, call.operand("other")?);
            let x = if call.is_whole(&x) { call.push(To { kind: Kind::Float }, [x]) } else { x };
            return Ok(vec![call.quotient(&x, divisor)]);
        }
        Some("floor") => true,
        Some("trunc") => false,
        Some(mode) => return Err(format!("its rounding mode `{mode}` is unknown")),
    };
    rounded_div(call, floor)
}

fn rounded_div(call: &mut Call<'_>, floor: bool) -> Results {
    let operands = [call.operand("self")?, call.operand("other")?];
    call.gives(RoundedDiv { floor }, operands)
}

/// `a − b·⌊a/b⌋`
fn remainder(call: &mut Call<'_>, floor: bool) -> Results {
    let (a, b) = (call.operand("self")?, call.operand("other")?);
    let quotient = call.push(RoundedDiv { floor }, [a.clone(), b.clone()]);
    let whole = call.push(Mul {}, [quotient, b]);
    call.gives(Sub {}, [a, whole])
}

/// `other − α·input`
fn rsub(call: &mut Call<'_>) -> Results {
    let (x, other) = (call.operand("self")?, call.operand("other")?);
    let alpha = call.number("alpha")?.unwrap_or(1.0);
    let negative = call.times(&x, -alpha);
    call.gives(Add {}, [negative, other])
}

/// `a + w (b − a)`
fn lerp(call: &mut Call<'_>) -> Results {
    let (a, b, weight) = (call.operand("self")?, call.operand("end")?, call.operand("weight")?);
    let step = call.push(Sub {}, [b, a.clone()]);
    let step = call.push(Mul {}, [step, weight]);
    call.gives(Add {}, [a, step])
}

/// `x + value·a·b`
fn addcmul(call: &mut Call<'_>) -> Results {
    let (x, a, b) = (call.operand("self")?, call.operand("tensor1")?, call.operand("tensor2")?);
    let value = call.number("value")?.unwrap_or(1.0);
    let product = call.push(Mul {}, [a, b]);
    let product = call.times(&product, value);
    call.gives(Add {}, [x, product])
}

/// `x + value·a/b`
fn addcdiv(call: &mut Call<'_>) -> Results {
    let (x, a, b) = (call.operand("self")?, call.operand("tensor1")?, call.operand("tensor2")?);
    let value = call.number("value")?.unwrap_or(1.0);
    let quotient = call.quotient(&a, b);
    let quotient = call.times(&quotient, value);
    call.gives(Add {}, [x, quotient])
}

fn frac(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    let whole = call.push(Step { function: Steps::Trunc }, [x.clone()]);
    call.gives(Sub {}, [x, whole])
}

/// `x ln y`, 0 where `x` is 0.
fn xlogy(call: &mut Call<'_>) -> Results {
    let (x, y) = (call.operand("self")?, call.operand("other")?);
    let is_zero = call.push(Compare { comparison: Comparison::Eq }, [x.clone(), Operand::Number(0.0)]);
    let y = call.push(Where {}, [is_zero, Operand::Number(1.0), y]);
    let log = call.apply(Function::Log, &y);
    call.gives(Mul {}, [x, log])
}

/// `a + ln(1 + e^(b − a))`
fn logaddexp(call: &mut Call<'_>) -> Results {
    let (a, b) = (call.operand("self")?, call.operand("other")?);
    let difference = call.push(Sub {}, [b, a.clone()]);
    let softplus = call.apply(Function::Softplus, &difference);
    call.gives(Add {}, [a, softplus])
}

fn hypot(call: &mut Call<'_>) -> Results {
    let squares = ["self", "other"].map(|name| {
        let x = call.operand(name)?;
        Ok::<_, String>(call.push(Mul {}, [x.clone(), x]))
    });
    let [a, b] = squares;
    let sum = call.push(Add {}, [a?, b?]);
    Ok(vec![call.apply(Function::Sqrt, &sum)])
}

/// `arctan(y/x)`, and half a turn where `x` is negative.
fn atan2(call: &mut Call<'_>) -> Results {
    let (y, x) = (call.operand("self")?, call.operand("other")?);
    let ratio = call.quotient(&y, x.clone());
    let angle = call.apply(Function::Atan, &ratio);
    let is_behind = call.push(Compare { comparison: Comparison::Lt }, [x, Operand::Number(0.0)]);
    let is_above = call.push(Compare { comparison: Comparison::Ge }, [y, Operand::Number(0.0)]);
    let pi = std::f64::consts::PI;
    let half = call.push(Where {}, [is_above, Operand::Number(pi), Operand::Number(-pi)]);
    let turn = call.push(Where {}, [is_behind, half, Operand::Number(0.0)]);
    call.gives(Add {}, [angle, turn])
}

fn nan_to_num(call: &mut Call<'_>) -> Results {
    let (x, nan) = (call.operand("self")?, call.number("nan")?.unwrap_or(0.0));
    let (max, min) = (call.number("posinf")?.unwrap_or(f64::MAX), call.number("neginf")?.unwrap_or(f64::MIN));
    let is_nan = call.push(Compare { comparison: Comparison::Ne }, [x.clone(), x.clone()]);
    let x = call.push(Where {}, [is_nan, Operand::Number(nan), x]);
    call.gives(super::Clamp { min: Some(min), max: Some(max), closed: true }, [x])
}

fn not_a_number(call: &mut Call<'_>) -> Results {
    let x = call.operand("self")?;
    call.gives(Compare { comparison: Comparison::Ne }, [x.clone(), x])
}

fn infinite(call: &mut Call<'_>, comparison: Comparison) -> Results {
    let x = call.operand("self")?;
    let infinity = |sign: f64| Operand::Number(sign * f64::INFINITY);
    if comparison == Comparison::Eq {
        let sides = [1.0, -1.0].map(|sign| call.push(Compare { comparison }, [x.clone(), infinity(sign)]));
        return call.gives(Logical { connective: Connective::Or }, sides);
    }
    let below = call.push(Compare { comparison: Comparison::Lt }, [x.clone(), infinity(1.0)]);
    let above = call.push(Compare { comparison: Comparison::Gt }, [x, infinity(-1.0)]);
    call.gives(Logical { connective: Connective::And }, [below, above])
}

/// Functions of one number by those that there are.
fn function(call: &mut Call<'_>) -> Results {
    use Function::{Atan, Cos, Erf, Exp, Log, Log1p, Reciprocal, Rsqrt, Sin, Sqrt};
    let x = call.operand("self")?;
    Ok(vec![match call.name {
        "log2" | "log10" => {
            let log = call.apply(Log, &x);
            call.times(&log, 1.0 / if call.name == "log2" { 2f64 } else { 10.0 }.ln())
        }
        "exp2" => {
            let scaled = call.times(&x, std::f64::consts::LN_2);
            call.apply(Exp, &scaled)
        }
        // (eˣ ± e⁻ˣ) / 2
        "sinh" | "cosh" => {
            let rising = call.apply(Exp, &x);
            let falling = call.apply(Reciprocal, &rising);
            let falling = call.times(&falling, if call.name == "sinh" { -1.0 } else { 1.0 });
            let sum = call.push(Add {}, [rising, falling]);
            call.times(&sum, 0.5)
        }
        "tan" => {
            let (sine, cosine) = (call.apply(Sin, &x), call.apply(Cos, &x));
            call.quotient(&sine, cosine)
        }
        // arcsin x = arctan(x / √(1 − x²)), arccos x = π/2 − arcsin x
        "asin" | "arcsin" | "acos" | "arccos" => {
            let left = scaled_square(call, &x, -1.0, 1.0);
            let inverse = call.apply(Rsqrt, &left);
            let tangent = call.push(Mul {}, [x, inverse]);
            let angle = call.apply(Atan, &tangent);
            if call.name.ends_with("sin") {
                angle
            } else {
                let negative = call.times(&angle, -1.0);
                call.plus(&negative, std::f64::consts::FRAC_PI_2)
            }
        }
        // ln(x + √(x² ± 1))
        "asinh" | "acosh" => {
            let square = scaled_square(call, &x, 1.0, if call.name == "asinh" { 1.0 } else { -1.0 });
            let root = call.apply(Sqrt, &square);
            let sum = call.push(Add {}, [x, root]);
            call.apply(Log, &sum)
        }
        // (ln(1 + x) − ln(1 − x)) / 2
        "atanh" => {
            let negative = call.times(&x, -1.0);
            let (above, below) = (call.apply(Log1p, &x), call.apply(Log1p, &negative));
            let difference = call.push(Sub {}, [above, below]);
            call.times(&difference, 0.5)
        }
        "logit" => {
            let x = match call.number("eps")? {
                None => x,
                Some(eps) => call.push(super::Clamp { min: Some(eps), max: Some(1.0 - eps), closed: true }, [x]),
            };
            let negative = call.times(&x, -1.0);
            let (log, rest) = (call.apply(Log, &x), call.apply(Log1p, &negative));
            call.push(Sub {}, [log, rest])
        }
        _ => {
            let erf = call.apply(Erf, &x);
            let negative = call.times(&erf, -1.0);
            call.plus(&negative, 1.0)
        }
    }])
}

/// `a x² + b`
fn scaled_square(call: &mut Call<'_>, x: &Operand, a: f64, b: f64) -> Operand {
    let square = call.push(Mul {}, [x.clone(), x.clone()]);
    let scaled = call.times(&square, a);
    call.plus(&scaled, b)
}
