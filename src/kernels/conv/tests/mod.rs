//! Random shapes against a plain loop in double precision, and the identities that must hold.

mod case;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::kernels::element::Element;
use case::{Case, KINDS, Kind, assert_within_rounding};

fn random_cases<T: Element>(num_cases: usize, seed: u64, isa: Isa, epsilon: f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for index in 0..num_cases {
        let case = Case::random(&mut rng);
        for kind in KINDS {
            let operands = case.operands::<T>(kind, &mut rng);
            let label = format!("case {index}, {kind:?}, {:?}", case.geometry);
            assert_within_rounding(&case.run(isa, kind, &operands), &case.reference(kind, &operands), epsilon, &label);
        }
    }
}

#[test]
fn random_shapes_match_a_plain_loop_on_every_instruction_set() {
    for &isa in Isa::available() {
        random_cases::<f32>(100, 1, isa, f32::EPSILON.into());
        random_cases::<f64>(100, 2, isa, f64::EPSILON);
    }
}

fn random_cases_of_methods<T: Element>(num_cases: usize, seed: u64, isa: Isa, epsilon: f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for index in 0..num_cases {
        let (lowered, depthwise) = (Case::random_lowered(&mut rng), Case::random_depthwise(&mut rng));
        for kind in KINDS {
            for (case, is_depthwise) in [(&lowered, false), (&depthwise, true)] {
                let operands = case.operands::<T>(kind, &mut rng);
                let label = format!("case {index}, {kind:?}, {:?}", case.geometry);
                let got = match is_depthwise {
                    true => case.run_depthwise(isa, kind, &operands),
                    false => case.run_lowered(isa, kind, &operands),
                };
                let Some(got) = got else { continue };
                assert_within_rounding(&got, &case.reference(kind, &operands), epsilon, &label);
            }
        }
    }
}

#[test]
fn products_and_single_channels_match_a_plain_loop_on_every_instruction_set() {
    for &isa in Isa::available() {
        random_cases_of_methods::<f32>(60, 11, isa, f32::EPSILON.into());
        random_cases_of_methods::<f64>(60, 12, isa, f64::EPSILON);
    }
}

#[test]
fn network_shapes_match_a_plain_loop() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (channels, size, kernel, stride, groups) in
        [(16, 32, 3, 1, 1), (16, 31, 3, 2, 1), (10, 9, 1, 2, 1), (24, 8, 3, 1, 24), (4, 48, 5, 1, 2)]
    {
        let geometry = ConvGeometry {
            in_channels: channels,
            out_channels: channels + groups,
            groups,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            dilation: [1, 1],
            input: [size, size + 1],
        };
        let geometry = ConvGeometry { out_channels: geometry.out_channels / groups * groups, ..geometry };
        let case = Case { geometry, batch: 2, directions: 1, terms: vec![(true, false), (false, true)] };
        for kind in KINDS {
            let operands = case.operands::<f32>(kind, &mut rng);
            let reference = case.reference(kind, &operands);
            let label = format!("{kind:?}, {:?}", case.geometry);
            assert_within_rounding(&case.run(Isa::best(), kind, &operands), &reference, f32::EPSILON.into(), &label);
        }
    }
}

/// Products over channels, whose gradient by the input is added up where it belongs, without a copy.
#[test]
fn kernels_of_one_pixel_match_a_plain_loop_on_every_instruction_set() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    for [in_channels, out_channels] in [[64, 200], [200, 64], [20, 8]] {
        let (kernel, stride, padding, dilation) = ([1, 1], [1, 1], [0, 0], [1, 1]);
        let geometry =
            ConvGeometry { in_channels, out_channels, groups: 1, kernel, stride, padding, dilation, input: [9, 8] };
        let case = Case { geometry, batch: 3, directions: 2, terms: vec![(true, false), (false, true)] };
        for kind in KINDS {
            let operands = case.operands::<f64>(kind, &mut rng);
            let reference = case.reference(kind, &operands);
            for &isa in Isa::available() {
                let got = case.run_lowered(isa, kind, &operands).unwrap();
                assert_within_rounding(&got, &reference, f64::EPSILON, &format!("{kind:?}, {:?}", case.geometry));
            }
        }
    }
}

/// Entries of operands are at most 1, so those of a transformed tile are at most 4, of a filter 9/4, and an output sums
/// nine of their products over `n` channels and terms: at most `81 n`, with `n + 12` roundings each. For the weight
/// gradient the filter's part is played by the outputs (at most 4), sums run over `n` tiles, and ten pieces with
/// weights of 1 or ½ make an entry.
#[test]
fn tiles_match_a_plain_loop_on_every_instruction_set() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for &isa in Isa::available() {
        let [lanes, _] = f32::dispatch(isa, plan::Lanes);
        let mut tiled = [0; 3];
        for index in 0..24 {
            let case = Case::random_tiled(&mut rng, lanes);
            for kind in KINDS {
                let operands = case.operands::<f32>(kind, &mut rng);
                let Some(got) = case.run_tiled(isa, kind, &operands) else { continue };
                tiled[kind as usize] += 1;
                let g = &case.geometry;
                let n = case.terms.len()
                    * match kind {
                        Kind::Forward => g.in_channels,
                        Kind::InputGradient => g.out_channels,
                        Kind::WeightGradient => {
                            case.batch * g.output().map(|size| size.div_ceil(2)).iter().product::<usize>()
                        }
                    };
                let tolerance = 81.0 * n as f64 * (n + 12) as f64 * f64::from(f32::EPSILON);
                let reference = case.reference(kind, &operands);
                // In the mean the roundings cancel: their square root is what is left.
                let (mut square, mut square_error) = (0.0, 0.0);
                for (entry, (&got, (sum, ..))) in got.iter().zip(&reference).enumerate() {
                    let error = (f64::from(got) - sum).abs();
                    assert!(error <= tolerance, "case {index}, {kind:?}, {g:?}: entry {entry} is {got}, not {sum}");
                    (square, square_error) = (square + sum * sum, square_error + error * error);
                }
                let relative = (square_error / square).sqrt();
                let expected = f64::from(f32::EPSILON) * (n as f64 + 12.0).sqrt();
                assert!(relative <= expected, "case {index}, {kind:?}, {g:?}: off by {relative:e} in the mean");
            }
        }
        assert!(tiled.iter().all(|&count| count > 8), "{isa:?}: too few cases went in tiles: {tiled:?}");
    }
}

#[test]
fn tiles_do_not_depend_on_threads() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let [lanes, _] = f32::dispatch(Isa::best(), plan::Lanes);
    for _ in 0..10 {
        let case = Case { batch: rng.random_range(9..30), ..Case::random_tiled(&mut rng, lanes) };
        for kind in KINDS {
            let operands = case.operands::<f32>(kind, &mut rng);
            let Some(serial) = case.run_tiled(Isa::best(), kind, &operands) else { continue };
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let pooled = pool.install(|| case.run_tiled(Isa::best(), kind, &operands)).unwrap();
                assert!(serial.iter().zip(&pooled).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
            }
        }
    }
}

#[test]
fn the_three_kernels_are_adjoint() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for _ in 0..50 {
        let case = Case { directions: 1, terms: vec![(false, false)], ..Case::random(&mut rng) };
        let [[x, w]] = &case.operands::<f64>(Kind::Forward, &mut rng)[..] else { unreachable!() };
        let [[y, _]] = &case.operands::<f64>(Kind::InputGradient, &mut rng)[..] else { unreachable!() };
        let run = |kind, a: &Vec<f64>, b: &Vec<f64>| case.run(Isa::best(), kind, &[[a.clone(), b.clone()]]);
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let form = dot(&run(Kind::Forward, x, w), y);
        let (mut magnitude, mut count) = (0.0, 0.0);
        case.for_each_product(|i, j, k| {
            magnitude += (x[i] * w[j] * y[k]).abs();
            count += 1.0;
        });
        // Three factors and `count` addends, on both sides.
        let tolerance = 2.0 * (count + 2.0) * f64::EPSILON * magnitude;
        assert!((form - dot(&run(Kind::InputGradient, y, w), x)).abs() <= tolerance);
        assert!((form - dot(&run(Kind::WeightGradient, x, y), w)).abs() <= tolerance);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..30 {
        let case = Case { batch: rng.random_range(1..40), ..Case::random(&mut rng) };
        for kind in KINDS {
            let operands = case.operands::<f32>(kind, &mut rng);
            let serial = case.run(Isa::best(), kind, &operands);
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let pooled = pool.install(|| case.run(Isa::best(), kind, &operands));
                assert!(serial.iter().zip(&pooled).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
            }
        }
    }
}

#[test]
fn a_kernel_larger_than_the_input_gives_nothing() {
    let geometry = ConvGeometry {
        in_channels: 2,
        out_channels: 3,
        groups: 1,
        kernel: [5, 1],
        stride: [1, 2],
        padding: [1, 0],
        dilation: [1, 1],
        input: [2, 4],
    };
    assert_eq!(geometry.output(), [0, 2]);
    let case = Case { geometry, batch: 2, directions: 1, terms: vec![(false, false)] };
    let operands = [[vec![1.0f64; case.lengths(Kind::Forward)[0]], vec![1.0; 30]]];
    assert!(case.run(Isa::best(), Kind::Forward, &operands).is_empty());
    let operands = [[vec![], vec![1.0f64; 30]]];
    assert!(case.run(Isa::best(), Kind::InputGradient, &operands).iter().all(|&value| value == 0.0));
    let operands = [[vec![1.0f64; 32], vec![]]];
    assert!(case.run(Isa::best(), Kind::WeightGradient, &operands).iter().all(|&value| value == 0.0));
}
