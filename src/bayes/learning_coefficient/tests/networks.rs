//! Networks: deep linear ones against reference chains, and minibatches.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::bayes::learning_coefficient::{Energy, LossEnergy, survey};
use crate::data::{Dataset, Inputs, Targets};
use crate::formats::Architecture;
use crate::objective::{Objective, ObjectiveOptions};
use crate::plan::LlcOptions;
use crate::program::{Loss, Network};
use crate::random::{Purpose, substream, uniform};
use crate::statistics::Mixing;

/// Rows of the linear networks.
const ROWS: usize = 48;

/// Linear layers of these widths without biases.
fn network(widths: &[usize]) -> Network {
    let layer = |(index, pair): (usize, &[usize])| {
        format!(r#"{{"kind": "linear", "in": {}, "out": {}, "weight": "w{index}"}}"#, pair[0], pair[1])
    };
    let layers: Vec<String> = widths.windows(2).enumerate().map(layer).collect();
    let text = format!(r#"{{"layers": [{}], "loss": {{"kind": "mse"}}}}"#, layers.join(", "));
    Architecture::from_json(&text, "test").unwrap().network(HashMap::new()).unwrap()
}

/// Inputs `[rows, width]`.
fn inputs(width: usize) -> Vec<f64> {
    (0..ROWS * width).map(|index| (1.7 * index as f64).sin() + 0.2 * (index % 5) as f64).collect()
}

/// The product of the layers' matrices, `[out, in]`, applied to `x`.
fn apply(widths: &[usize], theta: &[f64], x: &[f64]) -> Vec<f64> {
    let (mut from, mut place) = (x.to_vec(), 0);
    for pair in widths.windows(2) {
        let rows = theta[place..place + pair[0] * pair[1]].chunks_exact(pair[0]);
        from = rows.map(|row| row.iter().zip(&from).map(|(w, x)| w * x).sum()).collect();
        place += pair[0] * pair[1];
    }
    from
}

/// Rows whose targets the network with the weights `theta` predicts without error.
fn rows(widths: &[usize], theta: &[f64]) -> Dataset {
    let (first, last) = (widths[0], *widths.last().unwrap());
    let values = inputs(first).chunks_exact(first).flat_map(|x| apply(widths, theta, x)).collect();
    let targets = Targets::Values { values, sample_shape: vec![last] };
    Dataset::new("test".into(), vec![first], Inputs::Float64(inputs(first)), targets, None).unwrap()
}

/// `E nβ L` and its standard error by random-walk Metropolis, exact up to chance: it needs the loss alone.
fn reference(widths: &[usize], minimum: &[f64], n_beta: f64, gamma: f64) -> (f64, f64) {
    let first = widths[0];
    let x = inputs(first);
    // Second moments of the inputs: the loss is that of the difference of two linear maps.
    let moment = |i: usize, j: usize| x.chunks_exact(first).map(|x| x[i] * x[j]).sum::<f64>() / ROWS as f64;
    let moments: Vec<f64> = (0..first * first).map(|place| moment(place / first, place % first)).collect();
    let columns = |theta: &[f64]| -> Vec<Vec<f64>> {
        (0..first)
            .map(|j| apply(widths, theta, &(0..first).map(|i| f64::from(u8::from(i == j))).collect::<Vec<_>>()))
            .collect()
    };
    let truth = columns(minimum);
    let outputs = truth[0].len() as f64;
    let excess = |theta: &[f64]| {
        let map = columns(theta);
        let off = |i: usize, out: usize| map[i][out] - truth[i][out];
        let pairs = (0..first * first).map(|place| (place / first, place % first, moments[place]));
        let sum = |(i, j, moment): (usize, usize, f64)| {
            moment * (0..truth[0].len()).map(|out| off(i, out) * off(j, out)).sum::<f64>()
        };
        n_beta * pairs.map(sum).sum::<f64>() / outputs
    };
    let chain = |index: u64| {
        let mut rng = substream(8, Purpose::Check, index);
        let mut theta = minimum.to_vec();
        let energy = |theta: &[f64], excess: f64| {
            excess + 0.5 * gamma * theta.iter().zip(minimum).map(|(w, c)| (w - c).powi(2)).sum::<f64>()
        };
        let mut at = (excess(&theta), 0.0);
        let mut kept = Vec::new();
        for step in 0..200_000 {
            let moved: Vec<f64> = theta.iter().map(|w| w + 0.08 * normal(&mut rng)).collect();
            let there = excess(&moved);
            let energy = energy(&moved, there);
            if uniform(&mut rng) < (at.1 - energy).exp() {
                (theta, at) = (moved, (there, energy));
            }
            if step >= 20_000 && step % 20 == 0 {
                kept.push(at.0);
            }
        }
        kept
    };
    let mixing = Mixing::of(&[0, 1, 2, 3].map(chain));
    assert!(mixing.r_hat < 1.01, "{mixing:?}");
    (mixing.mean, mixing.std_err())
}

fn normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

#[test]
fn deep_linear_networks_agree_with_long_reference_chains() {
    for (widths, minimum, step_size, draws) in [
        (&[3usize, 2, 3][..], vec![1.2, 0.5, -0.4, 0.3, -1.1, 0.8, 1.0, 0.4, -0.6, 1.2, 0.2, 0.9], 2e-3, 10_000),
        // A map of rank one: all but one unit of each hidden layer are idle, and the loss is degenerate.
        (
            &[2, 3, 3, 2][..],
            [&[1.2, 0.6, 0.0, 0.0, 0.0, 0.0, 1.1][..], &[0.0; 8], &[0.9, 0.0, 0.0, -0.8, 0.0, 0.0]].concat(),
            1e-3,
            10_000,
        ),
    ] {
        let options = LlcOptions { draws, gamma: 10.0, step_size: Some(step_size), ..LlcOptions::default() };
        let (network, data) = (network(widths), rows(widths, &minimum));
        let options_of_loss = ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(Loss::Mse {}) };
        let objective = Objective::new(&network, &data, options_of_loss).unwrap();
        let theta = Tensor::new(minimum.as_slice(), &Device::Cpu).unwrap();
        let found = survey(&objective, &theta, &options, &mut (), &mut ()).unwrap();
        let estimate = found.headline().unwrap();
        assert_eq!(estimate.fault, None, "{estimate:?}");
        let (n_beta, gamma) = (estimate.dynamics.n_beta, estimate.dynamics.gamma);
        assert!((n_beta - ROWS as f64 / (ROWS as f64).ln()).abs() < 1e-12 && gamma == 10.0);
        let (exact, std_err) = reference(widths, &minimum, n_beta, gamma);
        assert!(std_err < 0.02 * exact && estimate.std_err < 0.05 * exact, "{estimate:?}");
        assert!(
            (estimate.value - exact).abs() < 0.05 * exact,
            "{} for {exact} ± {std_err}: {estimate:?}",
            estimate.value
        );
        let both = estimate.std_err.hypot(std_err);
        let corrected = estimate.value - estimate.step_size_bias;
        assert!((corrected - exact).abs() < 4.0 * both, "{corrected} for {exact} ± {both}");
    }
}

#[test]
fn minibatches_are_compared_with_the_minimum_on_the_same_rows() {
    let (widths, minimum) = (&[2usize, 2, 1][..], vec![0.9, -0.3, 0.2, 0.4, 0.5, -0.6]);
    let (network, data) = (network(widths), rows(widths, &[1.0, 0.0, 0.5, 0.1, 0.3, 0.2]));
    // Not the minimum of these rows: then the rows of a draw matter most. With an L2 term.
    let options = ObjectiveOptions { dtype: DType::F64, weight_decay: 0.3, ..ObjectiveOptions::new(Loss::Mse {}) };
    let objective = Objective::new(&network, &data, options).unwrap();
    let theta = Tensor::new(minimum.as_slice(), &Device::Cpu).unwrap();
    let energy = |batch| LossEnergy::new(&objective, &theta, batch, 7, &mut ()).unwrap();
    let (whole, some) = (energy(None), energy(Some(12)));
    assert_eq!((whole.batch_size(), some.batch_size(), energy(Some(400)).batch_size()), (ROWS, 12, ROWS));
    let rise = |energy: &LossEnergy<'_>, place: &[f64], index| energy.rise(place, index).unwrap().unwrap();
    // Rounding of losses near 1.
    assert!((0..5).all(|index| rise(&some, &minimum, index).loss.abs() < 1e-14));
    let place: Vec<f64> = minimum.iter().map(|w| w + 0.1).collect();
    let exact = rise(&whole, &place, 0);
    let draws: Vec<_> = (0..400).map(|index| rise(&some, &place, index)).collect();
    let agrees = |numbers: Vec<f64>, exact: f64| {
        let sample = crate::statistics::Sample::of(&numbers);
        assert!(sample.std_dev > 0.0 && (sample.mean - exact).abs() < 4.0 * sample.std_err(), "{sample:?} for {exact}");
    };
    agrees(draws.iter().map(|draw| draw.loss).collect(), exact.loss);
    for slope in 0..minimum.len() {
        agrees(draws.iter().map(|draw| draw.gradient[slope]).collect(), exact.gradient[slope]);
    }
    assert_eq!(rise(&some, &place, 3), draws[3]);
}
