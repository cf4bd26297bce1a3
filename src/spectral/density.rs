//! Smoothed spectral densities from quadrature nodes, on a linear, a signed logarithmic or a logarithmic axis.

use std::f64::consts::PI;

use super::{Axis, DensityReport, MassShares, Quadrature, Share, SlqReport};

/// Kernel widths of margin beyond the outermost nodes: the curve of a million eigenvalues falls below a single one's,
/// and 10⁻⁹ of a kernel at the very end falls outside.
const MARGIN_SIGMAS: f64 = 6.0;
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
    /// and `m` steps, half the widest spacing of the nodes of a smooth density. On [`Axis::LogAbs`] `R` is the range of
    /// both curves together, and `m` counts the nodes beyond the threshold.
    pub sigma: Option<f64>,
    /// `λ0` of [`Axis::SignedLog`], and what counts as near zero on [`Axis::LogAbs`]; `None`: 10⁻⁵ of the largest
    /// `|node|`, about the rounding of an f32 spectrum.
    pub linear_threshold: Option<f64>,
    /// Fewest grid points of a curve; there are more where the kernel needs them (three per `sigma`).
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
/// probes and 6 `σ` more, so the integral is 1 within 10⁻⁸ ([`DensityReport::mass`]). On [`Axis::LogAbs`] negative and
/// positive nodes have a curve and a grid each, and the rest is counted in [`MassShares::near_zero`]. Standard errors
/// are those of the mean over probes. Cost: probes × nodes × grid points, no matvecs. An empty report gives an empty
/// density.
///
/// ```
/// use candle_core::DType;
/// use flatness::random::{Purpose, stream};
/// use flatness::operator::DenseOperator;
/// use flatness::spectral::{Axis, DensityParams, SlqParams, density, slq};
/// use nalgebra::{DMatrix, DVector};
///
/// # fn main() -> flatness::Result<()> {
/// // Three eigenvalues, one negative: a third of the mass, whatever the probes (their entries are ±1).
/// let saddle = DenseOperator::new(DMatrix::from_diagonal(&DVector::from_vec(vec![-2.0, 1.0, 500.0])), DType::F64);
/// let params = SlqParams { num_steps: 3, ..SlqParams::default() };
/// let nodes = slq(&saddle, &params, &mut stream(0, Purpose::Probes), &mut ())?;
/// let report = density(&nodes, &DensityParams { axis: Axis::LogAbs, ..DensityParams::default() });
/// assert!((report.shares.negative.value - 1.0 / 3.0).abs() < 1e-12);
/// assert!((report.mass - 1.0).abs() < 1e-8);
/// # Ok(())
/// # }
/// ```
pub fn density(slq: &SlqReport, params: &DensityParams) -> DensityReport {
    let largest =
        slq.probes.iter().flat_map(|rule| &rule.nodes).fold(0.0, |largest: f64, node| largest.max(node.abs()));
    let threshold = match params.axis {
        Axis::Linear => 0.0,
        _ => params.linear_threshold.unwrap_or(if largest > 0.0 { 1e-5 * largest } else { 1.0 }),
    };
    let parts: &[Part] = match params.axis {
        Axis::Linear => &[Part::Linear],
        Axis::SignedLog => &[Part::SignedLog],
        Axis::LogAbs => &[Part::Negative, Part::Positive],
    };
    let kernels: Vec<Vec<Kernels>> = parts
        .iter()
        .map(|part| slq.probes.iter().map(|rule| kernels(rule, |node| part.coordinate(node, threshold))).collect())
        .collect();
    let sigma = params.sigma.unwrap_or_else(|| default_sigma(slq, &kernels, params.axis));
    let shares = shares(slq, threshold);
    let mut report = DensityReport {
        axis: params.axis,
        values: Vec::new(),
        density: Vec::new(),
        std_err: Vec::new(),
        sigma,
        linear_threshold: threshold,
        mass: if params.axis == Axis::LogAbs && !slq.probes.is_empty() { shares.near_zero.value } else { 0.0 },
        shares,
    };
    for (part, probes) in parts.iter().zip(&kernels) {
        let Some((low, high)) = ends(probes) else { continue };
        let grid = grid(low, high, sigma, params.min_points);
        let (density, std_err): (Vec<f64>, Vec<f64>) = smooth(slq, probes, &grid, sigma).unzip();
        report.mass += trapezoid(&grid, &density);
        report.values.extend(grid.iter().map(|&t| part.eigenvalue(t, threshold)));
        report.density.extend(density);
        report.std_err.extend(std_err);
    }
    report
}

/// Axis coordinates and weights of a probe's nodes.
type Kernels = Vec<(f64, f64)>;

/// A stretch of an axis with a curve of its own; coordinates ascend with eigenvalues.
#[derive(Debug, Clone, Copy)]
enum Part {
    Linear,
    SignedLog,
    /// `−log10|λ|` of negative eigenvalues.
    Negative,
    /// `log10 λ` of positive ones.
    Positive,
}

impl Part {
    /// `None` where the eigenvalue has no place here.
    fn coordinate(self, value: f64, threshold: f64) -> Option<f64> {
        match self {
            Self::Linear => Some(value),
            Self::SignedLog => Some(value.signum() * (value.abs() / threshold).ln_1p() / f64::ln(10.0)),
            Self::Negative => (sign(value, threshold) < 0).then(|| -value.abs().log10()),
            Self::Positive => (sign(value, threshold) > 0).then(|| value.log10()),
        }
    }

    fn eigenvalue(self, t: f64, threshold: f64) -> f64 {
        match self {
            Self::Linear => t,
            Self::SignedLog => t.signum() * threshold * (t.abs() * f64::ln(10.0)).exp_m1(),
            Self::Negative => -10f64.powf(-t),
            Self::Positive => 10f64.powf(t),
        }
    }
}

/// −1, 0 or 1: zero up to `threshold`.
fn sign(value: f64, threshold: f64) -> i32 {
    // `max` also makes zero of a threshold that is no number.
    i32::from(value > threshold.max(0.0)) - i32::from(value < -threshold.max(0.0))
}

fn kernels(rule: &Quadrature, coordinate: impl Fn(f64) -> Option<f64>) -> Kernels {
    rule.nodes.iter().zip(&rule.weights).filter_map(|(&node, &weight)| Some((coordinate(node)?, weight))).collect()
}

/// First and last coordinate of all probes.
fn ends(probes: &[Kernels]) -> Option<(f64, f64)> {
    let coordinates = || probes.iter().flatten().map(|(t, _)| *t);
    let (low, high) = (coordinates().fold(f64::INFINITY, f64::min), coordinates().fold(f64::NEG_INFINITY, f64::max));
    (low <= high).then_some((low, high))
}

/// Mean and standard error over probes at each grid point.
fn smooth(slq: &SlqReport, probes: &[Kernels], grid: &[f64], sigma: f64) -> impl Iterator<Item = (f64, f64)> {
    grid.iter().map(move |&t| {
        let at = |kernels: &Kernels| kernels.iter().map(|(node, weight)| weight * gaussian(t - node, sigma)).sum();
        slq.over_probes(&probes.iter().map(at).collect::<Vec<f64>>())
    })
}

fn trapezoid(grid: &[f64], density: &[f64]) -> f64 {
    let steps = grid.windows(2).zip(density.windows(2));
    steps.map(|(t, d)| 0.5 * (t[1] - t[0]) * (d[0] + d[1])).sum()
}

fn shares(slq: &SlqReport, threshold: f64) -> MassShares {
    let share = |wanted: i32| {
        let weight = |rule: &Quadrature| -> f64 {
            let nodes = rule.nodes.iter().zip(&rule.weights);
            // Not `sum`, which makes −0 of nothing.
            nodes.filter(|(node, _)| sign(**node, threshold) == wanted).fold(0.0, |sum, (_, weight)| sum + weight)
        };
        let (value, std_err) = slq.over_probes(&slq.probes.iter().map(weight).collect::<Vec<_>>());
        Share { value, std_err }
    };
    MassShares { negative: share(-1), near_zero: share(0), positive: share(1) }
}

fn gaussian(distance: f64, sigma: f64) -> f64 {
    (-0.5 * (distance / sigma).powi(2)).exp() / (sigma * (2.0 * PI).sqrt())
}

fn default_sigma(slq: &SlqReport, parts: &[Vec<Kernels>], axis: Axis) -> f64 {
    let ends: Vec<(f64, f64)> = parts.iter().filter_map(|probes| ends(probes)).collect();
    let range: f64 = ends.iter().map(|(low, high)| high - low).sum();
    let size = match axis {
        // A decade is a decade, whatever the unit of the eigenvalues.
        Axis::LogAbs => 1.0,
        _ => ends.iter().fold(0.0, |size: f64, (low, high)| size.max(low.abs()).max(high.abs())),
    };
    let steps = |probe: usize| parts.iter().map(|probes| probes[probe].len()).sum::<usize>();
    let steps = (0..slq.probes.len()).map(steps).max().unwrap_or(1) as f64;
    // A rule from a block has more nodes than steps, but no finer resolution than the steps give.
    let nodes = slq.probes.iter().map(|rule| rule.nodes.len()).max().unwrap_or(1).max(1) as f64;
    let steps = (steps * slq.num_steps as f64 / nodes).max(1.0);
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
    use crate::spectral::{Quadrature, RuleSource, TraceReport};

    type Rule<'a> = (&'a [f64], &'a [f64]);

    fn report(rules: &[Rule], exact: bool) -> SlqReport {
        let rule = |(nodes, weights): &Rule| Quadrature { nodes: nodes.to_vec(), weights: weights.to_vec(), exact };
        let trace =
            TraceReport { trace: 0.0, std_err_numeric: 0.0, std_err_data: f64::NAN, samples: vec![], num_matvecs: 0 };
        SlqReport {
            probes: rules.iter().map(rule).collect(),
            shorter: Vec::new(),
            dim: 9,
            num_steps: rules.iter().map(|(nodes, _)| nodes.len()).max().unwrap_or(0),
            num_matvecs: 0,
            trace,
            source: RuleSource::Lanczos,
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
        // Outside 6σ lie 10⁻⁹ of the end kernels; the trapezoid rule itself is exact to 10 digits.
        assert!((integral(&density, |value| value) - 1.0).abs() < 1e-8);
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
        assert!((integral(&density, log) - 1.0).abs() < 1e-8);
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
            assert!((integral(&density, |value| value) - 1.0).abs() < 1e-8);
            assert!((density.mass - integral(&density, |value| value)).abs() < 1e-12);
        }
        for axis in [Axis::Linear, Axis::SignedLog, Axis::LogAbs] {
            let empty = density(&report(&[], true), &DensityParams { axis, ..DensityParams::default() });
            assert!(empty.values.is_empty() && empty.mass == 0.0 && empty.shares.near_zero.value.is_nan());
        }
    }

    #[test]
    fn the_log_axis_has_a_curve_for_each_sign_and_counts_the_rest() {
        let rules: [Rule; 2] =
            [(&[-10.0, 1e-4, 100.0], &[0.2, 0.5, 0.3]), (&[-1.0, -1e-3, 0.0, 1e3], &[0.1, 0.1, 0.2, 0.6])];
        let params = DensityParams { axis: Axis::LogAbs, linear_threshold: Some(1e-3), ..DensityParams::default() };
        let density = density(&report(&rules, false), &params);
        // Means and half the differences of 0.2 and 0.1, of 0.5 and 0.3, of 0.3 and 0.6.
        let shares = [density.shares.negative, density.shares.near_zero, density.shares.positive];
        for (share, (value, std_err)) in shares.iter().zip([(0.15, 0.05), (0.4, 0.1), (0.45, 0.15)]) {
            assert!((share.value - value).abs() < 1e-15 && (share.std_err - std_err).abs() < 1e-15, "{share:?}");
        }
        assert!(density.values.is_sorted() && density.values.iter().all(|value| *value != 0.0));
        let negative = density.values.iter().filter(|value| **value < 0.0).count();
        let area = |from: usize, to: usize| -> f64 {
            let log = |i: usize| density.values[i].abs().log10();
            (from + 1..to)
                .map(|i| 0.5 * (log(i) - log(i - 1)).abs() * (density.density[i] + density.density[i - 1]))
                .sum()
        };
        // 10⁻⁹ of each end kernel falls outside.
        assert!((area(0, negative) - 0.15).abs() < 1e-8 && (area(negative, density.values.len()) - 0.45).abs() < 1e-8);
        assert!((density.mass - 1.0).abs() < 1e-8);
        // A decade on either side, and two nodes of a probe beyond the threshold: π·2/(4·2).
        assert!((density.sigma - PI * 2.0 / (4.0 * 2.0)).abs() < 1e-12, "{}", density.sigma);
    }

    #[test]
    fn a_spectrum_of_one_sign_has_one_curve() {
        let params = DensityParams { axis: Axis::LogAbs, ..DensityParams::default() };
        for value in [1.0, -1e-7, 3e5] {
            let rule: Rule = (&[value], &[1.0]);
            let density = density(&report(&[rule; 2], true), &params);
            assert!(density.values.iter().all(|position| position.signum() == value.signum()));
            assert_eq!(density.sigma, 0.01);
            assert!((density.mass - 1.0).abs() < 1e-8);
        }
        let rule: Rule = (&[0.0], &[1.0]);
        let zero = density(&report(&[rule; 2], true), &params);
        assert!(zero.values.is_empty() && zero.mass == 1.0 && zero.shares.near_zero.value == 1.0);
    }
}
