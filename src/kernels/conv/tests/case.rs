//! A shape with its operands, what the kernels make of it, and what a plain loop does.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::super::*;
use crate::kernels::element::Element;

/// The three kernels: which operands they take and what they give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Forward,
    InputGradient,
    WeightGradient,
}

pub(super) const KINDS: [Kind; 3] = [Kind::Forward, Kind::InputGradient, Kind::WeightGradient];

pub(super) struct Case {
    pub(super) geometry: ConvGeometry,
    pub(super) batch: usize,
    pub(super) directions: usize,
    /// Whether the operands of each term are stacked.
    pub(super) terms: Vec<(bool, bool)>,
}

impl Case {
    pub(super) fn random(rng: &mut ChaCha8Rng) -> Self {
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
    pub(super) fn lengths(&self, kind: Kind) -> [usize; 3] {
        let (x, y) = (self.batch * self.geometry.input_len(), self.batch * self.geometry.output_len());
        let w = self.geometry.weight_len();
        match kind {
            Kind::Forward => [x, w, y],
            Kind::InputGradient => [y, w, x],
            Kind::WeightGradient => [x, y, w],
        }
    }

    pub(super) fn operands<T: Element>(&self, kind: Kind, rng: &mut ChaCha8Rng) -> Vec<[Vec<T>; 2]> {
        let [first, second, _] = self.lengths(kind);
        let mut draw = |len: usize, stacked: bool| {
            let len = if stacked { self.directions * len } else { len };
            (0..len).map(|_| T::from_f64(rng.random_range(-1.0..1.0))).collect()
        };
        self.terms.iter().map(|&(a, b)| [draw(first, a), draw(second, b)]).collect()
    }

    /// Shapes that go in tiles, down to single rows and columns.
    pub(super) fn random_tiled(rng: &mut ChaCha8Rng, lanes: usize) -> Self {
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
    pub(super) fn run_tiled<T: Element>(&self, isa: Isa, kind: Kind, operands: &[[Vec<T>; 2]]) -> Option<Vec<T>> {
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
    pub(super) fn random_lowered(rng: &mut ChaCha8Rng) -> Self {
        let mut case = Self::random(rng);
        let g = &mut case.geometry;
        [g.in_channels, g.out_channels] = [(); 2].map(|()| 4 * g.groups * rng.random_range(1..6));
        if rng.random_bool(0.1) {
            g.out_channels += 128 * g.groups;
        }
        case
    }

    /// As `run`, as matrix products; `None` where there is no output.
    pub(super) fn run_lowered<T: Element>(&self, isa: Isa, kind: Kind, operands: &[[Vec<T>; 2]]) -> Option<Vec<T>> {
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
    pub(super) fn random_depthwise(rng: &mut ChaCha8Rng) -> Self {
        let mut case = Self::random(rng);
        let g = &mut case.geometry;
        g.groups = rng.random_range(1..40);
        (g.in_channels, g.out_channels) = (g.groups, g.groups);
        case
    }

    /// As `run`, in vectors of channels; `None` where there is no output.
    pub(super) fn run_depthwise<T: Element>(&self, isa: Isa, kind: Kind, operands: &[[Vec<T>; 2]]) -> Option<Vec<T>> {
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

    pub(super) fn run<T: Element>(&self, isa: Isa, kind: Kind, operands: &[[Vec<T>; 2]]) -> Vec<T> {
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
    pub(super) fn for_each_product(&self, mut visit: impl FnMut(usize, usize, usize)) {
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
    pub(super) fn reference<T: Element>(&self, kind: Kind, operands: &[[Vec<T>; 2]]) -> Vec<(f64, f64, f64)> {
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
pub(super) fn assert_within_rounding<T: Element>(got: &[T], reference: &[(f64, f64, f64)], epsilon: f64, label: &str) {
    assert_eq!(got.len(), reference.len());
    for (index, (got, (sum, count, magnitude))) in got.iter().zip(reference).enumerate() {
        let tolerance = (count + 1.0) * (epsilon + f64::EPSILON) * magnitude;
        let error = (got.to_f64() - sum).abs();
        assert!(error <= tolerance, "{label}: entry {index} is {got}, expected {sum} within {tolerance:e}");
    }
}
