//! Potentials with closed forms: value, gradient and trace of the Hessian.

/// A function `u` of few variables that Langevin dynamics descends.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Potential {
    /// `−(1/s) ln(exp(−s q₁) + exp(−s q₂))` in one dimension, `q_i = k_i (x ± m)²/2`: two minima of equal depth to
    /// `exp(−2 s k₂ m²)`, a sharp one at `−m` and a flat one at `m = 1.8`, between quadratic walls. Its gradient is
    /// Lipschitz, as the theory asks.
    DoubleWell {
        /// Curvature `k₁` at `−m`.
        sharp: f64,
        /// Curvature `k₂` at `m`.
        flat: f64,
        /// `s`: how sharply the parabolas meet.
        join: f64,
    },
    /// `Σ k_i x_i²/2`.
    Gaussian {
        /// The curvatures `k_i`.
        curvatures: Vec<f64>,
    },
    /// `k (r² − 1)² (1 + a x/ρ)/8` in two dimensions, `r² = x² + y²` and `ρ² = r² + δ²`: a valley along the unit
    /// circle, whose walls are about `(1 + a)/(1 − a)` times as steep on the right as on the left.
    Ring {
        /// Mean curvature `k` across the valley.
        curvature: f64,
        /// `a`, in 0..1.
        contrast: f64,
    },
}

/// `m`, where the wells are.
const WELL: f64 = 1.8;
/// `δ` of the ring: keeps it smooth at the origin.
const SMOOTHING: f64 = 0.3;

impl Potential {
    /// A sharp well of curvature 8 and a flat one of curvature 1.
    pub fn double_well() -> Self {
        Self::DoubleWell { sharp: 8.0, flat: 1.0, join: 1.5 }
    }

    /// A valley whose walls have curvatures 4 to 16.
    pub fn ring() -> Self {
        Self::Ring { curvature: 10.0, contrast: 0.6 }
    }

    /// How many variables it has.
    pub fn dim(&self) -> usize {
        match self {
            Self::DoubleWell { .. } => 1,
            Self::Gaussian { curvatures } => curvatures.len(),
            Self::Ring { .. } => 2,
        }
    }

    /// A bound on the curvature along any direction where the dynamics spends its time: steps of `2/bound` diverge.
    pub fn steepest(&self) -> f64 {
        match self {
            Self::DoubleWell { sharp, flat, .. } => sharp.max(*flat),
            Self::Gaussian { curvatures } => curvatures.iter().copied().fold(0.0, f64::max),
            Self::Ring { curvature, contrast } => curvature * (1.0 + contrast),
        }
    }

    /// `u(x)`.
    pub fn value(&self, x: &[f64]) -> f64 {
        match (self, x) {
            (Self::DoubleWell { sharp, flat, join }, [x]) => {
                let (q1, q2) = (0.5 * sharp * (x + WELL).powi(2), 0.5 * flat * (x - WELL).powi(2));
                let least = q1.min(q2);
                least - ((-join * (q1 - least)).exp() + (-join * (q2 - least)).exp()).ln() / join
            }
            (Self::Gaussian { curvatures }, x) => curvatures.iter().zip(x).map(|(k, x)| 0.5 * k * x * x).sum(),
            (Self::Ring { curvature, contrast }, [x, y]) => {
                let Ring { off, tilt, .. } = Ring::at(*x, *y, *contrast);
                curvature / 8.0 * off * off * tilt
            }
            _ => f64::NAN,
        }
    }

    /// `∇u(x)` into `gradient`, both of length [`Potential::dim`].
    pub fn gradient(&self, x: &[f64], gradient: &mut [f64]) {
        match (self, x, gradient) {
            (Self::DoubleWell { sharp, flat, join }, [x], [slope]) => {
                let (share, d1, d2) = wells(*x, *sharp, *flat, *join);
                *slope = share * d1 + (1.0 - share) * d2;
            }
            (Self::Gaussian { curvatures }, x, gradient) => {
                for ((slope, k), x) in gradient.iter_mut().zip(curvatures).zip(x) {
                    *slope = k * x;
                }
            }
            (Self::Ring { curvature, contrast }, [x, y], [along_x, along_y]) => {
                let Ring { off, rho, tilt, .. } = Ring::at(*x, *y, *contrast);
                let (steep, turn) = (4.0 * off * tilt, off * off * contrast);
                *along_x = curvature / 8.0 * (steep * x + turn * (1.0 / rho - x * x / rho.powi(3)));
                *along_y = curvature / 8.0 * (steep * y - turn * x * y / rho.powi(3));
            }
            (_, _, gradient) => gradient.fill(f64::NAN),
        }
    }

    /// `tr ∇²u(x)`.
    pub fn hessian_trace(&self, x: &[f64]) -> f64 {
        match (self, x) {
            (Self::DoubleWell { sharp, flat, join }, [x]) => {
                let (share, d1, d2) = wells(*x, *sharp, *flat, *join);
                share * sharp + (1.0 - share) * flat - join * share * (1.0 - share) * (d1 - d2).powi(2)
            }
            (Self::Gaussian { curvatures }, _) => curvatures.iter().sum(),
            (Self::Ring { curvature, contrast }, [x, y]) => {
                let Ring { square, off, rho, tilt } = Ring::at(*x, *y, *contrast);
                // Δ(AB) = BΔA + 2∇A·∇B + AΔB with A = (r² − 1)², B = 1 + a x/ρ.
                let first = tilt * (16.0 * square - 8.0);
                let cross = 8.0 * off * contrast * x / rho * (SMOOTHING / rho).powi(2);
                let second = off * off * contrast * x * (3.0 * square / rho.powi(5) - 4.0 / rho.powi(3));
                curvature / 8.0 * (first + cross + second)
            }
            _ => f64::NAN,
        }
    }

    /// Whether `x` lies on the flat side: right of the top between the wells, or left on the ring.
    pub fn is_flat_side(&self, x: &[f64]) -> bool {
        match (self, x) {
            (Self::DoubleWell { sharp, flat, .. }, [x]) => {
                // Where the parabolas cross.
                let (a, b) = (sharp.sqrt(), flat.sqrt());
                *x > WELL * (b - a) / (a + b)
            }
            (Self::Ring { .. }, [x, _]) => *x < 0.0,
            _ => false,
        }
    }

    /// The minimum with the largest curvature.
    pub fn sharp_minimum(&self) -> Vec<f64> {
        match self {
            Self::DoubleWell { .. } => vec![-WELL],
            Self::Gaussian { curvatures } => vec![0.0; curvatures.len()],
            Self::Ring { .. } => vec![1.0, 0.0],
        }
    }
}

/// Parts of the ring at a place.
struct Ring {
    /// `r²`.
    square: f64,
    /// `r² − 1`.
    off: f64,
    rho: f64,
    /// `1 + a x/ρ`.
    tilt: f64,
}

impl Ring {
    fn at(x: f64, y: f64, contrast: f64) -> Self {
        let square = x * x + y * y;
        let rho = (square + SMOOTHING * SMOOTHING).sqrt();
        Self { square, off: square - 1.0, rho, tilt: 1.0 + contrast * x / rho }
    }
}

/// Weight of the sharp well at `x`, and the slopes of both parabolas.
fn wells(x: f64, sharp: f64, flat: f64, join: f64) -> (f64, f64, f64) {
    let (q1, q2) = (0.5 * sharp * (x + WELL).powi(2), 0.5 * flat * (x - WELL).powi(2));
    (1.0 / (1.0 + (join * (q1 - q2)).exp()), sharp * (x + WELL), flat * (x - WELL))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Potential; 3] {
        [Potential::double_well(), Potential::Gaussian { curvatures: vec![3.0, 0.5] }, Potential::ring()]
    }

    /// Points off every symmetry.
    fn points(dim: usize) -> Vec<Vec<f64>> {
        (0..12).map(|i| (0..dim).map(|j| ((7 * i + 5 * j) as f64 * 0.61).sin() * 2.4).collect()).collect()
    }

    #[test]
    fn gradients_and_traces_agree_with_differences_of_the_value() {
        for potential in all() {
            for x in points(potential.dim()) {
                let moved = |j: usize, h: f64| {
                    let mut x = x.clone();
                    x[j] += h;
                    potential.value(&x)
                };
                let mut gradient = vec![0.0; x.len()];
                potential.gradient(&x, &mut gradient);
                // Central differences in f64: 1e-16/1e-5 of rounding and 1e-10 times third derivatives of some hundreds
                // for the slope; with h = 1e-4, 1e-8 and 1e-8 times fourth derivatives of some thousands for the trace.
                let mut trace = 0.0;
                for (j, slope) in gradient.iter().enumerate() {
                    let difference = (moved(j, 1e-5) - moved(j, -1e-5)) / 2e-5;
                    assert!((slope - difference).abs() < 1e-7 * (1.0 + slope.abs()), "{potential:?} {x:?}");
                    trace += (moved(j, 1e-4) - 2.0 * potential.value(&x) + moved(j, -1e-4)) / 1e-8;
                }
                let exact = potential.hessian_trace(&x);
                assert!((exact - trace).abs() < 1e-4 * (1.0 + exact.abs()), "{potential:?} {x:?}: {exact} {trace}");
            }
        }
    }

    #[test]
    fn wells_are_equally_deep_and_differ_in_curvature() {
        let well = Potential::double_well();
        // The flat parabola is 6.48 above the sharp minimum, with a weight of exp(−1.5·6.48) = 6e-5 and slopes 3.6
        // apart: 6e-5/1.5 of the height, 6e-5·(7 + 1.5·3.6²) of the curvature.
        assert!(well.value(&[-WELL]).abs() < 5e-5 && well.value(&[WELL]).abs() < 1e-12);
        assert!((well.hessian_trace(&[-WELL]) - 8.0).abs() < 2e-3 && (well.hessian_trace(&[WELL]) - 1.0).abs() < 1e-9);
        assert!(well.is_flat_side(&[WELL]) && !well.is_flat_side(&[-WELL]));
        let ring = Potential::ring();
        assert!(ring.value(&ring.sharp_minimum()) == 0.0 && !ring.is_flat_side(&ring.sharp_minimum()));
    }
}
