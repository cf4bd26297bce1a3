//! Laws `exp(−β w)` on a grid, by quadrature.

use rand::Rng;

use super::Potential;
use crate::random::uniform;

/// What stands in the exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Energy {
    /// `u`, the target of SGLD.
    Plain,
    /// `v = u + σ²/2 tr ∇²u`, the target of fSGLD to second order in `σ`.
    Flatness,
    /// `E u(x + σ z)`, `z` normal: the potential of the mean drift of fSGLD.
    Smoothed,
}

impl Energy {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "u",
            Self::Flatness => "v",
            Self::Smoothed => "u_smoothed",
        }
    }
}

/// Cells along an axis of a grid in one dimension, and in two.
const CELLS: [usize; 2] = [8_000, 300];
/// Half the width of every grid: the walls are quadratic, so that at temperatures up to 1 less than `exp(−18)` of a law
/// lies beyond.
const REACH: f64 = 8.0;
/// The ring's walls are steeper.
const RING_REACH: f64 = 3.0;

/// The law `exp(−β w)/Z` of a potential in one or two dimensions, constant within each cell of a grid.
#[derive(Debug, Clone)]
pub struct Law {
    dim: usize,
    /// Centres of the cells along each axis, ascending.
    centres: Vec<f64>,
    /// Mass of each cell, the first axis slowest; adds up to 1.
    mass: Vec<f64>,
    /// Mass of the cells up to and with each.
    cumulative: Vec<f64>,
}

impl Law {
    /// The law of `energy` at inverse temperature `beta` and perturbation `sigma`; `None` in more than two dimensions.
    ///
    /// Cost: one value per cell, 8000 in one dimension and 300² in two, times 33 per dimension where it is smoothed. The
    /// midpoint rule converges faster than any power of the spacing on such laws (Trefethen and Weideman 2014).
    pub fn new(potential: &Potential, energy: Energy, beta: f64, sigma: f64) -> Option<Self> {
        let dim = potential.dim();
        let cells = *CELLS.get(dim.checked_sub(1)?)?;
        Some(Self::with_cells(potential, energy, beta, sigma, cells))
    }

    fn with_cells(potential: &Potential, energy: Energy, beta: f64, sigma: f64, cells: usize) -> Self {
        let dim = potential.dim();
        let reach = if matches!(potential, Potential::Ring { .. }) { RING_REACH } else { REACH };
        let spacing = 2.0 * reach / cells as f64;
        let centres: Vec<f64> = (0..cells).map(|i| -reach + (i as f64 + 0.5) * spacing).collect();
        let value = |x: &[f64]| match energy {
            Energy::Plain => potential.value(x),
            Energy::Flatness => potential.value(x) + 0.5 * sigma * sigma * potential.hessian_trace(x),
            Energy::Smoothed => smoothed(potential, x, sigma),
        };
        let energies: Vec<f64> = if dim == 1 {
            centres.iter().map(|x| value(&[*x])).collect()
        } else {
            centres.iter().flat_map(|x| centres.iter().map(|y| value(&[*x, *y])).collect::<Vec<_>>()).collect()
        };
        let lowest = energies.iter().copied().fold(f64::INFINITY, f64::min);
        let weights: Vec<f64> = energies.iter().map(|energy| (-beta * (energy - lowest)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mass: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
        let cumulative = mass
            .iter()
            .scan(0.0, |sum, mass| {
                *sum += mass;
                Some(*sum)
            })
            .collect();
        Self { dim, centres, mass, cumulative }
    }

    fn spacing(&self) -> f64 {
        self.centres[1] - self.centres[0]
    }

    /// Centre of cell `index` and its mass.
    fn cell(&self, index: usize) -> (Vec<f64>, f64) {
        let count = self.centres.len();
        let place = match self.dim {
            1 => vec![self.centres[index]],
            _ => vec![self.centres[index / count], self.centres[index % count]],
        };
        (place, self.mass[index])
    }

    /// `E f(x)`.
    pub fn mean(&self, f: impl Fn(&[f64]) -> f64) -> f64 {
        (0..self.mass.len())
            .map(|index| {
                let (place, mass) = self.cell(index);
                if mass > 0.0 { mass * f(&place) } else { 0.0 }
            })
            .sum()
    }

    /// In one dimension: the density at the centres, as places and values.
    pub fn density(&self) -> Vec<(f64, f64)> {
        let spacing = self.spacing();
        self.centres.iter().zip(&self.mass).map(|(place, mass)| (*place, mass / spacing)).collect()
    }

    /// In two dimensions: centres of the cells of either axis, and the density with the first axis slowest.
    pub fn surface(&self) -> (&[f64], Vec<f64>) {
        let area = self.spacing().powi(2);
        (&self.centres, self.mass.iter().map(|mass| mass / area).collect())
    }

    /// In one dimension: the number below which the share `probability` of the law lies.
    pub fn quantile(&self, probability: f64) -> f64 {
        let last = self.mass.len() - 1;
        let index = self.cumulative.partition_point(|sum| *sum < probability).min(last);
        let above =
            if self.mass[index] > 0.0 { (self.cumulative[index] - probability) / self.mass[index] } else { 0.5 };
        self.centres[index] + (0.5 - above.clamp(0.0, 1.0)) * self.spacing()
    }

    /// One exact draw, into `place`.
    pub fn draw(&self, rng: &mut impl Rng, place: &mut [f64]) {
        let probability = uniform(rng);
        if self.dim == 1 {
            place[0] = self.quantile(probability);
            return;
        }
        let index = self.cumulative.partition_point(|sum| *sum < probability).min(self.mass.len() - 1);
        let (centre, _) = self.cell(index);
        for (place, centre) in place.iter_mut().zip(centre) {
            *place = centre + (uniform(rng) - 0.5) * self.spacing();
        }
    }
}

/// `E u(x + σ z)` by the trapezoidal rule on `z` in −6..6 along each axis, spacing 3/8: exact to 1e-8 of `u`'s scale, for
/// the rule's error on a normal weight falls as `exp(−2 π²/(3/8)²)`, and less than 2e-9 of the weight lies beyond.
fn smoothed(potential: &Potential, x: &[f64], sigma: f64) -> f64 {
    if sigma == 0.0 {
        return potential.value(x);
    }
    let nodes: Vec<(f64, f64)> = (-16..=16)
        .map(|i| {
            let z = 0.375 * f64::from(i);
            (sigma * z, (-0.5 * z * z).exp())
        })
        .collect();
    let total: f64 = nodes.iter().map(|(_, weight)| weight).sum();
    match x {
        [x] => nodes.iter().map(|(move_x, weight)| weight * potential.value(&[x + move_x])).sum::<f64>() / total,
        [x, y] => {
            let row = |move_x: f64| -> f64 {
                nodes.iter().map(|(move_y, weight)| weight * potential.value(&[x + move_x, y + move_y])).sum()
            };
            nodes.iter().map(|(move_x, weight)| weight * row(*move_x)).sum::<f64>() / (total * total)
        }
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn a_gaussian_law_has_its_moments_and_quantiles() {
        let gaussian = Potential::Gaussian { curvatures: vec![2.0] };
        let law = Law::new(&gaussian, Energy::Plain, 3.0, 0.0).unwrap();
        // Variance 1/(βk); a constant density within cells of width h adds h²/12 to exact moments, but moments are taken
        // at the centres, where the midpoint rule is exact to rounding.
        assert!((law.mean(|x| x[0] * x[0]) - 1.0 / 6.0).abs() < 1e-12);
        // qnorm(0.975) = 1.959963984540054; linear within cells: h²/8 times the slope of the density, 1e-6.
        assert!((law.quantile(0.975) - 1.959_963_984_540_054 / 6f64.sqrt()).abs() < 2e-6);
        assert!(law.quantile(0.5).abs() < 1e-12);
        let mut rng = stream(3, Purpose::LangevinLaw);
        let mut squares = 0.0;
        let mut place = [0.0];
        for _ in 0..20_000 {
            law.draw(&mut rng, &mut place);
            squares += place[0] * place[0];
        }
        // Standard error of a variance: variance·sqrt(2/n) = 0.0017.
        assert!((squares / 20_000.0 - 1.0 / 6.0).abs() < 4.0 * 0.0017);
    }

    #[test]
    fn smoothing_a_quadratic_adds_its_trace() {
        let gaussian = Potential::Gaussian { curvatures: vec![2.0, 5.0] };
        let x = [0.3, -0.7];
        let expected = gaussian.value(&x) + 0.5 * 0.04 * 7.0;
        assert!((smoothed(&gaussian, &x, 0.2) - expected).abs() < 1e-8 * expected);
    }

    #[test]
    fn refinement_changes_nothing() {
        for (potential, cells) in [(Potential::double_well(), 8_000), (Potential::ring(), 300)] {
            for energy in [Energy::Plain, Energy::Flatness] {
                let share = |cells| {
                    let law = Law::with_cells(&potential, energy, 2.0, 0.3, cells);
                    law.mean(|x| f64::from(u8::from(potential.is_flat_side(x))))
                };
                // The ring's sides meet between cells. Between the wells the edge cuts a cell of 0.002, where the density is
                // below 0.01.
                assert!((share(cells) - share(2 * cells)).abs() < 3e-5, "{potential:?} {energy:?}");
            }
        }
    }

    #[test]
    fn more_flatness_in_the_energy_moves_mass_to_the_flat_side() {
        for potential in [Potential::double_well(), Potential::ring()] {
            let share = |energy| {
                let law = Law::new(&potential, energy, 2.0, 0.3).unwrap();
                law.mean(|x| f64::from(u8::from(potential.is_flat_side(x))))
            };
            assert!(share(Energy::Flatness) > share(Energy::Plain) + 0.05, "{potential:?}");
        }
    }
}
