//! The pointwise family: scalar functions with their first two derivatives.

mod duals;
mod kinked;
pub(super) mod single;

pub use kinked::Bounds;
use single::{Single, with_single};

use super::element::Element;
use super::simd::{Isa, Simd, SimdTask};

/// A scalar function applied to each element. Those with kinks have the derivatives of the pieces, as PyTorch has them at the
/// kinks too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pointwise {
    /// `eˣ`
    Exp,
    /// `ln x`
    Log,
    /// `1/x`
    Reciprocal,
    /// `x^(−1/2)`
    Rsqrt,
    /// `tanh x`
    Tanh,
    /// `1/(1 + e⁻ˣ)`
    Sigmoid,
    /// `ln(1 + eˣ)`
    Softplus,
    /// `x · sigmoid(x)`
    Silu,
    /// `x Φ(x)`, `Φ` the normal distribution function.
    GeluErf,
    /// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`
    GeluTanh,
    /// `√x`
    Sqrt,
    /// `sin x`
    Sin,
    /// `cos x`
    Cos,
    /// `ln(1 + x)`
    Log1p,
    /// `eˣ − 1`
    Expm1,
    /// `2/√π ∫₀ˣ e^(−t²) dt`
    Erf,
    /// `arctan x`
    Atan,
    /// `x^p`, `p` its field.
    Power(f64),
    /// `min(max(x + 3, 0), 6)/6`; derivative 0 at the kinks.
    HardSigmoid,
    /// `x · min(max(x + 3, 0), 6)/6`; that of the hard sigmoid taken as 0 at the kinks.
    HardSwish,
    /// `min(max(x, low), high)`
    Clamp(Bounds),
}

impl Pointwise {
    /// `f⁽ⁿ⁾(x)`, `n` = `order` ≤ 2.
    pub fn value(&self, order: usize, x: f64) -> f64 {
        match self {
            Self::Exp => x.exp(),
            Self::Log => [x.ln(), 1.0 / x, -1.0 / (x * x)][order],
            Self::Reciprocal => [1.0 / x, -1.0 / (x * x), 2.0 / (x * x * x)][order],
            Self::Rsqrt => {
                let r = 1.0 / x.sqrt();
                [r, -0.5 * r / x, 0.75 * r / (x * x)][order]
            }
            Self::Tanh => tanh(x)[order],
            Self::Sigmoid => sigmoid(x)[order],
            Self::Softplus => match order {
                0 => x.max(0.0) + (-x.abs()).exp().ln_1p(),
                _ => sigmoid(x)[order - 1],
            },
            Self::Silu => {
                let [s, s1, s2] = sigmoid(x);
                [x * s, s + x * s1, 2.0 * s1 + x * s2][order]
            }
            Self::Sqrt => {
                let root = x.sqrt();
                [root, 0.5 / root, -0.25 / (root * x)][order]
            }
            Self::Sin => [x.sin(), x.cos(), -x.sin()][order],
            Self::Cos => [x.cos(), -x.sin(), -x.cos()][order],
            Self::Log1p => [x.ln_1p(), 1.0 / (1.0 + x), -1.0 / ((1.0 + x) * (1.0 + x))][order],
            Self::Expm1 => [x.exp_m1(), x.exp(), x.exp()][order],
            Self::Erf => {
                let slope = std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp();
                [libm::erf(x), slope, -2.0 * x * slope][order]
            }
            Self::Atan => {
                let slope = 1.0 / (1.0 + x * x);
                [x.atan(), slope, -2.0 * x * slope * slope][order]
            }
            Self::Power(p) => match order {
                0 => x.powf(*p),
                1 => p * x.powf(p - 1.0),
                // 0 and not infinity at 0 where the exponent is 1.
                _ => {
                    let factor = p * (p - 1.0);
                    if factor == 0.0 { 0.0 } else { factor * x.powf(p - 2.0) }
                }
            },
            Self::HardSigmoid => kinked::hard_sigmoid(order, x),
            Self::HardSwish => kinked::hard_swish(order, x),
            Self::Clamp(bounds) => bounds.value(order, x),
            Self::GeluErf => {
                let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let cumulative = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
                [x * cumulative, cumulative + x * density, density * (2.0 - x * x)][order]
            }
            Self::GeluTanh => {
                // (1 + tanh u)/2 = sigmoid(2u), without cancellation.
                let scale = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
                let [s, s1, s2] = sigmoid(scale * (x + GELU_CUBIC * x * x * x));
                let slope = scale * (1.0 + 3.0 * GELU_CUBIC * x * x);
                let bend = scale * 6.0 * GELU_CUBIC * x;
                [x * s, s + x * s1 * slope, 2.0 * s1 * slope + x * (s2 * slope * slope + s1 * bend)][order]
            }
        }
    }
}

/// `f⁽ⁿ⁾` of numbers in single precision, in forms of their own where networks spend time in a function.
pub(super) fn in_single(f: Pointwise, order: usize, x: &[f32], out: &mut [f32]) {
    with_single!(f, form => match order {
        0 => f32::dispatch(Isa::best(), Loop::<_, 0> { x, out, form }),
        1 => f32::dispatch(Isa::best(), Loop::<_, 1> { x, out, form }),
        _ => f32::dispatch(Isa::best(), Loop::<_, 2> { x, out, form }),
    }, else x.iter().zip(out).for_each(|(&x, out)| *out = f.value(order, x.into()) as f32));
}

/// One function over a slice.
struct Loop<'a, F, const ORDER: usize> {
    x: &'a [f32],
    out: &'a mut [f32],
    form: F,
}

impl<F: Single, const ORDER: usize> SimdTask<f32> for Loop<'_, F, ORDER> {
    type Output = ();

    /// A plain loop: compiled for the instruction set, it becomes its vectors.
    #[inline(always)]
    fn run<S: Simd<Scalar = f32>>(self) {
        self.out.iter_mut().zip(self.x).for_each(|(out, &x)| *out = self.form.value::<ORDER>(x));
    }
}

/// The cubic coefficient of the tanh form of GELU (Hendrycks and Gimpel 2016).
pub(super) const GELU_CUBIC: f64 = 0.044715;

/// Value and two derivatives, without the cancellation of `1 − tanh²`.
fn tanh(x: f64) -> [f64; 3] {
    let t = x.tanh();
    let decay = (-2.0 * x.abs()).exp();
    let slope = 4.0 * decay / ((1.0 + decay) * (1.0 + decay));
    [t, slope, -2.0 * t * slope]
}

/// Value and two derivatives, without overflow or cancellation.
fn sigmoid(x: f64) -> [f64; 3] {
    let decay = (-x.abs()).exp();
    let high = 1.0 / (1.0 + decay);
    let s = if x >= 0.0 { high } else { decay * high };
    let slope = decay * high * high;
    // 1 − 2s = −tanh(x/2)
    [s, slope, -slope * (0.5 * x).tanh()]
}

#[cfg(test)]
const ALL: [Pointwise; 23] = [
    Pointwise::Exp,
    Pointwise::Log,
    Pointwise::Reciprocal,
    Pointwise::Rsqrt,
    Pointwise::Tanh,
    Pointwise::Sigmoid,
    Pointwise::Softplus,
    Pointwise::Silu,
    Pointwise::GeluErf,
    Pointwise::GeluTanh,
    Pointwise::Sqrt,
    Pointwise::Sin,
    Pointwise::Cos,
    Pointwise::Log1p,
    Pointwise::Expm1,
    Pointwise::Erf,
    Pointwise::Atan,
    Pointwise::Power(2.5),
    Pointwise::Power(-0.3),
    Pointwise::HardSigmoid,
    Pointwise::HardSwish,
    Pointwise::Clamp(Bounds { low: -0.5, high: 1.5, closed: true }),
    Pointwise::Clamp(Bounds { low: f64::NEG_INFINITY, high: 0.5, closed: false }),
];

/// Whether it is defined for positive numbers alone.
#[cfg(test)]
fn is_half(f: Pointwise) -> bool {
    matches!(f, Pointwise::Log | Pointwise::Rsqrt | Pointwise::Sqrt | Pointwise::Log1p | Pointwise::Power(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_match_central_differences() {
        for f in ALL {
            for x in [0.3, 0.9, 1.7, 3.2] {
                for x in if is_half(f) { vec![x] } else { vec![x, -x] } {
                    for order in 1..=2 {
                        let h = 1e-5;
                        let difference = (f.value(order - 1, x + h) - f.value(order - 1, x - h)) / (2.0 * h);
                        let exact = f.value(order, x);
                        // Truncation h² f‴/6 and rounding ε/h are both below 1e-9 relative to max(1, |f⁽ⁿ⁾|)·50.
                        assert!(
                            (difference - exact).abs() <= 5e-8 * exact.abs().max(1.0),
                            "{f:?} order {order} at {x}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn far_tails_stay_finite() {
        for f in [
            Pointwise::Tanh,
            Pointwise::Sigmoid,
            Pointwise::Softplus,
            Pointwise::Silu,
            Pointwise::GeluErf,
            Pointwise::GeluTanh,
        ] {
            for x in [-800.0, 800.0] {
                (0..=2).for_each(|order| assert!(f.value(order, x).is_finite(), "{f:?} order {order} at {x}"));
            }
        }
    }
}
