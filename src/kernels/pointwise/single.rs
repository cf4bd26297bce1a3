//! Single-precision forms of the pointwise functions that networks spend time in: without branches, so that loops over them
//! become vector code, and without fused multiply-add, so that they give the same bits on every instruction set.
//!
//! Polynomials are fits to the functions; the tests compare with the forms in double precision over the whole range.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::GELU_CUBIC;

/// A function whose forms are below: `f⁽ⁿ⁾(x)`, `n` = `ORDER` ≤ 2.
pub trait Single: Copy {
    /// `f⁽ⁿ⁾(x)`
    fn value<const ORDER: usize>(self, x: f32) -> f32;
}

/// Calls `$run` with the form of a function that has one here, else takes `$otherwise`.
macro_rules! with_single {
    ($f:expr, $form:ident => $run:expr, else $otherwise:expr) => {
        match $f {
            Pointwise::Exp => {
                let $form = single::Exp;
                $run
            }
            Pointwise::Tanh => {
                let $form = single::Tanh;
                $run
            }
            Pointwise::Sigmoid => {
                let $form = single::Sigmoid;
                $run
            }
            Pointwise::Softplus => {
                let $form = single::Softplus;
                $run
            }
            Pointwise::Silu => {
                let $form = single::Silu;
                $run
            }
            Pointwise::GeluErf => {
                let $form = single::GeluErf;
                $run
            }
            Pointwise::GeluTanh => {
                let $form = single::GeluTanh;
                $run
            }
            Pointwise::Erf => {
                let $form = single::Erf;
                $run
            }
            Pointwise::Reciprocal => {
                let $form = single::Reciprocal;
                $run
            }
            Pointwise::Rsqrt => {
                let $form = single::Rsqrt;
                $run
            }
            Pointwise::Sqrt => {
                let $form = single::Sqrt;
                $run
            }
            Pointwise::HardSigmoid => {
                let $form = kinked::HardSigmoid;
                $run
            }
            Pointwise::HardSwish => {
                let $form = kinked::HardSwish;
                $run
            }
            Pointwise::Clamp(bounds) => {
                let $form = kinked::Clamp { low: bounds.low as f32, high: bounds.high as f32, closed: bounds.closed };
                $run
            }
            _ => $otherwise,
        }
    };
}
pub(super) use with_single;

/// `c₀ + c₁ x + …`
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients.iter().rev().fold(0.0, |sum, &c| sum * x + c)
}

/// `eˣ`, with subnormal and infinite results where they are due; NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    // Beyond, results are 0 and infinity in any case. Comparisons keep NaN, which `max` and `min` would lose.
    let x = if x < -105.0 { -105.0 } else { x };
    let x = if x > 90.0 { 90.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    // ln 2 in two parts, the first of so few digits that its multiples are exact.
    let r = (x - whole * 0.693_359_4) - whole * -2.121_944_4e-4;
    let tail = polynomial(r, [0.5, 0.166_665_76, 0.041_666_854, 0.008_363_2, 0.001_390_130_6]);
    let mantissa = 1.0 + (r + r * r * tail);
    // 2ⁿ in two factors: n runs from −151 to 130.
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    mantissa * power(half) * power(n.wrapping_sub(half))
}

/// `tanh x` from `decay` = `e^(−2|x|)`.
#[inline(always)]
fn tanh_from(x: f32, decay: f32) -> f32 {
    let square = x * x;
    let tail = [-0.333_333_28, 0.133_325_85, -0.053_823_873, 0.020_873_86, -0.005_924_173];
    let near = x + x * square * polynomial(square, tail);
    let far = ((1.0 - decay) / (1.0 + decay)).copysign(x);
    if x.abs() < 0.625 { near } else { far }
}

/// `tanh x` and its derivatives, without the cancellation of `1 − tanh²`.
#[inline(always)]
fn tanh(x: f32) -> [f32; 3] {
    let decay = exp(-2.0 * x.abs());
    let t = tanh_from(x, decay);
    let inverse = 1.0 / (1.0 + decay);
    let slope = 4.0 * decay * inverse * inverse;
    [t, slope, -2.0 * t * slope]
}

/// `1/(1 + e⁻ˣ)` and its derivatives.
#[inline(always)]
fn sigmoid(x: f32) -> [f32; 3] {
    let decay = exp(-x.abs());
    let high = 1.0 / (1.0 + decay);
    let s = if x >= 0.0 { high } else { decay * high };
    let slope = decay * high * high;
    [s, slope, -slope * tanh_from(0.5 * x, decay)]
}

/// `e^(−factor a²)` without the rounding of a², which the exponential would magnify: the upper half of `a` has an exact square.
#[inline(always)]
fn exp_of_square(factor: f32, a: f32) -> f32 {
    let high = f32::from_bits(a.to_bits() & 0xffff_f000);
    exp(-factor * (high * high)) * exp(-factor * ((a - high) * (a + high)))
}

/// The standard normal distribution function and its density.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    // Mills' ratio, Φ(−a) over the density, times 1 + a: smooth in (a − 4)/(a + 4). Beyond 15 the density is 0.
    const RATIO: [f32; 11] = [
        1.183_261_9,
        -0.242_399_65,
        0.035_091_795,
        0.071_689_494,
        -0.080_706_78,
        0.044_969_48,
        -0.012_543_032,
        -7.606_115e-4,
        1.735_122e-3,
        -1.542_693_2e-4,
        -1.804_343_5e-4,
    ];
    let a = x.abs();
    let a = if a > 15.0 { 15.0 } else { a };
    let density = 0.398_942_3 * exp_of_square(0.5, a);
    let below = density * (polynomial((a - 4.0) / (a + 4.0), RATIO) / (1.0 + a));
    (if x > 0.0 { 1.0 - below } else { below }, density)
}

/// `eˣ`
#[derive(Clone, Copy)]
pub struct Exp;
/// `tanh x`
#[derive(Clone, Copy)]
pub struct Tanh;
/// `1/(1 + e⁻ˣ)`
#[derive(Clone, Copy)]
pub struct Sigmoid;
/// `ln(1 + eˣ)`
#[derive(Clone, Copy)]
pub struct Softplus;
/// `x · sigmoid(x)`
#[derive(Clone, Copy)]
pub struct Silu;
/// `x Φ(x)`
#[derive(Clone, Copy)]
pub struct GeluErf;
/// GELU by tanh
#[derive(Clone, Copy)]
pub struct GeluTanh;
/// The error function
#[derive(Clone, Copy)]
pub struct Erf;
/// `1/x`
#[derive(Clone, Copy)]
pub struct Reciprocal;
/// `1/√x`
#[derive(Clone, Copy)]
pub struct Rsqrt;
/// `√x`
#[derive(Clone, Copy)]
pub struct Sqrt;

impl Single for Exp {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        exp(x)
    }
}

impl Single for Tanh {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        tanh(x)[ORDER]
    }
}

impl Single for Sigmoid {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        sigmoid(x)[ORDER]
    }
}

impl Single for Softplus {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        if ORDER > 0 {
            return sigmoid(x)[ORDER - 1];
        }
        // ln(1 + e) = 2 artanh(e / (2 + e)), e = e^(−|x|).
        let decay = exp(-x.abs());
        let s = decay / (2.0 + decay);
        let square = s * s;
        let tail = [0.333_333_34, 0.199_998_51, 0.142_962_59, 0.108_520_82, 0.116_177_82];
        let log = 2.0 * (s + s * square * polynomial(square, tail));
        if x > 0.0 { x + log } else { log }
    }
}

impl Single for Silu {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        let [s, s1, s2] = sigmoid(x);
        [x * s, s + x * s1, 2.0 * s1 + x * s2][ORDER]
    }
}

impl Single for GeluErf {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        let (cumulative, density) = normal(x);
        [x * cumulative, cumulative + x * density, density * (2.0 - x * x)][ORDER]
    }
}

impl Single for GeluTanh {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        // (1 + tanh u)/2 = sigmoid(2u), without cancellation. Far out, the sigmoid is 0 or 1 to the last digit.
        const CUBIC: f32 = GELU_CUBIC as f32;
        const SCALE: f32 = 2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2; // 2 √(2/π)
        let near = if x > 40.0 { 40.0 } else { x };
        let near = if near < -40.0 { -40.0 } else { near };
        let square = near * near;
        let [s, s1, s2] = sigmoid(near * (SCALE + (SCALE * CUBIC) * square));
        let (slope, bend) = (SCALE + (3.0 * SCALE * CUBIC) * square, (6.0 * SCALE * CUBIC) * near);
        match ORDER {
            0 => x * s,
            1 => s + near * (s1 * slope),
            _ => 2.0 * s1 * slope + near * (s2 * slope * slope + s1 * bend),
        }
    }
}

impl Single for Erf {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        if ORDER > 0 {
            let a = x.abs();
            let a = if a > 11.0 { 11.0 } else { a };
            let slope = FRAC_2_SQRT_PI * exp_of_square(1.0, a);
            return if ORDER == 1 { slope } else { -2.0 * x * slope };
        }
        const NEAR: [f32; 6] =
            [FRAC_2_SQRT_PI, -0.376_126_02, 0.112_831_13, -0.026_820_818, 0.005_085_148_4, -6.535_337e-4];
        let near = x * polynomial(x * x, NEAR);
        let far = (1.0 - 2.0 * normal(-std::f32::consts::SQRT_2 * x.abs()).0).copysign(x);
        if x.abs() < 0.75 { near } else { far }
    }
}

impl Single for Reciprocal {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        let r = 1.0 / x;
        [r, -r * r, 2.0 * r * r * r][ORDER]
    }
}

impl Single for Rsqrt {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        let r = 1.0 / x.sqrt();
        [r, -0.5 * r / x, 0.75 * r / (x * x)][ORDER]
    }
}

impl Single for Sqrt {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        let root = x.sqrt();
        [root, 0.5 / root, -0.25 / root / x][ORDER]
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::{ALL, Pointwise, is_half};
    use super::*;
    use crate::kernels::Element;

    /// Errors in units of the last place, at most.
    const MOST_ULP: f64 = 5.0;

    /// Numbers over the whole range: dense where the functions bend, and all magnitudes.
    fn samples() -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut samples = vec![0.0, f32::MIN_POSITIVE, 1e-30];
        for _ in 0..200_000 {
            samples.push(rng.random_range(-18.0..18.0));
            samples.push(10f32.powf(rng.random_range(-30.0..2.3)) * if rng.random() { 1.0 } else { -1.0 });
        }
        samples
    }

    /// What `f⁽ⁿ⁾` is as large as, or the largest term of the sum that makes it, which may cancel.
    fn magnitude(f: Pointwise, order: usize, x: f64) -> f64 {
        let value = f.value(order, x).abs();
        match (f, order) {
            (Pointwise::Silu, 1) => value.max(Pointwise::Sigmoid.value(0, x)),
            (Pointwise::Silu, 2) => value.max(2.0 * Pointwise::Sigmoid.value(1, x)),
            (Pointwise::GeluErf, 1) => value.max(f.value(0, x).abs() / x.abs().max(1e-300)),
            (Pointwise::GeluErf, 2) => value.max(2.0 * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()),
            // Its argument is a cubic of three roundings, which the exponential magnifies: 1.5 |u| units of the last place.
            (Pointwise::GeluTanh, _) => {
                let inner = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + GELU_CUBIC * x * x * x);
                let terms =
                    [f.value(0, x).abs() / x.abs().max(1e-300), Pointwise::Sigmoid.value(1, inner) * (1.0 + x * x)];
                (1.0 + 0.3 * inner.abs()) * terms[..order].iter().fold(value, |largest, &term| largest.max(term))
            }
            _ => value,
        }
    }

    #[test]
    fn forms_are_within_a_few_ulp_of_double_precision() {
        let xs = samples();
        for f in ALL {
            for order in 0..3 {
                let xs: Vec<f32> = xs.iter().copied().filter(|&x| !is_half(f) || x > 0.0).collect();
                let mut out = vec![0.0f32; xs.len()];
                f32::pointwise(f, order, &xs, &mut out);
                for (&x, &got) in xs.iter().zip(&out) {
                    let (exact, scale) = (f.value(order, x.into()), magnitude(f, order, x.into()));
                    if !(exact as f32).is_finite() || !(scale as f32).is_finite() {
                        continue; // beyond the range of single precision
                    }
                    let error = (f64::from(got) - exact).abs();
                    // Below the normal numbers, steps are absolute; factors up to x⁵ magnify them.
                    let step = f64::from(f32::from_bits(1)) * (1.0 + f64::from(x * x)).powi(3);
                    let allowed = MOST_ULP * (f64::from(f32::EPSILON) * scale + step);
                    assert!(error <= allowed, "{f:?}, order {order} at {x:e}: {got:e} instead of {exact:e}");
                }
            }
        }
    }
}
