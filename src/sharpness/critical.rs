//! The longest step along an update that still lowers the loss.

use candle_core::DType;

use super::average::Rise;
use super::point::Point;
use crate::statistics::Ratio;
use crate::{Observer, Result};

/// `λ_c = 2/η_c`, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Critical {
    /// NaN where there is a reason.
    pub(super) sharpness: Rise,
    /// Whether the error of the computation is below 1 %.
    pub(super) converged: bool,
    /// Why it is not known, or only bounded; empty where it is.
    pub(super) reason: String,
}

/// An update `θ ← θ − η Δ`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update<'a> {
    /// `Δ`, `[n]`.
    pub(super) direction: &'a [f64],
    /// `gᵀΔ`, how fast the loss falls along it.
    pub(super) slope: f64,
}

/// The first step, in epsilons of the dtype and relative to the step in which the loss would fall to 0 if it fell on as it
/// begins: the fall is just about what rounding hides.
const FIRST: f64 = 4.0;
/// The last step, relative to the same.
const LAST: f64 = 1e6;
/// Steps in a row after which the loss must have fallen as the slope says, to half of it, before a rise counts: it might be
/// rounding else.
const SEEN: usize = 3;
/// Width of the last bracket, relative to the step.
const TOLERANCE: f64 = 1e-3;
/// How far beside the step its slope is measured, relative to it.
const BESIDE: f64 = 1.0 / 16.0;

/// Critical sharpness (Kalra et al. 2026, arXiv 2601.16979): `η_c` is the smallest `η > 0` with `L(θ − ηΔ) > L(θ)`. On a
/// quadratic `η_c = 2 gᵀΔ/(ΔᵀHΔ)`: along the gradient, `λ_c` is the mean of the eigenvalues weighted by the gradient.
///
/// Steps double until the loss has risen, then the bracket is halved. A pair of crossings between two steps stays unseen.
/// The error over the rows is that of the crossing of their mean, with the direction fixed. Cost: about 40 passes over the
/// rows in f32, 70 in f64.
///
/// # Errors
/// A loss at `θ` that is not finite; an interruption.
pub(super) fn critical(point: &mut Point<'_>, update: Update<'_>, observer: &mut dyn Observer) -> Result<Critical> {
    let mut line = Line { base: 0.0, update, point, observer };
    line.base = line.loss(0.0)?;
    if update.slope.is_nan() || update.slope <= 0.0 {
        return Ok(Critical::unknown("the loss does not fall along the update: the gradient is 0".into()));
    }
    match line.bracket()? {
        Ok(bracket) => line.bisect(bracket),
        Err(reason) => Ok(Critical::unknown(reason)),
    }
}

impl Critical {
    fn unknown(reason: String) -> Self {
        let nan = f64::NAN;
        Self { sharpness: Rise { value: nan, std_err_numeric: nan, std_err_data: nan }, converged: false, reason }
    }
}

/// The loss along an update.
struct Line<'a, 'b> {
    point: &'a mut Point<'b>,
    update: Update<'a>,
    /// The loss at its beginning.
    base: f64,
    observer: &'a mut dyn Observer,
}

impl Line<'_, '_> {
    /// Of the numbers in which the losses are computed.
    fn epsilon(&self) -> f64 {
        if self.point.objective.options().dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) }
    }

    fn moved(&self, step: f64) -> Vec<f64> {
        self.update.direction.iter().map(|direction| -step * direction).collect()
    }

    fn loss(&mut self, step: f64) -> Result<f64> {
        self.point.loss(&self.moved(step), self.observer)
    }

    fn rise(&mut self, step: f64) -> Result<f64> {
        Ok(self.loss(step)? - self.base)
    }

    /// Two steps, the second twice the first, between which the loss comes back to where it was; or why there are none.
    fn bracket(&mut self) -> Result<std::result::Result<[f64; 2], String>> {
        let whole = self.base.abs() / self.update.slope;
        let first = FIRST * self.epsilon();
        let (mut seen, mut last) = (0, 0.0);
        for doubling in 0..=(LAST / first).log2() as i32 {
            let step = first * whole * 2f64.powi(doubling);
            let rise = self.rise(step)?;
            if seen == SEEN && rise > 0.0 {
                return Ok(Ok([0.5 * step, step]));
            }
            let straight = -self.update.slope * step;
            match seen {
                SEEN => {}
                _ if (rise - straight).abs() <= 0.5 * straight.abs() => seen += 1,
                _ => seen = 0,
            }
            last = step;
        }
        Ok(Err(match seen {
            SEEN => format!("the loss does not rise up to η = {last:.1e}, so λ_c is below {:.1e}", 2.0 / last),
            _ => {
                "the loss does not fall along the update as its slope says: rounding or kinks hide it (try --dtype f64)"
                    .into()
            }
        }))
    }

    fn bisect(&mut self, [mut low, mut high]: [f64; 2]) -> Result<Critical> {
        while high > low * (1.0 + TOLERANCE) {
            let middle = (low * high).sqrt();
            if self.rise(middle)? > 0.0 { high = middle } else { low = middle }
        }
        let step = (low * high).sqrt();
        let [before, after] = [self.rise(step * (1.0 - BESIDE))?, self.rise(step * (1.0 + BESIDE))?];
        // Change of the loss for a change of the step by its own length; unknown where the loss overflows beside it.
        let slope = Some((after - before) / (2.0 * BESIDE)).filter(|slope| slope.is_finite()).unwrap_or(f64::NAN);
        let numeric = 0.5 * (high / low - 1.0) + self.epsilon() * self.base.abs() / slope.abs();
        let (value, std_err_data) = (2.0 / step, self.data_error(step)? / slope.abs());
        let sharpness = Rise { value, std_err_numeric: value * numeric, std_err_data: value * std_err_data };
        Ok(Critical { sharpness, converged: numeric <= 0.01, reason: String::new() })
    }

    /// Standard error over the rows of their mean rise after `step`.
    fn data_error(&mut self, step: f64) -> Result<f64> {
        let [still, moved] = [self.moved(0.0), self.moved(step)];
        let base = self.point.row_losses(&still, self.observer)?;
        let there = self.point.row_losses(&moved, self.observer)?;
        let weights = self.point.row_weights()?;
        let rows = there.iter().zip(&base).zip(weights).map(|((there, base), weight)| Ratio::of(there - base, weight));
        Ok(rows.fold(Ratio::default(), Ratio::merge).std_err())
    }
}
