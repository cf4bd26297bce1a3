//! Smoothed spectral densities from quadrature nodes, on a linear or a signed logarithmic axis.

use std::f64::consts::PI;

use super::trace::mean_and_std_error;
use super::{Axis, DensityReport, SlqReport};

/// Kernel widths of margin beyond the outermost nodes; 6·10⁻⁵ of a kernel at the very end falls outside.
const MARGIN_SIGMAS: f64 = 4.0;
/// Grid points per kernel width: sums over the grid then equal integrals to 10 digits and more.
const POINTS_PER_SIGMA: f64 = 3.0;
/// Range over kernel width where every node is an eigenvalue, and the kernel only draws it.
const EXACT_RESOLUTION: f64 = 100.0;
/// A range below this share of the largest coordinate is the rounding of one eigenvalue.
const ROUNDING: f64 = 1e-6;

/// How to draw a density.
#[derive(Debug, Clone, PartialEq)]
pub struct DensityParams {
    /// Which axis.
    pub axis: Axis,
    /// Standard deviation of the Gaussian kernel in the axis coordinate; `None`: `π R / (4 m)` for nodes of range `R`
    /// and `m` steps, half the widest spacing of the nodes of a smooth density.
    pub sigma: Option<f64>,
    /// `λ0` of [`Axis::SignedLog`]; `None`: 10⁻⁵ of the largest `|node|`, about the rounding of an f32 spectrum.
    pub linear_threshold: Option<f64>,
    /// Fewest grid points; there are more where the kernel needs them (three per `sigma`).
    pub min_points: usize,
}

impl Default for DensityParams {
    fn default() -> Self {
        Self { axis: Axis::SignedLog, sigma: None, linear_threshold: None, min_points: 512 }
    }
}

/// `(1/p) Σ_probes Σ_nodes w · N(t; t_node, σ²)` on a uniform grid of the axis coordinate `t` (Lin, Saad & Yang 2016).
///
/// Each kernel is normalised on the whole axis and nothing is rescaled afterwards: the grid covers the nodes of *all*
/// probes and 4 `σ` more, so the integral is 1 within 10⁻⁴. The standard error is that of the mean over probes at each
/// position. Cost: probes × nodes × grid points, no matvecs. An empty report gives an empty density.
pub fn density(slq: &SlqReport, params: &DensityParams) -> DensityReport {
    let nodes = || slq.probes.iter().flat_map(|rule| rule.nodes.iter().copied());
    let largest = nodes().fold(0.0, |largest: f64, node| largest.max(node.abs()));
    let linear_threshold = match params.axis {
        Axis::Linear => 0.0,
        Axis::SignedLog => params.linear_threshold.unwrap_or(if largest > 0.0 { 1e-5 * largest } else { 1.0 }),
    };
    let coordinate = |value: f64| match params.axis {
        Axis::Linear => value,
        Axis::SignedLog => value.signum() * (value.abs() / linear_threshold).ln_1p() / f64::ln(10.0),
    };
    let eigenvalue = |t: f64| match params.axis {
        Axis::Linear => t,
        Axis::SignedLog => t.signum() * linear_threshold * (t.abs() * f64::ln(10.0)).exp_m1(),
    };
    let low = nodes().map(coordinate).fold(f64::INFINITY, f64::min);
    let high = nodes().map(coordinate).fold(f64::NEG_INFINITY, f64::max);
    let sigma = params.sigma.unwrap_or_else(|| default_sigma(slq, high - low, low.abs().max(high.abs())));
    let grid: Vec<f64> = if low <= high { grid(low, high, sigma, params.min_points) } else { Vec::new() };
    let curves: Vec<Vec<f64>> = slq
        .probes
        .iter()
        .map(|rule| {
            let kernels: Vec<_> = rule.nodes.iter().map(|&node| coordinate(node)).zip(&rule.weights).collect();
            grid.iter()
                .map(|&t| kernels.iter().map(|&(node, weight)| weight * gaussian(t - node, sigma)).sum())
                .collect()
        })
        .collect();
    let at = |i: usize| mean_and_std_error(&curves.iter().map(|curve| curve[i]).collect::<Vec<_>>());
    let (density, std_err) = (0..grid.len()).map(at).unzip();
    let values = grid.iter().map(|&t| eigenvalue(t)).collect();
    DensityReport { axis: params.axis, values, density, std_err, sigma, linear_threshold }
}

fn gaussian(distance: f64, sigma: f64) -> f64 {
    (-0.5 * (distance / sigma).powi(2)).exp() / (sigma * (2.0 * PI).sqrt())
}

fn default_sigma(slq: &SlqReport, range: f64, size: f64) -> f64 {
    let steps = slq.num_steps.max(1) as f64;
    let sigma = if slq.probes.iter().all(|rule| rule.exact) {
        range / EXACT_RESOLUTION
    } else {
        // Nodes of a smooth density crowd at the ends like Chebyshev's; in the middle they are π R / (2 m) apart.
        PI * range / (4.0 * steps)
    };
    match (range > ROUNDING * size, size > 0.0) {
        (true, _) => sigma,
        // One eigenvalue only: narrow against its size.
        (false, true) => size / EXACT_RESOLUTION,
        (false, false) => 1.0,
    }
}

fn grid(low: f64, high: f64, sigma: f64, min_points: usize) -> Vec<f64> {
    let (start, end) = (low - MARGIN_SIGMAS * sigma, high + MARGIN_SIGMAS * sigma);
    let points = (((end - start) / sigma * POINTS_PER_SIGMA).ceil() as usize + 1).max(min_points).max(2);
    (0..points).map(|i| start + (end - start) * i as f64 / (points - 1) as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectral::{Quadrature, TraceReport};

    type Rule<'a> = (&'a [f64], &'a [f64]);

    fn report(rules: &[Rule], exact: bool) -> SlqReport {
        let rule = |(nodes, weights): &Rule| Quadrature { nodes: nodes.to_vec(), weights: weights.to_vec(), exact };
        let trace =
            TraceReport { trace: 0.0, std_err_numeric: 0.0, std_err_data: f64::NAN, samples: vec![], num_matvecs: 0 };
        SlqReport {
            probes: rules.iter().map(rule).collect(),
            dim: 9,
            num_steps: rules.iter().map(|(nodes, _)| nodes.len()).max().unwrap_or(0),
            num_matvecs: 0,
            trace,
            full_orthogonality: true,
            interrupted: false,
        }
    }

    fn linear() -> DensityParams {
        DensityParams { axis: Axis::Linear, ..DensityParams::default() }
    }

    /// Trapezoid sum along the axis coordinate.
    fn integral(density: &DensityReport, coordinate: impl Fn(f64) -> f64) -> f64 {
        let t: Vec<f64> = density.values.iter().map(|&value| coordinate(value)).collect();
        (1..t.len()).map(|i| 0.5 * (t[i] - t[i - 1]) * (density.density[i] + density.density[i - 1])).sum()
    }

    #[test]
    fn outliers_of_a_single_probe_stay_on_the_grid_and_keep_their_mass() {
        let slq = report(&[(&[0.0, 5_000.0], &[0.999, 0.001]), (&[-20.0, 0.0], &[0.5, 0.5])], false);
        let density = density(&slq, &DensityParams { sigma: Some(10.0), ..linear() });
        assert!(density.values[0] < -20.0 && density.values[density.values.len() - 1] > 5_000.0);
        assert!(density.values[1] - density.values[0] <= density.sigma / 3.0 * (1.0 + 1e-9));
        // Outside 4σ lie 6·10⁻⁵ of the end kernels; the trapezoid rule itself is exact to rounding.
        assert!((integral(&density, |value| value) - 1.0).abs() < 1e-4);
        let nearest = |value: f64| density.values.iter().position(|&position| position >= value).unwrap();
        // Half of the first probe's 0.001 sits there, at most a third of σ from a grid point: exp(−1/18) = 0.946.
        let peak = 0.5 * 0.001 / (density.sigma * (2.0 * PI).sqrt());
        assert!((density.density[nearest(5_000.0)] / peak - 1.0).abs() < 0.06);
    }

    #[test]
    fn the_signed_log_axis_is_odd_and_normalised() {
        let rule: Rule = (&[-100.0, 0.0, 100.0], &[0.25, 0.5, 0.25]);
        let slq = report(&[rule; 2], false);
        let density = density(&slq, &DensityParams { linear_threshold: Some(0.01), ..DensityParams::default() });
        assert_eq!((density.axis, density.linear_threshold), (Axis::SignedLog, 0.01));
        let log = |value: f64| value.signum() * (1.0 + value.abs() / 0.01).log10();
        assert!((integral(&density, log) - 1.0).abs() < 1e-4);
        let count = density.values.len();
        for i in 0..count {
            // Positions: 10^|t| magnifies the rounding of |t| ≤ 13 by ln(10)·13.
            let size = density.values[i].abs();
            assert!((density.values[i] + density.values[count - 1 - i]).abs() < 1e-13 * size + 1e-15);
            assert!((density.density[i] - density.density[count - 1 - i]).abs() < 1e-9);
        }
        assert!(density.values.is_sorted());
        assert!(density.std_err.iter().all(|&error| error < 1e-15));
    }

    #[test]
    fn the_standard_error_is_that_of_the_mean_over_probes() {
        let slq = report(&[(&[0.0, 1.0], &[0.2, 0.8]), (&[0.0, 1.0], &[0.6, 0.4])], false);
        let density = density(&slq, &DensityParams { sigma: Some(0.05), ..linear() });
        let at_zero = density.values.iter().position(|&value| value.abs() < 0.01).unwrap();
        // Samples 0.2 g and 0.6 g: mean 0.4 g, standard error 0.2 g.
        assert!((density.std_err[at_zero] / density.density[at_zero] - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_spectrum_of_one_value_can_be_drawn() {
        for value in [0.0, 3.0, -1e-9] {
            let rule: Rule = (&[value], &[1.0]);
            let density = density(&report(&[rule; 2], true), &linear());
            assert!(density.sigma > 0.0);
            assert!((integral(&density, |value| value) - 1.0).abs() < 1e-4);
        }
        assert!(density(&report(&[], true), &DensityParams::default()).values.is_empty());
    }
}
