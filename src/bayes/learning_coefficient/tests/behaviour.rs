//! Threads, states, and chains that have not settled.

use std::ops::ControlFlow;

use super::{Chain, Copies, Dynamics, Energy, Estimate, Potential, Rise, Watch, chains, estimate, sample, schedule};
use crate::bayes::learning_coefficient::sweep::recommended;
use crate::bayes::learning_coefficient::{ChainStore, Fault, Schedule, Visit};
use crate::team::testing::Crew;
use crate::{Error, Observer, Result, Step, Workers};

const DYNAMICS: Dynamics = Dynamics { n_beta: 100.0, gamma: 20.0, step_size: 4e-4 };

fn energy() -> Copies {
    Copies::new(Potential::Quadratic(&[2.0]), 100)
}

#[test]
fn bits_do_not_depend_on_the_threads_nor_on_other_chains() {
    let of = |threads: usize, chains_at_once: usize, count: usize| {
        let workers = Workers::new(threads).unwrap();
        let schedule = Schedule { chains: count, at_a_time: chains_at_once, workers, ..schedule(30, 5) };
        chains(&Copies::new(Potential::Quartic, 5000), DYNAMICS, &schedule)
    };
    let one = of(1, 1, 4);
    assert_eq!(of(3, 3, 4), one);
    assert_eq!(of(2, 1, 4), one);
    assert_eq!(of(2, 2, 3), one[..3]);
    assert_ne!(one[0].visits[1], one[1].visits[1]);
    // The first visit is the minimum.
    assert!(one.iter().all(|chain| chain.visits[0].rise == 0.0 && chain.visits[0].square_distance == 0.0));
}

/// Keeps the chains, and stops the run.
#[derive(Default)]
struct Kept(Option<Vec<Chain>>);

impl ChainStore for Kept {
    fn load(&mut self, _: usize) -> Result<Option<Vec<Chain>>> {
        Ok(self.0.take())
    }

    fn is_due(&mut self, last: bool) -> bool {
        last
    }

    fn keep(&mut self, _: usize, chains: &[Chain]) {
        self.0 = Some(chains.to_vec());
    }
}

struct StopsAt(usize);

impl Observer for StopsAt {
    fn on_step(&mut self, step: &Step) -> ControlFlow<()> {
        if step.done >= self.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn chains_that_were_interrupted_go_on_as_if_nothing_had_been() {
    let (whole, mut kept) = (chains(&energy(), DYNAMICS, &schedule(50, 2)), Kept::default());
    let watch = Watch { setting: 0, store: &mut kept, observer: &mut StopsAt(20) };
    assert!(matches!(sample(&energy(), &DYNAMICS, &schedule(50, 2), watch), Err(Error::Interrupted)));
    assert_eq!(kept.0.as_ref().unwrap()[0].visits.len(), 24);
    // With as many ranks as one likes, of which rank 0 keeps all chains.
    for ranks in 1..=4 {
        let found = Crew::each(ranks, |team| {
            let mut kept = Kept(kept.0.clone());
            let watch = Watch { setting: 0, store: &mut kept, observer: &mut () };
            let schedule = Schedule { team, ..schedule(50, 2) };
            let chains = sample(&energy(), &DYNAMICS, &schedule, watch).unwrap();
            (chains.into_iter().map(|chain| chain.visits).collect::<Vec<_>>(), kept.0.unwrap_or_default())
        });
        assert!(found.iter().all(|(visits, _)| visits.iter().eq(whole.iter().map(|chain| &chain.visits))));
        assert_eq!(found[0].1, whole);
        assert!(found[1..].iter().all(|(_, kept)| kept.is_empty()));
    }
}

/// `−x²/2`, of which 0 is the top.
struct Hill(Vec<f64>);

impl Energy for Hill {
    fn minimum(&self) -> &[f64] {
        &self.0
    }

    fn rise(&self, place: &[f64], _: u64) -> Result<Option<Rise>> {
        let loss = -0.5 * place.iter().map(|x| x * x).sum::<f64>();
        Ok(Some(Rise { loss, gradient: place.iter().map(|x| -x).collect() }))
    }
}

#[test]
fn chains_that_have_not_settled_give_no_number_but_a_reason() {
    let quadratic = |dynamics, burn_in, draws| estimate(&energy(), dynamics, burn_in, draws);
    let fault = |found: &Estimate| found.fault.map_or("", Fault::name);
    // ε a above 4: x² grows a hundredfold in each step until it overflows.
    let lost = quadratic(Dynamics { step_size: 0.1, ..DYNAMICS }, 400, 400);
    assert!(matches!(lost.fault, Some(Fault::Lost(50..400))), "{lost:?}");
    let small = Dynamics { step_size: 1e-5, ..DYNAMICS };
    assert_eq!(fault(&quadratic(small, 10, 500)), "r_hat");
    // The steep direction is quick, those without curvature are not: 2/(εγ) is 250 steps.
    let flat = estimate(&Copies::new(Potential::Quadratic(&[20.0, 0.0, 0.0, 0.0]), 100), DYNAMICS, 60, 120);
    assert!(matches!(flat.fault, Some(Fault::Unmixed { of_distance: true, .. })), "{flat:?}");
    assert_eq!(fault(&waves()), "few_draws");
    assert_eq!(fault(&estimate(&Hill(vec![0.0; 100]), Dynamics { gamma: 200.0, ..DYNAMICS }, 200, 1000)), "negative");
    // Stable, but 1/(1 − εa/4) is 1.28.
    let biased = quadratic(Dynamics { step_size: 4e-3, ..DYNAMICS }, 200, 1000);
    assert_eq!(fault(&biased), "step_size_bias");
    for found in [lost, flat, biased] {
        assert!(
            found.value.is_nan() && found.std_err.is_nan() && found.advice().is_some_and(|words| words.contains("--"))
        );
        let row = found.summary();
        assert!(!row.converged && row.value.is_nan());
    }
    let sound = quadratic(DYNAMICS, 200, 1000);
    assert!(sound.fault.is_none() && sound.advice().is_none() && sound.summary().converged, "{sound:?}");
}

/// Chains whose halves agree and which are slow all the same: one wave of 50 steps in each half.
fn waves() -> Estimate {
    let wave = |step: usize| 1.0 + (step as f64 * std::f64::consts::TAU / 50.0).sin();
    let visit = |step| Visit { rise: wave(step), square_distance: wave(step), slope: 0.0 };
    let chain = Chain { place: Vec::new(), visits: (0..100).map(visit).collect() };
    Estimate::of(&vec![chain; 4], DYNAMICS, 0)
}

#[test]
fn a_sweep_recommends_the_smallest_settled_localisation_and_the_largest_sound_step() {
    let sound = quadratic_at(20.0, 4e-4);
    let at = |gamma: f64, step_size: f64, value: f64, fault: Option<Fault>| {
        let dynamics = Dynamics { gamma, step_size, ..DYNAMICS };
        Estimate { dynamics, value, std_err: 0.01, step_size_bias: 0.0, fault, ..sound.clone() }
    };
    let fault = Some(Fault::FewDraws(3.0));
    let mut all = vec![
        at(1.0, 1e-4, f64::NAN, fault),
        at(10.0, 1e-4, 10.0, None),
        at(10.0, 2e-4, 10.1, None),
        at(10.0, 4e-4, 11.0, None),
        at(100.0, 8e-4, 5.0, None),
    ];
    // 11 differs from 10 by a tenth, 10.1 by a hundredth.
    assert_eq!(recommended(&all), Some(2));
    // Not so once its bias is taken off.
    all[3].step_size_bias = 0.8;
    assert_eq!(recommended(&all), Some(3));
    all[1..].iter_mut().for_each(|own| own.fault = fault);
    assert_eq!(recommended(&all), None);
}

fn quadratic_at(gamma: f64, step_size: f64) -> Estimate {
    estimate(&energy(), Dynamics { gamma, step_size, ..DYNAMICS }, 200, 1000)
}
