//! Smoothed spectral densities from quadrature nodes, on a linear, a signed logarithmic or a logarithmic axis.

use std::f64::consts::{LN_10, PI};

use super::SlqReport;
use super::distribution::{bounds, chi_square_interval};
use super::resolution::Resolution;

/// Kernel widths of margin beyond the outermost nodes: the curve of a million eigenvalues falls below a single one's.
const MARGIN_SIGMAS: f64 = 6.0;
/// Grid points per kernel of least width.
const POINTS_PER_SIGMA: f64 = 3.0;
/// Least width of a kernel on logarithmic axes, in decades.
const LEAST_DECADES: f64 = 0.05;
/// Least width of a kernel on the linear axis, as a share of the range of the nodes.
const LEAST_SHARE: f64 = 0.005;
/// A range below this share of the largest `|λ|` is the rounding of one eigenvalue.
const ROUNDING: f64 = 1e-6;

/// The eigenvalue axis of a density.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Eigenvalue `λ` itself; density per unit of `λ`.
    Linear,
    /// `sign(λ)·log10(1 + |λ|/λ0)` with the threshold [`DensityReport::linear_threshold`]; density per unit of that coordinate.
    SignedLog,
    /// `log10|λ|`, one curve for negative and one for positive `λ`; density per decade.
    LogAbs,
}

/// A smoothed spectral density on a grid, and the mass near zero that has no place on it.
#[derive(Debug, Clone)]
pub struct DensityReport {
    /// Which axis.
    pub axis: Axis,
    /// Grid positions as eigenvalues, ascending, none of them nearer to zero than [`Self::linear_threshold`].
    pub values: Vec<f64>,
    /// `(1/n) Σᵢ N(t; tᵢ, σ²)` at each position, per unit of the axis coordinate `t`.
    pub density: Vec<f64>,
    /// Standard error of the density from the probes, same length; 0 of a spectrum that is known.
    pub std_err: Vec<f64>,
    /// 95 % interval of the density from the probes, same length.
    pub range: Vec<[f64; 2]>,
    /// Standard deviation `σ` of the Gaussian kernel at each position, in the axis coordinate.
    pub sigma: Vec<f64>,
    /// Up to this `|λ|`, in the unit of the eigenvalues, a mass is known and not its place: nodes are further apart there than
    /// a quarter of a decade, or `|λ|` is below 10⁻⁵ of the largest. Also `λ0` of the signed-log axis.
    pub linear_threshold: f64,
    /// How the mass divides.
    pub shares: MassShares,
}

/// A share of the eigenvalues.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// In 0..=1; NaN without nodes.
    pub value: f64,
    /// From the probes; 0 of a spectrum that is known.
    pub std_err: f64,
    /// 95 % interval for the probes about what the quadrature leaves open: see [`super::DistributionReport::range`].
    pub range: [f64; 2],
}

/// The eigenvalues below, within and above `±`[`DensityReport::linear_threshold`]; the three shares add up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MassShares {
    /// Below.
    pub negative: Share,
    /// Zero, or too near it to be located.
    pub near_zero: Share,
    /// Above.
    pub positive: Share,
}

/// How to draw a density.
#[derive(Debug, Clone, PartialEq)]
pub struct DensityParams {
    /// Which axis.
    pub axis: Axis,
    /// Fewest grid points of a curve; there are more where the kernel needs them (three per least width).
    pub min_points: usize,
}

impl Default for DensityParams {
    fn default() -> Self {
        Self { axis: Axis::SignedLog, min_points: 512 }
    }
}

/// The density of a spectrum, smoothed no finer than the rules see it (Lin, Saad & Yang 2016).
///
/// At each position the kernel is as wide as the nodes of a probe are apart there, and at least 0.05 decades or 0.5 % of the
/// range: a rule of `m` steps integrates it nearly exactly, so that the curve is what the same kernel makes of all
/// eigenvalues, but for the probes. Their interval takes the density for a sum of squares, which it is, with as many degrees of
/// freedom as eigenvalues lie under the kernel, times probes. Near zero, where on a log axis no kernel of a quarter of a
/// decade is wide enough, a mass is given in place of a curve: [`MassShares::near_zero`].
///
/// Cost: probes × nodes × grid points, no matvecs. An empty report gives an empty density.
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
/// # Ok(())
/// # }
/// ```
pub fn density(slq: &SlqReport, params: &DensityParams) -> DensityReport {
    let resolution = Resolution::of(slq);
    let threshold = resolution.threshold();
    let mut report = DensityReport {
        axis: params.axis,
        values: Vec::new(),
        density: Vec::new(),
        std_err: Vec::new(),
        range: Vec::new(),
        sigma: Vec::new(),
        linear_threshold: threshold,
        shares: shares(slq, &resolution, threshold),
    };
    for part in Part::of(params.axis, slq, threshold) {
        for t in part.grid(params.min_points) {
            let value = part.eigenvalue(t);
            let sigma = part.least_sigma.max(resolution.gap(value) / part.slope(value));
            let (density, std_err, range) =
                smooth(slq, |node| part.coordinate(node).map_or(0.0, |place| gaussian(t - place, sigma)));
            report.values.push(value);
            report.density.push(density);
            report.std_err.push(std_err);
            report.range.push(range);
            report.sigma.push(sigma);
        }
    }
    report
}

/// A stretch of an axis beyond the threshold on one side; coordinates ascend with eigenvalues.
#[derive(Debug, Clone, Copy)]
struct Part {
    axis: Axis,
    /// 1 or −1.
    sign: f64,
    threshold: f64,
    /// The eigenvalue that lies furthest out.
    end: f64,
    least_sigma: f64,
}

impl Part {
    /// Those with nodes, the negative one first.
    fn of(axis: Axis, slq: &SlqReport, threshold: f64) -> Vec<Self> {
        let nodes = || slq.probes.iter().flat_map(|rule| &rule.nodes).copied();
        let (low, high) = (nodes().fold(f64::INFINITY, f64::min), nodes().fold(f64::NEG_INFINITY, f64::max));
        let size = low.abs().max(high.abs());
        let least_sigma = match axis {
            Axis::Linear if high - low > ROUNDING * size => LEAST_SHARE * (high - low),
            Axis::Linear => LEAST_SHARE * size,
            _ => LEAST_DECADES,
        };
        let ends = [(-1.0, low), (1.0, high)].into_iter().filter(|(sign, end)| sign * end > threshold);
        ends.map(|(sign, end)| Self { axis, sign, threshold, end, least_sigma }).collect()
    }

    /// `None` where the eigenvalue has no place on the axis.
    fn coordinate(&self, value: f64) -> Option<f64> {
        match self.axis {
            Axis::Linear => Some(value),
            Axis::SignedLog => Some(value.signum() * (value.abs() / self.threshold).ln_1p() / LN_10),
            Axis::LogAbs => (self.sign * value > 0.0).then(|| self.sign * value.abs().log10()),
        }
    }

    fn eigenvalue(&self, t: f64) -> f64 {
        match self.axis {
            Axis::Linear => t,
            Axis::SignedLog => self.sign * self.threshold * (t.abs() * LN_10).exp_m1(),
            Axis::LogAbs => self.sign * 10f64.powf(self.sign * t),
        }
    }

    /// `dλ/dt`
    fn slope(&self, value: f64) -> f64 {
        match self.axis {
            Axis::Linear => 1.0,
            Axis::SignedLog => LN_10 * (self.threshold + value.abs()),
            Axis::LogAbs => LN_10 * value.abs(),
        }
    }

    /// From the threshold to beyond the last node, ascending.
    fn grid(&self, min_points: usize) -> Vec<f64> {
        let place = |value| self.coordinate(value).unwrap_or(0.0);
        let (near, far) =
            (place(self.sign * self.threshold), place(self.end) + self.sign * MARGIN_SIGMAS * self.least_sigma);
        let (start, end) = (near.min(far), near.max(far));
        let points = (((end - start) / self.least_sigma * POINTS_PER_SIGMA).ceil() as usize + 1).max(min_points).max(2);
        (0..points).map(|i| start + (end - start) * i as f64 / (points - 1) as f64).collect()
    }
}

/// `Σ f(λᵢ)/n` of a kernel `f`: value, standard error, and 95 % interval.
fn smooth(slq: &SlqReport, kernel: impl Fn(f64) -> f64) -> (f64, f64, [f64; 2]) {
    let (value, std_err) = slq.mean_of(&kernel);
    let known: f64 = slq.known().map(|(node, weight)| weight * kernel(node)).sum();
    let seen = (value - known).max(0.0);
    // A single eigenvalue has one degree of freedom for each probe.
    let degrees = (2.0 * (seen / std_err).powi(2)).max(slq.probes.len() as f64);
    let [low, high] = chi_square_interval(seen, degrees);
    (value, std_err, if std_err > 0.0 { [known + low, known + high] } else { [value; 2] })
}

fn shares(slq: &SlqReport, resolution: &Resolution, threshold: f64) -> MassShares {
    let share = |within: &dyn Fn(f64) -> bool| slq.mean_of(|node| f64::from(u8::from(within(node))));
    let (below, above) = (share(&|node| node < -threshold), share(&|node| node > threshold));
    let between = share(&|node| node.abs() <= threshold);
    // Down to the bits: a node at the very threshold belongs within.
    let [low, high] = bounds(slq, resolution, -threshold * (1.0 + f64::EPSILON)).1;
    let [least, most] = bounds(slq, resolution, threshold).1;
    let as_share = |(value, std_err): (f64, f64), range| Share { value, std_err, range };
    MassShares {
        negative: as_share(below, [low, high]),
        near_zero: as_share(between, [(least - high).max(0.0), (most - low).min(1.0)]),
        positive: as_share(above, [1.0 - most, 1.0 - least]),
    }
}

fn gaussian(distance: f64, sigma: f64) -> f64 {
    (-0.5 * (distance / sigma).powi(2)).exp() / (sigma * (2.0 * PI).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::DenseOperator;
    use crate::random::{Purpose, stream};
    use crate::spectral::{RuleSource, SurveyParams, survey};
    use candle_core::DType;
    use nalgebra::DMatrix;

    const AXES: [Axis; 3] = [Axis::Linear, Axis::SignedLog, Axis::LogAbs];

    fn along(axis: Axis) -> DensityParams {
        DensityParams { axis, ..DensityParams::default() }
    }

    /// Every eigenvalue as a node.
    fn known(values: &[f64]) -> SlqReport {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let weights = vec![1.0 / values.len() as f64; values.len()];
        let rule = crate::spectral::Quadrature { nodes: values, weights, exact: true };
        let known = [0, rule.nodes.len()];
        let dim = rule.nodes.len();
        SlqReport { probes: vec![rule], known, source: RuleSource::Dense, ..SlqReport::none(dim) }
    }

    /// As of a trained network: outliers, a bulk over five decades, half of it zero.
    fn spectrum() -> Vec<f64> {
        let bulk = |i: usize, size: f64| size * 10f64.powf(-5.0 * (i as f64 * 0.618).fract());
        let outliers = (0..9).map(|i| 260.0 * 0.6f64.powi(i));
        let positive = (0..700).map(|i| bulk(i, 8.0));
        let negative = (0..200).map(|i| -bulk(i, 2.0));
        outliers.chain(positive).chain(negative).chain((0..900).map(|_| 0.0)).collect()
    }

    #[test]
    fn the_curve_is_what_the_same_kernels_make_of_all_eigenvalues() {
        let values = spectrum();
        // The start vectors of a survey are uniform on the sphere: a diagonal matrix is as good as any other.
        let operator = DenseOperator::new(DMatrix::from_diagonal(&values.clone().into()), DType::F64);
        let params = SurveyParams { top: 5, bottom: 3, ..SurveyParams::default() };
        let slq = survey(&operator, &params, &mut stream(2, Purpose::Survey), &mut (), &mut ()).unwrap().slq;
        for axis in AXES {
            let density = density(&slq, &along(axis));
            assert!(density.linear_threshold < 0.01 * 260.0, "{}", density.linear_threshold);
            let parts = Part::of(axis, &slq, density.linear_threshold);
            let (mut held, mut count) = (0, 0);
            for (index, (&value, &sigma)) in density.values.iter().zip(&density.sigma).enumerate() {
                let part = parts.iter().find(|part| part.sign == value.signum()).unwrap();
                let t = part.coordinate(value).unwrap();
                let kernel = |node: &f64| part.coordinate(*node).map_or(0.0, |place| gaussian(t - place, sigma));
                let truth = values.iter().map(kernel).sum::<f64>() / values.len() as f64;
                let [low, high] = density.range[index];
                let single = gaussian(0.0, sigma) / values.len() as f64;
                if truth > 0.1 * single {
                    count += 1;
                    // Known eigenvalues are off by 1e-4 of themselves at most.
                    held += usize::from((1.0 - 1e-3) * low <= truth && truth <= (1.0 + 1e-3) * high);
                }
            }
            assert!(held as f64 >= 0.9 * count as f64, "{axis:?}: {held} of {count}");
        }
        let shares = density(&slq, &along(Axis::LogAbs)).shares;
        let threshold = density(&slq, &along(Axis::LogAbs)).linear_threshold;
        for (share, truth) in [
            (shares.negative, values.iter().filter(|value| **value < -threshold).count()),
            (shares.near_zero, values.iter().filter(|value| value.abs() <= threshold).count()),
            (shares.positive, values.iter().filter(|value| **value > threshold).count()),
        ] {
            let truth = truth as f64 / values.len() as f64;
            assert!(share.range[0] <= truth && truth <= share.range[1], "{share:?} {truth}");
        }
    }

    #[test]
    fn a_known_spectrum_is_drawn_with_the_least_kernel_and_without_errors() {
        let density = density(&known(&[-10.0, -1e-5, 0.0, 0.5, 100.0]), &along(Axis::LogAbs));
        assert!(density.std_err.iter().all(|error| *error == 0.0));
        assert!(density.range.iter().zip(&density.density).all(|([low, high], d)| low == d && high == d));
        assert!(density.sigma.iter().all(|sigma| *sigma == LEAST_DECADES));
        // Within 10⁻⁵ of the largest lies what an f32 rounds to zero.
        assert!((density.linear_threshold - 1e-3).abs() < 1e-12);
        let MassShares { negative, near_zero, positive } = density.shares;
        assert_eq!([negative, near_zero, positive].map(|share| share.value), [0.2, 0.4, 0.4]);
        let positive: Vec<(f64, f64)> = std::iter::zip(&density.values, &density.density)
            .filter(|(value, _)| **value > 0.0)
            .map(|(value, density)| (value.log10(), *density))
            .collect();
        let area: f64 = positive.windows(2).map(|w| 0.5 * (w[1].0 - w[0].0) * (w[0].1 + w[1].1)).sum();
        // 10⁻⁹ of each end kernel falls outside.
        assert!((area - 0.4).abs() < 1e-8, "{area}");
    }

    #[test]
    fn one_eigenvalue_and_none_are_not_special() {
        for axis in AXES {
            for value in [1.0, -1e-7, 3e5] {
                let density = density(&known(&[value; 2]), &along(axis));
                assert!(density.values.iter().all(|position| position.signum() == value.signum()));
                assert!(density.values.is_sorted() && density.density.iter().all(|d| d.is_finite()));
            }
            let zero = density(&known(&[0.0; 3]), &along(axis));
            assert!(zero.values.is_empty() && zero.shares.near_zero.value == 1.0);
            let none = density(&SlqReport::none(7), &along(axis));
            assert!(none.values.is_empty() && none.shares.near_zero.value.is_nan());
        }
    }

    #[test]
    fn copies_of_zero_are_a_mass_and_not_known_eigenvalues() {
        // As a Gauss-Newton matrix of few rows: two thirds of the eigenvalues are zero, and the lowest pairs converge there.
        let values: Vec<f64> = (0..900).map(|i| if i < 300 { 50.0 * 0.97f64.powi(i) } else { 0.0 }).collect();
        let operator = DenseOperator::new(DMatrix::from_diagonal(&values.into()), DType::F64);
        let params = SurveyParams { top: 3, bottom: 3, ..SurveyParams::default() };
        let slq = survey(&operator, &params, &mut stream(2, Purpose::Survey), &mut (), &mut ()).unwrap().slq;
        let near_zero = density(&slq, &along(Axis::LogAbs)).shares.near_zero;
        assert!(near_zero.range[0] <= 2.0 / 3.0 + 0.1 && near_zero.value > 0.6, "{near_zero:?}");
        let sum = slq.mean_of(f64::abs);
        let truth = (0..300).map(|i| 50.0 * 0.97f64.powi(i)).sum::<f64>() / 900.0;
        assert!((sum.0 - truth).abs() < 4.0 * sum.1 + 0.02 * truth, "{sum:?} {truth}");
    }
}
