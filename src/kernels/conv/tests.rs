//! Random shapes against a plain loop in double precision, and the identities that must hold.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::kernels::element::Element;

/// The three kernels: which operands they take and what they give.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Forward,
    InputGradient,
    WeightGradient,
}

const KINDS: [Kind; 3] = [Kind::Forward, Kind::InputGradient, Kind::WeightGradient];

struct Case {
    geometry: ConvGeometry,
    batch: usize,
    directions: usize,
    /// Whether the operands of each term are stacked.
    terms: Vec<(bool, bool)>,
}

impl Case {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let groups = if rng.random_bool(0.6) { 1 } else { rng.random_range(1..4) };
        let mut pair = |low: usize, high: usize| [rng.random_range(low..high), rng.random_range(low..high)];
        let (input, mut kernel, dilation) = (pair(1, 21), pair(1, 5), pair(1, 4));
        let (mut stride, mut padding, channels) = (pair(1, 4), pair(0, 4), pair(1, 8));
        match rng.random_range(0..4) {
            0 => (kernel, stride, padding) = ([1, 1], [1, 1], [0, 0]),
            1 => (kernel, stride, padding) = ([3, 3], [stride[0]; 2], [1, 1]),
            _ => {}
        }
        let [in_channels, out_channels] = channels.map(|channels| channels * groups);
        let geometry = ConvGeometry { in_channels, out_channels, groups, kernel, stride, padding, dilation, input };
        let terms = (0..rng.random_range(1..3)).map(|_| (rng.random_bool(0.5), rng.random_bool(0.5))).collect();
        Self { geometry, batch: rng.random_range(1..12), directions: rng.random_range(1..6), terms }
    }

    /// Lengths of the two operands (of one direction) and of the result.
    fn lengths(&self, kind: Kind) -> [usize; 3] {
        let (x, y) = (self.batch * self.geometry.input_len(), self.batch * self.geometry.output_len());
        let w = self.geometry.weight_len();
        match kind {
            Kind::Forward => [x, w, y],
            Kind::InputGradient => [y, w, x],
            Kind::WeightGradient => [x, y, w],
        }
    }

    fn operands<T: Element>(&self, kind: Kind, rng: &mut ChaCha8Rng) -> Vec<[Vec<T>; 2]> {
        let [first, second, _] = self.lengths(kind);
        let mut draw = |len: usize, stacked: bool| {
            let len = if stacked { self.directions * len } else { len };
            (0..len).map(|_| T::from_f64(rng.random_range(-1.0..1.0))).collect()
        };
        self.terms.iter().map(|&(a, b)| [draw(first, a), draw(second, b)]).collect()
    }

    /// Shapes that go in tiles, down to single rows and columns.
    fn random_tiled(rng: &mut ChaCha8Rng, lanes: usize) -> Self {
        let mut case = Self::random(rng);
        let g = &mut case.geometry;
        (g.groups, g.kernel, g.stride, g.dilation) = (1, [3; 2], [1; 2], [1; 2]);
        g.padding = g.padding.map(|padding| padding % 3);
        (g.in_channels, g.out_channels) = (lanes * rng.random_range(1..4), lanes * rng.random_range(1..4));
        g.input = [0, 1].map(|axis| g.input[axis].max(3 - 2 * g.padding[axis].min(1)));
        (case.batch, case.directions) = (rng.random_range(1..5), rng.random_range(1..4));
        case
    }

    /// As `run`, in tiles; `None` where the shape is not for them.
    fn run_tiled<T: Element>(&self, isa: Isa, kind: Kind, operands: &[[Vec<T>; 2]]) -> Option<Vec<T>> {
        let (batch, directions) = (self.batch, self.directions);
        let tiling = match kind {
            Kind::InputGradient => Tiling::input_gradient::<T>(isa, &self.geometry, batch)?,
            _ => Tiling::forward::<T>(isa, &self.geometry, batch)?,
        };
        Some(self.run_with(kind, operands, |terms, out| match kind {
            Kind::WeightGradient => winograd::weight_gradient(&tiling, batch, directions, terms, out),
            _ => winograd::correlate(&tiling, batch, directions, terms, out),
        }))
    }

    /// Shapes that go as matrix products: channels in fours, sometimes more outputs than are summed in registers.
    fn random_lowered(rng: &mut ChaCha8Rng) -> Self {
        let mut case = Self::random(rng);
        let g = &mut case.geometry;
        [g.in_channels, g.out_channels] = [(); 2].map(|()| 4 * g.groups * rng.random_range(1..6));
        if rng.random_bool(0.1) {
            g.out_channels += 128 * g.groups;
        }
        case
    }

    /// As `run`, as matrix products; `None` where there is no output.
    fn run_lowered<T: Element>(&self, isa: Isa, kind: Kind, operands: &[[Vec<T>; 2]]) -> Option<Vec<T>> {
        let (batch, directions) = (self.batch, self.directions);
        if self.geometry.output().contains(&0) {
            return None;
        }
        let plan = Plan::forward::<T>(isa, &self.geometry, batch);
        Some(self.run_with(kind, operands, |terms, out| match kind {
            Kind::Forward => lowered::correlate(&plan, batch, directions, terms, out),
            Kind::InputGradient => lowered::input_gradient(&plan, batch, directions, terms, out),
            Kind::WeightGradient => lowered::weight_gradient(&plan, batch, directions, terms, out),
        }))
    }

    /// Shapes whose channels are each by themselves.
    fn random_depthwise(rng: &mut ChaCha8Rng) -> Self {
        let mut case = Self::random(rng);
        let g = &mut case.geometry;
        g.groups = rng.random_range(1..40);
        (g.in_channels, g.out_channels) = (g.groups, g.groups);
        case
    }

    /// As `run`, in vectors of channels; `None` where there is no output.
    fn run_depthwise<T: Element>(&self, isa: Isa, kind: Kind, operands: &[[Vec<T>; 2]]) -> Option<Vec<T>> {
        let (batch, directions) = (self.batch, self.directions);
        if self.geometry.output().contains(&0) {
            return None;
        }
        let forward = Depthwise::forward::<T>(isa, &self.geometry);
        let backward = Depthwise::input_gradient::<T>(isa, &self.geometry);
        Some(self.run_with(kind, operands, |terms, out| match kind {
            Kind::Forward => forward.correlate(batch, directions, terms, out),
            Kind::InputGradient => backward.correlate(batch, directions, terms, out),
            Kind::WeightGradient => forward.weight_gradient(batch, directions, terms, out),
        }))
    }

    fn run<T: Element>(&self, isa: Isa, kind: Kind, operands: &[[Vec<T>; 2]]) -> Vec<T> {
        let (batch, directions) = (self.batch, self.directions);
        self.run_with(kind, operands, |terms, out| {
            if kind == Kind::InputGradient {
                let plan = Plan::input_gradient::<T>(isa, &self.geometry, batch);
                return correlate::correlate(&plan, batch, directions, terms, out);
            }
            let plan = Plan::forward::<T>(isa, &self.geometry, batch);
            match kind {
                Kind::Forward => correlate::correlate(&plan, batch, directions, terms, out),
                _ => weight_gradient::weight_gradient(&plan, batch, directions, terms, out),
            }
        })
    }

    fn run_with<T: Element>(
        &self,
        kind: Kind,
        operands: &[[Vec<T>; 2]],
        kernel: impl FnOnce(&[(Operand<T>, Operand<T>)], &mut [MaybeUninit<T>]),
    ) -> Vec<T> {
        let terms: Vec<_> = operands
            .iter()
            .zip(&self.terms)
            .map(|([a, b], stacked)| (Operand { data: a, stacked: stacked.0 }, Operand { data: b, stacked: stacked.1 }))
            .collect();
        // Whatever is there is overwritten.
        let mut out = vec![MaybeUninit::new(T::from_f64(f64::NAN)); self.directions * self.lengths(kind)[2]];
        kernel(&terms, &mut out);
        // SAFETY: each element was written above.
        out.into_iter().map(|value| unsafe { value.assume_init() }).collect()
    }

    /// Every `(x, w, y)` index of the trilinear form `Σ x w y` of one direction.
    fn for_each_product(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let g = &self.geometry;
        let ([height, width], [rows, columns], [kh, kw]) = (g.input, g.output(), g.kernel);
        let (inputs, outputs) = (g.in_channels / g.groups, g.out_channels / g.groups);
        let ranges = [self.batch, g.out_channels, inputs, rows, columns, kh, kw];
        for index in 0..ranges.iter().product() {
            let mut rest = index;
            let mut digits = ranges;
            for digit in digits.iter_mut().rev() {
                (rest, *digit) = (rest / *digit, rest % *digit);
            }
            let [n, o, c, row, column, i, j] = digits;
            let h = (row * g.stride[0] + i * g.dilation[0]).wrapping_sub(g.padding[0]);
            let w = (column * g.stride[1] + j * g.dilation[1]).wrapping_sub(g.padding[1]);
            if h < height && w < width {
                let channel = o / outputs * inputs + c;
                visit(
                    ((n * g.in_channels + channel) * height + h) * width + w,
                    ((o * inputs + c) * kh + i) * kw + j,
                    ((n * g.out_channels + o) * rows + row) * columns + column,
                );
            }
        }
    }

    /// The result by a plain loop, with the number of addends and the sum of their magnitudes for each entry.
    fn reference<T: Element>(&self, kind: Kind, operands: &[[Vec<T>; 2]]) -> Vec<(f64, f64, f64)> {
        let [first, second, result] = self.lengths(kind);
        let mut out = vec![(0.0, 0.0, 0.0); self.directions * result];
        for ([a, b], stacked) in operands.iter().zip(&self.terms) {
            for k in 0..self.directions {
                let a = &a[if stacked.0 { k * first } else { 0 }..];
                let b = &b[if stacked.1 { k * second } else { 0 }..];
                self.for_each_product(|x, w, y| {
                    let (i, j, target) = match kind {
                        Kind::Forward => (x, w, y),
                        Kind::InputGradient => (y, w, x),
                        Kind::WeightGradient => (x, y, w),
                    };
                    let product = a[i].to_f64() * b[j].to_f64();
                    let (sum, count, magnitude) = &mut out[k * result + target];
                    (*sum, *count, *magnitude) = (*sum + product, *count + 1.0, *magnitude + product.abs());
                });
            }
        }
        out
    }
}

/// A sum of `n` products in any order is off by at most `(n + 1) ε Σ|a b|`, to first order; the reference adds as
/// much in its own precision.
fn assert_within_rounding<T: Element>(got: &[T], reference: &[(f64, f64, f64)], epsilon: f64, label: &str) {
    assert_eq!(got.len(), reference.len());
    for (index, (got, (sum, count, magnitude))) in got.iter().zip(reference).enumerate() {
        let tolerance = (count + 1.0) * (epsilon + f64::EPSILON) * magnitude;
        let error = (got.to_f64() - sum).abs();
        assert!(error <= tolerance, "{label}: entry {index} is {got}, expected {sum} within {tolerance:e}");
    }
}

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
