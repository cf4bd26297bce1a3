//! From numbers to places along an axis, and the ticks that say so.

use super::number::{fixed, power_of_ten, significant};

/// How an axis maps numbers to 0..=1; `from < to` always.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Evenly.
    Linear {
        /// Number at the start.
        from: f64,
        /// Number at the end.
        to: f64,
    },
    /// Evenly, with ticks at whole numbers only: ranks, epochs.
    Counts {
        /// Number at the start.
        from: f64,
        /// Number at the end.
        to: f64,
    },
    /// By the logarithm; both ends positive.
    Log {
        /// Number at the start.
        from: f64,
        /// Number at the end.
        to: f64,
    },
    /// By `sign(v)·log10(1 + |v|/threshold)`.
    SignedLog {
        /// Number at the start.
        from: f64,
        /// Number at the end.
        to: f64,
        /// Below it the axis is nearly linear.
        threshold: f64,
    },
}

/// Marks of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Ticks {
    /// Places with a label.
    pub major: Vec<(f64, String)>,
    /// Places without.
    pub minor: Vec<f64>,
    /// Labels are to be multiplied by ten to this power.
    pub exponent: i32,
}

/// Beyond it, differences of two numbers overflow.
const HUGE: f64 = 1e300;
/// Below it, steps between ticks lose their digits.
const TINY: f64 = 1e-290;

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|v| v.abs() < HUGE).fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((from, to)) => Some((from.min(v), to.max(v))),
    })
}

impl Scale {
    /// Holds all finite `values` with some air; 0..=1 where there are none.
    pub fn linear(values: impl Iterator<Item = f64>) -> Self {
        let (from, to) = range(values).unwrap_or((0.0, 1.0));
        let size = from.abs().max(to.abs());
        // A span of rounding errors is not a span.
        let air = if to - from > (1e-12 * size).max(TINY) { 0.05 * (to - from) } else { (0.1 * size).max(TINY * 1e10) };
        let air = if size < TINY { 1.0 } else { air };
        Self::Linear { from: from - air, to: to + air }
    }

    /// Exactly `from..=to`.
    pub fn exactly(from: f64, to: f64) -> Self {
        if to - from > (1e-12 * from.abs().max(to.abs())).max(TINY) && (to - from).is_finite() {
            Self::Linear { from, to }
        } else {
            Self::linear([from, to].into_iter())
        }
    }

    /// Holds all positive finite `values` with some air; one decade where there are none.
    pub fn log(values: impl Iterator<Item = f64>) -> Self {
        let (from, to) = range(values.filter(|v| *v > TINY)).unwrap_or((0.1, 1.0));
        let air = (to / from).powf(0.05).max(if to / from < 1.0 + 1e-9 { 2.0 } else { 1.0 });
        Self::Log { from: from / air, to: to * air }
    }

    /// Linear, or logarithmic where all finite values are positive and span more than `ratio`.
    pub fn linear_or_log(values: &[f64], ratio: f64) -> Self {
        match range(values.iter().copied()) {
            Some((from, to)) if from > TINY && to / from > ratio => Self::log(values.iter().copied()),
            _ => Self::linear(values.iter().copied()),
        }
    }

    /// Signed logarithm that holds all finite `values`; linear where the threshold is not positive.
    pub fn signed_log(values: &[f64], threshold: f64) -> Self {
        match (range(values.iter().copied()), threshold > TINY && threshold < HUGE) {
            (Some((from, to)), true) if to - from > 1e-9 * from.abs().max(to.abs()) => {
                Self::SignedLog { from, to, threshold }
            }
            _ => Self::linear(values.iter().copied()),
        }
    }

    /// First and last number.
    pub fn ends(self) -> (f64, f64) {
        match self {
            Self::Linear { from, to }
            | Self::Counts { from, to }
            | Self::Log { from, to }
            | Self::SignedLog { from, to, .. } => (from, to),
        }
    }

    fn forward(self, value: f64) -> f64 {
        match self {
            Self::Linear { .. } | Self::Counts { .. } => value,
            Self::Log { .. } => value.log10(),
            Self::SignedLog { threshold, .. } => value.signum() * (value.abs() / threshold).ln_1p(),
        }
    }

    /// Place of `value`: 0 at the start, 1 at the end; not clamped, not finite where the value has no place.
    pub fn position(self, value: f64) -> f64 {
        let (from, to) = self.ends();
        (self.forward(value) - self.forward(from)) / (self.forward(to) - self.forward(from))
    }

    /// At most about `most` labelled ticks.
    pub fn ticks(self, most: usize) -> Ticks {
        let most = most.max(2);
        let ticks = match self {
            Self::Linear { from, to } => linear_ticks(from, to, most, 0.0),
            Self::Counts { from, to } => linear_ticks(from, to, most, 1.0),
            Self::Log { from, to } => log_ticks(from, to, most),
            Self::SignedLog { from, to, threshold } => signed_log_ticks(from, to, threshold, most),
        };
        let inside = |value: f64| (-1e-9..=1.0 + 1e-9).contains(&self.position(value));
        let Ticks { major, minor, exponent } = ticks;
        Ticks {
            major: major.into_iter().filter(|(value, _)| inside(*value)).collect(),
            minor: minor.into_iter().filter(|value| inside(*value)).collect(),
            exponent,
        }
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is `raw` or more, with that power.
fn nice_step(raw: f64) -> (f64, i32) {
    let exponent = (raw.log10() + 1e-9).floor();
    let unit = 10f64.powf(exponent);
    let (factor, carry) = match raw / unit {
        r if r <= 1.0 + 1e-9 => (1.0, 0),
        r if r <= 2.0 + 1e-9 => (2.0, 0),
        r if r <= 5.0 + 1e-9 => (5.0, 0),
        _ => (1.0, 1),
    };
    (factor * 10f64.powi(exponent as i32 + carry), exponent as i32 + carry)
}

fn linear_ticks(from: f64, to: f64, most: usize, least_step: f64) -> Ticks {
    let (step, power) = nice_step(((to - from) / most as f64).max(least_step));
    let size = from.abs().max(to.abs());
    let exponent = if (1e-3..1e4).contains(&size) { 0 } else { size.log10().floor() as i32 };
    let decimals = (exponent - power).max(0) as usize;
    let unit = 10f64.powi(exponent);
    let first = (from / step).ceil();
    let major = (0..=most + 1).map(|i| (first + i as f64) * step).map(|v| (v, fixed(v / unit, decimals)));
    Ticks { major: major.collect(), minor: Vec::new(), exponent }
}

fn log_ticks(from: f64, to: f64, most: usize) -> Ticks {
    let (low, high) = (from.log10().floor() as i32, to.log10().ceil() as i32);
    let inside = |value: f64| value >= from * (1.0 - 1e-9) && value <= to * (1.0 + 1e-9);
    let plain = from > 5e-3 && to < 5e3;
    let label = |value: f64, exponent: i32| if plain { significant(value, 1) } else { power_of_ten(exponent) };
    let within = |factor: f64| (low..=high).map(move |k| (factor * 10f64.powi(k), k)).filter(move |(v, _)| inside(*v));
    let decades: Vec<(f64, i32)> = within(1.0).collect();
    let minor = || (2..10).flat_map(|factor| within(f64::from(factor))).map(|(v, _)| v).collect();
    if decades.len() >= 2 {
        let stride = decades.len().div_ceil(most) as i32;
        let (kept, rest): (Vec<_>, Vec<_>) = decades.into_iter().partition(|(_, k)| k.rem_euclid(stride) == 0);
        let major = kept.into_iter().map(|(v, k)| (v, label(v, k))).collect();
        let minor = if stride == 1 { minor() } else { rest.into_iter().map(|(v, _)| v).collect() };
        return Ticks { major, minor, exponent: 0 };
    }
    let mut few: Vec<f64> = [1.0, 2.0, 5.0].into_iter().flat_map(within).map(|(v, _)| v).collect();
    few.sort_by(f64::total_cmp);
    if few.len() < 2 {
        return linear_ticks(from, to, most, 0.0);
    }
    let major = few.into_iter().map(|v| (v, significant(v, 1))).collect();
    Ticks { major, minor: minor(), exponent: 0 }
}

fn signed_log_ticks(from: f64, to: f64, threshold: f64, most: usize) -> Ticks {
    let lowest = (threshold.log10() - 1e-9).ceil() as i32;
    let highest = from.abs().max(to.abs()).log10().floor() as i32;
    let sides = usize::from(from < 0.0) + usize::from(to > 0.0);
    // The widest stride still shows two powers on the longer side.
    let per_side = most.div_ceil(sides.max(1)).max(2);
    let count = (highest - lowest + 1).max(1) as usize;
    let stride = count.div_ceil(per_side).max(1);
    let mut ticks = Ticks { major: Vec::new(), minor: Vec::new(), exponent: 0 };
    let scale = Scale::SignedLog { from, to, threshold };
    // Next to zero there is room for one number only: its own.
    let crowded = |value: f64| (scale.position(value) - scale.position(0.0)).abs() < 0.08;
    for exponent in lowest..=highest {
        let value = 10f64.powi(exponent);
        // Counted from the largest: the outliers are what one looks for.
        if ((highest - exponent) as usize).is_multiple_of(stride) && !crowded(value) {
            ticks.major.push((value, power_of_ten(exponent)));
            ticks.major.push((-value, format!("−{}", power_of_ten(exponent))));
        } else {
            ticks.minor.extend([value, -value]);
        }
    }
    ticks.major.push((0.0, "0".into()));
    ticks.major.sort_by(|a, b| a.0.total_cmp(&b.0));
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, most: usize) -> Vec<String> {
        scale.ticks(most).major.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(Scale::exactly(-10.0, 2100.0), 5), ["0", "500", "1000", "1500", "2000"]);
        assert_eq!(labels(Scale::Counts { from: 0.4, to: 3.6 }, 8), ["1", "2", "3"]);
        assert_eq!(labels(Scale::exactly(-0.11, 0.11), 5), ["−0.10", "−0.05", "0.00", "0.05", "0.10"]);
        let small = Scale::exactly(0.0, 3.2e-7).ticks(4);
        assert_eq!((small.exponent, small.major[1].1.as_str()), (-7, "1"));
        assert_eq!(labels(Scale::log([2e-9, 3.0].into_iter()), 5), ["10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "10⁰"]);
        assert_eq!(labels(Scale::log([0.2, 30.0].into_iter()), 5), ["1", "10"]);
        assert_eq!(labels(Scale::log([110.0, 800.0].into_iter()), 5), ["100", "200", "500"]);
        assert_eq!(labels(Scale::Log { from: 30.0, to: 280.0 }, 5), ["50", "100", "200"]);
        let signed = Scale::signed_log(&[-40.0, 2100.0], 1e-3);
        assert_eq!(labels(signed, 7), ["−10¹", "−10⁻¹", "0", "10⁻¹", "10¹", "10³"]);
    }

    #[test]
    fn every_scale_has_two_ends_and_some_ticks_whatever_the_numbers() {
        let awkward: [&[f64]; 9] = [
            &[],
            &[0.0],
            &[f64::NAN, f64::INFINITY],
            &[5.0, 5.0],
            &[-3e-9, -3e-9],
            &[1e299, -1e299],
            &[1e308, 1.0],
            &[5e-324],
            &[2.3, 2.3 + 1e-15],
        ];
        for values in awkward {
            for scale in [
                Scale::linear(values.iter().copied()),
                Scale::log(values.iter().copied()),
                Scale::linear_or_log(values, 100.0),
                Scale::signed_log(values, 1e-3),
                Scale::signed_log(values, f64::NAN),
            ] {
                let (from, to) = scale.ends();
                assert!(from < to, "{values:?} {scale:?}");
                assert!(scale.position(from).abs() < 1e-9 && (scale.position(to) - 1.0).abs() < 1e-9, "{scale:?}");
                let count = scale.ticks(5).major.len();
                assert!((1..=20).contains(&count), "{values:?} {scale:?} {count}");
            }
        }
    }
}
