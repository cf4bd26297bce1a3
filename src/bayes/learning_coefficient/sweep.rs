//! Several step sizes and localisations, and which of them to take.

use super::Estimate;
use super::estimate::MOST_SHARE;

/// Factors on the step size, ascending.
pub(super) const STEP_SIZES: [f64; 3] = [0.5, 1.0, 2.0];
/// Factors on `γ`, ascending.
pub(super) const GAMMAS: [f64; 3] = [0.1, 1.0, 10.0];
/// Standard errors by which two estimates may differ.
const MOST_ERRORS: f64 = 3.0;

/// The place of the setting to take: the smallest `γ` at which any chains have settled, since localisation makes the estimate
/// smaller; there the largest step size that agrees with all smaller ones once the bias of each is taken off. `None` where no
/// chains have settled.
pub(super) fn recommended(estimates: &[Estimate]) -> Option<usize> {
    let settled = || estimates.iter().enumerate().filter(|(_, estimate)| estimate.fault.is_none());
    let gamma = settled().map(|(_, estimate)| estimate.dynamics.gamma).min_by(f64::total_cmp)?;
    let mut there: Vec<(usize, &Estimate)> = settled().filter(|(_, own)| own.dynamics.gamma == gamma).collect();
    there.sort_by(|a, b| a.1.dynamics.step_size.total_cmp(&b.1.dynamics.step_size));
    let disagrees =
        |own: &Estimate, earlier: &[(usize, &Estimate)]| earlier.iter().any(|(_, other)| !agree(own, other));
    let first_wrong = (1..there.len()).find(|place| disagrees(there[*place].1, &there[..*place]));
    there.get(first_wrong.unwrap_or(there.len()) - 1).map(|(place, _)| *place)
}

fn agree(a: &Estimate, b: &Estimate) -> bool {
    let difference = (a.value - a.step_size_bias - b.value + b.step_size_bias).abs();
    difference <= MOST_ERRORS * a.std_err.hypot(b.std_err) || difference <= MOST_SHARE * b.value
}
