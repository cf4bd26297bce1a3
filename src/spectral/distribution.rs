//! How many eigenvalues lie below a point, with what quadrature and probes leave open.

use super::SlqReport;
use super::resolution::Resolution;

/// Standard normal quantile of a 95 % interval.
const NORMAL: f64 = 1.959_963_984_540_054;

/// The share of eigenvalues up to each of some points: the cumulative spectral distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct DistributionReport {
    /// The points, in the order in which they came.
    pub values: Vec<f64>,
    /// Share of eigenvalues up to each, in 0..=1, as the rules have it; same length.
    pub shares: Vec<f64>,
    /// What the moments allow, averaged over the probes: no spectrum seen by these probes has a share outside.
    pub quadrature: Vec<[f64; 2]>,
    /// That range and, outside it, a 95 % interval for the probes.
    pub range: Vec<[f64; 2]>,
}

/// The share of eigenvalues up to each of `values`.
///
/// Known eigenvalues count as they are. For the others, the moments that a probe's Lanczos matrix holds bound its measure
/// below any point (Chebyshev, Markov and Stieltjes; Szegő 1939, section 3.41), up to rounding `ε‖A‖`; the bounds are averaged
/// over the probes. What the probes themselves leave open is beta-distributed for start vectors uniform on the sphere;
/// here by its first two moments, the tail by the cube root of Wilson & Hilferty (1931). Cost: no matvecs, `O(m²)` per probe
/// and point for `m` steps.
///
/// ```
/// use candle_core::DType;
/// use flatness::random::{Purpose, stream};
/// use flatness::operator::DenseOperator;
/// use flatness::spectral::{SlqParams, distribution, slq};
/// use nalgebra::{DMatrix, DVector};
///
/// # fn main() -> flatness::Result<()> {
/// let valley = DenseOperator::new(DMatrix::from_diagonal(&DVector::from_vec(vec![0.0, 0.0, 0.0, 8.0])), DType::F64);
/// let nodes = slq(&valley, &SlqParams { num_steps: 2, ..SlqParams::default() }, &mut stream(0, Purpose::Probes), &mut ())?;
/// // Two distinct eigenvalues: after two steps the moments leave nothing open.
/// let report = distribution(&nodes, &[4.0]);
/// assert!(report.quadrature[0].iter().all(|share| (share - 0.75).abs() < 1e-12));
/// # Ok(())
/// # }
/// ```
pub fn distribution(slq: &SlqReport, values: &[f64]) -> DistributionReport {
    let resolution = Resolution::of(slq);
    let shares = values.iter().map(|&value| slq.mean_of(|node| f64::from(u8::from(node <= value))).0).collect();
    let (quadrature, range) = values.iter().map(|&value| bounds(slq, &resolution, value)).unzip();
    DistributionReport { values: values.to_vec(), shares, quadrature, range }
}

/// Of the share up to `value`: what the quadrature allows, and that with the probes.
pub(super) fn bounds(slq: &SlqReport, resolution: &Resolution, value: f64) -> ([f64; 2], [f64; 2]) {
    if slq.probes.is_empty() {
        return ([f64::NAN; 2], [f64::NAN; 2]);
    }
    let known: f64 = slq.known().filter(|(known, _)| *known <= value).map(|(_, weight)| weight).sum();
    let rest = 1.0 - slq.known().map(|(_, weight)| weight).sum::<f64>();
    if slq.source.is_spectrum() || rest <= 0.0 {
        return ([known; 2], [known; 2]);
    }
    let probes = resolution.probes.len() as f64;
    let dim = slq.dim.saturating_sub(slq.known[0] + slq.known[1]) as f64;
    let mut open = [0.0; 2];
    for jacobi in &resolution.probes {
        let [low, high] = jacobi.bounds(value);
        open[0] += low / probes;
        open[1] += high / probes;
    }
    let whole = |share: f64| (known + rest * share).clamp(0.0, 1.0);
    (open.map(whole), [whole(interval(open[0], probes, dim)[0]), whole(interval(open[1], probes, dim)[1])])
}

/// A 95 % interval for a share seen as `share` by this many probes in `dim` dimensions.
fn interval(share: f64, probes: f64, dim: f64) -> [f64; 2] {
    if share > 0.5 {
        let [low, high] = interval(1.0 - share, probes, dim);
        return [1.0 - high, 1.0 - low];
    }
    // A sum of squares with variance 2·share·(1 − share)/(probes·(dim + 2)) has these degrees of freedom; that of a single
    // eigenvalue has one for each probe.
    let degrees = probes * (dim + 2.0) * share / (1.0 - share);
    chi_square_interval(share, degrees.max(probes)).map(|end| end.min(1.0))
}

/// The 95 % interval of a positive number that was seen as `value`, a multiple of `χ²` with this many degrees of freedom.
pub(super) fn chi_square_interval(value: f64, degrees: f64) -> [f64; 2] {
    if value <= 0.0 || degrees <= 0.0 || degrees.is_nan() {
        return [value.max(0.0); 2];
    }
    // Of χ²/degrees.
    let quantile = |normal: f64| {
        let spread = 2.0 / (9.0 * degrees);
        (1.0 - spread + normal * spread.sqrt()).max(0.0).powi(3)
    };
    [value / quantile(NORMAL), value / quantile(-NORMAL)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::{DenseOperator, symmetric_eigen};
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::with_spectrum;
    use crate::spectral::vectors::rademacher_block;
    use crate::spectral::{SlqParams, slq};
    use candle_core::{DType, Device};

    /// Sinks below zero, a bulk, five outliers.
    fn operator() -> DenseOperator {
        let value = |i: usize| if i < 5 { 8.0 - i as f64 } else { 0.1 * (i as f64 - 12.0) };
        with_spectrum(&(0..60).map(value).collect::<Vec<_>>(), DType::F64, 5)
    }

    #[test]
    fn bounds_hold_what_each_probe_truly_sees() {
        let (values, vectors) = symmetric_eigen(operator().matrix().clone());
        let starts = rademacher_block((4, 60), DType::F64, &Device::Cpu, &mut stream(3, Purpose::Probes)).unwrap();
        let starts = starts.to_vec2::<f64>().unwrap();
        let params = SlqParams { num_probes: 4, num_steps: 7, ..SlqParams::default() };
        let slq = slq(&operator(), &params, &mut stream(3, Purpose::Probes), &mut ()).unwrap();
        let points = [-1.0, -0.33, 0.0, 0.45, 1.1, 3.5, 6.5, 9.0];
        let report = distribution(&slq, &points);
        for (point, [low, high]) in points.iter().zip(&report.quadrature) {
            let seen = |i: usize, start: &Vec<f64>| {
                vectors.column(i).dot(&nalgebra::DVector::from_column_slice(start)).powi(2)
            };
            let below = (0..60).filter(|&i| values[i] <= *point);
            let truth: f64 = below.map(|i| starts.iter().map(|start| seen(i, start)).sum::<f64>() / 240.0).sum();
            assert!(*low - 1e-10 <= truth && truth <= *high + 1e-10, "{point}: {low} {truth} {high}");
        }
    }

    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        // A mean over 4 probes of the share of 3 of 60 eigenvalues: a quotient of sums of squares, drawn as such.
        use rand_distr::{Distribution, StandardNormal};
        let (mut rng, mut held, draws) = (stream(5, Purpose::Check), 0, 4_000);
        for _ in 0..draws {
            let probe = |rng: &mut _| {
                let squares: Vec<f64> = (0..60).map(|_| f64::powi(StandardNormal.sample(rng), 2)).collect();
                squares[..3].iter().sum::<f64>() / squares.iter().sum::<f64>()
            };
            let share = (0..4).map(|_| probe(&mut rng)).sum::<f64>() / 4.0;
            let [low, high] = interval(share, 4.0, 60.0);
            held += usize::from(low <= 0.05 && 0.05 <= high);
        }
        let coverage = held as f64 / draws as f64;
        // Its own binomial error is 0.35 points; the degrees of freedom are those of the share seen.
        assert!((coverage - 0.95).abs() < 0.02, "{coverage}");
        assert_eq!(interval(0.0, 4.0, 100.0), [0.0, 0.0]);
        // Far less than a single eigenvalue shows is hardly one.
        assert!(interval(1e-20, 4.0, 100.0)[1] < 1e-18);
        let [low, high] = [interval(0.3, 4.0, 120.0), interval(0.7, 4.0, 120.0)];
        assert!((low[0] - (1.0 - high[1])).abs() < 1e-15 && (low[1] - (1.0 - high[0])).abs() < 1e-15);
    }
}
