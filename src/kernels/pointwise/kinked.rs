//! Functions with kinks, in double and in single precision. Each has the derivatives of its pieces, and at a kink PyTorch's.

use super::single::Single;

/// The bounds of a clamp.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The lower one; minus infinity where there is none.
    pub low: f64,
    /// The upper one; infinity where there is none.
    pub high: f64,
    /// Whether the derivative at a bound is 1.
    pub closed: bool,
}

impl Bounds {
    /// The clamp's `f⁽ⁿ⁾(x)`, `n` = `order` ≤ 2. NaN is on no side, and passes.
    pub(super) fn value(self, order: usize, x: f64) -> f64 {
        let Self { low, high, closed } = self;
        let inside = if closed { !(x < low || x > high) } else { !(x <= low || x >= high) };
        match order {
            0 => {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            }
            1 if inside => 1.0,
            _ => 0.0,
        }
    }
}

/// `f⁽ⁿ⁾(x)` of `min(max(x + 3, 0), 6)/6`, `n` = `order` ≤ 2.
pub(super) fn hard_sigmoid(order: usize, x: f64) -> f64 {
    let inside = Bounds { low: -3.0, high: 3.0, closed: false };
    match order {
        0 => (inside.value(0, x) + 3.0) / 6.0,
        _ => inside.value(order, x) / 6.0,
    }
}

/// `f⁽ⁿ⁾(x)` of `x · min(max(x + 3, 0), 6)/6`, `n` = `order` ≤ 2: written as products, which do not cancel where they are 0.
pub(super) fn hard_swish(order: usize, x: f64) -> f64 {
    match order {
        0 => x * hard_sigmoid(0, x),
        1 if x >= 3.0 => 1.0,
        1 => (x + 1.5) * 2.0 * hard_sigmoid(1, x),
        _ => 2.0 * hard_sigmoid(1, x),
    }
}

/// `min(max(x + 3, 0), 6)/6`
#[derive(Clone, Copy)]
pub struct HardSigmoid;
/// `x · min(max(x + 3, 0), 6)/6`
#[derive(Clone, Copy)]
pub struct HardSwish;
/// `min(max(x, low), high)`
#[derive(Clone, Copy)]
pub struct Clamp {
    /// The lower bound.
    pub low: f32,
    /// The upper bound.
    pub high: f32,
    /// Whether the derivative at a bound is 1.
    pub closed: bool,
}

impl Single for HardSigmoid {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        // The bounds are compared with `x` itself, since `x + 3` may round to 6.
        let (below, above) = (x <= -3.0, x >= 3.0);
        let inside = [(x + 3.0) * (1.0 / 6.0), 1.0 / 6.0, 0.0][ORDER];
        let beyond = if ORDER == 0 && above { 1.0 } else { 0.0 };
        if below | above { beyond } else { inside }
    }
}

impl Single for HardSwish {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        if ORDER == 0 {
            return x * HardSigmoid.value::<0>(x);
        }
        // Written as a product, the slope does not cancel where it is 0.
        let (below, above) = (x <= -3.0, x >= 3.0);
        let inside = if ORDER == 1 { (x + 1.5) * (1.0 / 3.0) } else { 1.0 / 3.0 };
        let beyond = if ORDER == 1 && above { 1.0 } else { 0.0 };
        if below | above { beyond } else { inside }
    }
}

impl Single for Clamp {
    #[inline(always)]
    fn value<const ORDER: usize>(self, x: f32) -> f32 {
        let Self { low, high, closed } = self;
        match ORDER {
            // NaN is on no side, and passes.
            0 => {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            }
            1 => {
                let outside = if closed { (x < low) | (x > high) } else { (x <= low) | (x >= high) };
                if outside { 0.0 } else { 1.0 }
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::pointwise::{Pointwise, in_single};

    #[test]
    fn at_a_kink_derivatives_are_pytorch_s() {
        let clamp = |closed| Pointwise::Clamp(Bounds { low: -1.0, high: 2.0, closed });
        for (f, x, expected) in [
            (clamp(true), -1.0, [-1.0, 1.0, 0.0]),
            (clamp(false), -1.0, [-1.0, 0.0, 0.0]),
            (clamp(true), 2.0, [2.0, 1.0, 0.0]),
            (clamp(false), 2.0, [2.0, 0.0, 0.0]),
            (Pointwise::HardSigmoid, -3.0, [0.0, 0.0, 0.0]),
            (Pointwise::HardSigmoid, 3.0, [1.0, 0.0, 0.0]),
            (Pointwise::HardSwish, -3.0, [0.0, 0.0, 0.0]),
            (Pointwise::HardSwish, 3.0, [3.0, 1.0, 0.0]),
        ] {
            for (order, expected) in expected.into_iter().enumerate() {
                assert_eq!(f.value(order, x), expected, "{f:?} order {order} at {x}");
                let mut single = [0.0];
                in_single(f, order, &[x as f32], &mut single);
                assert_eq!(single, [expected as f32], "{f:?} order {order} at {x} in single precision");
            }
            assert!(f.value(0, f64::NAN).is_nan());
        }
    }
}
