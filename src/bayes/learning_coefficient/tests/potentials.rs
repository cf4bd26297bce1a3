//! Potentials in one and two dimensions.

use super::{Copies, Dynamics, Potential, estimate};

/// Half the sides of the grids: beyond, the localisation alone leaves less than `exp(−18)`.
const REACH: f64 = 6.0;

/// `E nβ L` under `exp(−nβ L − γ x²/2)` by the midpoint rule, which converges faster than any power of the spacing on such
/// laws (Trefethen and Weideman 2014).
fn quadrature(potential: Potential, n_beta: f64, gamma: f64) -> f64 {
    let cells = 1600;
    let side = REACH / gamma.sqrt();
    let grid = || (0..cells).map(|cell| side * ((2 * cell + 1) as f64 / cells as f64 - 1.0));
    let mut sums = (0.0, 0.0);
    let mut add = |excess: f64, square: f64| {
        let weight = (-excess - 0.5 * gamma * square).exp();
        sums = (sums.0 + weight, sums.1 + weight * excess);
    };
    for x in grid() {
        match potential {
            Potential::Quadratic(curvatures) => add(0.5 * n_beta * curvatures[0] * x * x, x * x),
            Potential::Quartic => add(n_beta * x.powi(4), x * x),
            Potential::Cross => grid().for_each(|y| add(n_beta * (x * y).powi(2), x * x + y * y)),
        }
    }
    sums.1 / sums.0
}

#[test]
fn regular_and_singular_potentials_have_their_quadrature() {
    // The step sizes leave a bias of 1 to 2 %.
    for (potential, n_beta, gamma, step_size, draws) in [
        (Potential::Quadratic(&[2.0]), 100.0, 20.0, 4e-4, 4000),
        (Potential::Quartic, 100.0, 2.0, 6e-4, 4000),
        (Potential::Quartic, 1e4, 2.0, 6e-5, 4000),
        (Potential::Cross, 1000.0, 50.0, 3e-4, 10_000),
    ] {
        let copies = 100;
        let dynamics = Dynamics { n_beta, gamma, step_size };
        let found = estimate(&Copies::new(potential, copies), dynamics, 1500, draws);
        let exact = quadrature(potential, n_beta, gamma) * copies as f64;
        assert_eq!(found.fault, None, "{found:?}");
        assert!(found.std_err < 0.05 * exact, "{found:?}");
        assert!((found.value - exact).abs() < 0.05 * exact, "{} for {exact}: {found:?}", found.value);
        // More exactly: chance, and a bias that is known to first order.
        let corrected = found.value - found.step_size_bias;
        let slack = 4.0 * found.std_err + 0.5 * found.step_size_bias;
        assert!((corrected - exact).abs() < slack, "{corrected} for {exact}: {found:?}");
    }
}

#[test]
fn quadratics_have_their_closed_form_at_any_step_size() {
    const CURVATURES: &[f64] = &[0.0, 0.5, 4.0];
    let (n_beta, gamma, copies) = (50.0, 10.0, 200);
    let total = |term: &dyn Fn(f64) -> f64| copies as f64 * CURVATURES.iter().map(|h| term(n_beta * h)).sum::<f64>();
    let exact = total(&|pull| 0.5 * pull / (pull + gamma));
    // ε a up to 2.1, far beyond what anybody should take.
    for step_size in [0.0005, 0.002, 0.01] {
        let found = estimate(
            &Copies::new(Potential::Quadratic(CURVATURES), copies),
            Dynamics { n_beta, gamma, step_size },
            1000,
            3000,
        );
        let euler = total(&|pull| 0.5 * pull / (pull + gamma) / (1.0 - 0.25 * step_size * (pull + gamma)));
        let (mean, std_err) = (found.mixing.mean, found.mixing.std_err());
        assert!(std_err < 0.02 * exact, "{found:?}");
        assert!((mean - euler).abs() < 4.0 * std_err, "{mean} for {euler}");
        // The measured bias takes the step size out; its own error is below that of the mean.
        assert!(
            (mean - found.step_size_bias - exact).abs() < 4.0 * std_err,
            "{} for {exact}",
            mean - found.step_size_bias
        );
    }
}
