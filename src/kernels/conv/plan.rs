//! What a convolution reads and writes, worked out once per call from its geometry.
//!
//! A correlation with stride `s` is a sum of dense ones over the `s` phases of its input; its adjoint writes `s`
//! phases, each from its own subset of taps. Both become: a packed source, and sweeps over it in which each tap is a
//! constant offset. Rows and columns are planned alike, as an [`Axis`].

use super::ConvGeometry;
use crate::kernels::element::Element;
use crate::kernels::simd::{Isa, Simd, SimdTask};

/// How one image axis is packed: `phases.len()` dense copies of `length` numbers, with zeros around the source.
#[derive(Debug)]
pub(super) struct Packing {
    /// First source index of each copy, counted from `before` zeros in front of the source.
    pub phases: Vec<usize>,
    /// Source step between neighbours of a copy.
    pub step: usize,
    /// Zeros in front.
    pub before: usize,
    /// Numbers in each copy.
    pub length: usize,
    /// Numbers in the source.
    pub source: usize,
}

impl Packing {
    /// The packed indices of `phase` that lie on the source, and the source index of the first.
    pub fn inside(&self, phase: usize) -> (std::ops::Range<usize>, usize) {
        let first = self.before.saturating_sub(phase).div_ceil(self.step);
        let end = (self.source + self.before).saturating_sub(phase).div_ceil(self.step).min(self.length);
        (first..end.max(first), (first * self.step + phase).saturating_sub(self.before))
    }

    fn is_identity(&self) -> bool {
        self.phases == [0] && self.step == 1 && self.before == 0 && self.length == self.source
    }
}

/// One kernel position along an axis: it reads copy `phase`, `shift` numbers further.
#[derive(Clone, Copy, Debug)]
struct Tap {
    kernel: usize,
    phase: usize,
    shift: usize,
}

/// Outputs along an axis that share their taps: packed indices `first..first + count` give the targets
/// `start, start + step, …`.
#[derive(Debug)]
struct Outputs {
    first: usize,
    count: usize,
    start: usize,
    step: usize,
    taps: Vec<Tap>,
}

#[derive(Debug)]
struct Axis {
    packing: Packing,
    outputs: Vec<Outputs>,
    target: usize,
}

impl Axis {
    /// `out[t] = Σ_i w[i] x[t s + i d - p]`: tap `i` reads phase `i d mod s` at shift `i d div s`.
    fn forward(geometry: &ConvGeometry, axis: usize) -> Self {
        let (stride, dilation, count) = (geometry.stride[axis], geometry.dilation[axis], geometry.output()[axis]);
        let mut phases = Vec::new();
        let taps: Vec<Tap> = (0..geometry.kernel[axis])
            .map(|kernel| {
                let phase = kernel * dilation % stride;
                let index = phases.iter().position(|&known| known == phase).unwrap_or_else(|| {
                    phases.push(phase);
                    phases.len() - 1
                });
                Tap { kernel, phase: index, shift: kernel * dilation / stride }
            })
            .collect();
        let reach = taps.iter().map(|tap| tap.shift).max().unwrap_or(0);
        let (before, source) = (geometry.padding[axis], geometry.input[axis]);
        Self {
            packing: Packing { phases, step: stride, before, length: count + reach, source },
            outputs: vec![Outputs { first: 0, count, start: 0, step: 1, taps }],
            target: count,
        }
    }

    /// `out[u - p] = Σ_i w[i] y[(u - i d) / s]` over the taps where the division is exact: those with
    /// `i d mod s = u mod s`. With `u = t s + r` they read `y[t - i d div s]`.
    fn input_gradient(geometry: &ConvGeometry, axis: usize) -> Self {
        let (stride, dilation, padding) = (geometry.stride[axis], geometry.dilation[axis], geometry.padding[axis]);
        let target = geometry.input[axis];
        let reach = geometry.kernel[axis].saturating_sub(1) * dilation / stride;
        // No more than there are targets: a stride may be far longer than the image.
        let mut residues: Vec<usize> = (0..stride.min(target)).map(|u| (u + padding) % stride).collect();
        residues.sort_unstable();
        let outputs: Vec<Outputs> = residues
            .into_iter()
            .map(|residue| {
                let first = padding.saturating_sub(residue).div_ceil(stride);
                let end = (target + padding).saturating_sub(residue).div_ceil(stride);
                let count = end.saturating_sub(first);
                let start = (first * stride + residue).saturating_sub(padding);
                let taps = (0..geometry.kernel[axis])
                    .filter(|kernel| kernel * dilation % stride == residue)
                    .map(|kernel| Tap { kernel, phase: 0, shift: reach - kernel * dilation / stride })
                    .collect();
                Outputs { first, count, start, step: stride, taps }
            })
            .collect();
        let end = outputs.iter().map(|output| output.first + output.count).max().unwrap_or(0);
        let (length, source) = (reach + end, geometry.output()[axis]);
        Self { packing: Packing { phases: vec![0], step: 1, before: reach, length, source }, outputs, target }
    }
}

/// One vector of outputs: packed numbers from `start` on give `count` targets from `target` on, in each of the
/// plan's interleaved samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub start: usize,
    pub target: usize,
    pub count: usize,
}

/// Outputs that share their taps.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Packed offset of each (source channel, tap) of a group.
    pub offsets: Vec<usize>,
    /// Its place among the weights of one target channel.
    pub weight_offsets: Vec<usize>,
    /// The vectors of one target plane.
    pub positions: Vec<Position>,
    /// Distance of neighbouring targets of a vector.
    pub step: usize,
}

impl Sweep {
    fn new(rows: &Outputs, columns: &Outputs, plan: &PlaneLayout, lanes: usize) -> Self {
        let samples = plan.samples;
        let mut taps = Vec::new();
        for row in &rows.taps {
            for column in &columns.taps {
                let phase = row.phase * plan.column_phases + column.phase;
                let offset = phase * plan.plane_len + row.shift * plan.pitch + column.shift * samples;
                taps.push((offset, row.kernel * plan.kernel_columns + column.kernel));
            }
        }
        let (runs, width) = runs(rows, columns, plan);
        let positions = (0..runs)
            .flat_map(|run| (0..width).step_by(lanes / samples).map(move |column| (run, column)))
            .map(|(run, column)| Position {
                start: (rows.first + run) * plan.pitch + (columns.first + column) * samples,
                target: (rows.start + run * rows.step) * plan.target_columns + columns.start + column * columns.step,
                count: (lanes / samples).min(width - column),
            })
            .collect();
        let each = |pick: fn(&(usize, usize)) -> usize, step: usize| {
            (0..plan.sources).flat_map(|source| taps.iter().map(move |tap| source * step + pick(tap))).collect()
        };
        Self {
            offsets: each(|tap| tap.0, plan.channel_len),
            weight_offsets: each(|tap| tap.1, plan.source_step),
            positions,
            step: columns.step,
        }
    }
}

/// Runs of neighbouring outputs and their length: where rows follow each other without a gap, in source and target,
/// they are one long row.
fn runs(rows: &Outputs, columns: &Outputs, plan: &PlaneLayout) -> (usize, usize) {
    let dense = rows.step == 1 && columns.step == 1;
    let joined = dense && columns.count * plan.samples == plan.pitch && columns.count == plan.target_columns;
    if joined { (1, rows.count * columns.count) } else { (rows.count, columns.count) }
}

/// Sizes of a packed plane that every sweep needs.
struct PlaneLayout {
    samples: usize,
    sources: usize,
    source_step: usize,
    channel_len: usize,
    pitch: usize,
    plane_len: usize,
    column_phases: usize,
    kernel_columns: usize,
    target_columns: usize,
}

/// A convolution or its input gradient, ready to run: source channels in, target channels out.
#[derive(Debug)]
pub(super) struct Plan {
    pub isa: Isa,
    pub lanes: usize,
    pub registers: usize,
    /// Samples that are packed side by side, pixel by pixel: narrow images would leave lanes idle.
    pub samples: usize,
    pub groups: usize,
    /// Source channels of one group.
    pub sources: usize,
    /// Target channels of one group.
    pub targets: usize,
    pub rows: Packing,
    pub columns: Packing,
    /// Numbers of one packed source channel.
    pub channel_len: usize,
    /// Numbers of one target channel.
    pub target_len: usize,
    pub sweeps: Vec<Sweep>,
    /// Numbers in `w`, and the step in it from one target channel to the next.
    pub weight_len: usize,
    pub target_step: usize,
    /// Whether the source can be read where it lies.
    pub in_place: bool,
}

impl Plan {
    /// The plan of `conv2d` on `batch` samples: from `C` to `O` channels.
    pub fn forward<T: Element>(isa: Isa, geometry: &ConvGeometry, batch: usize) -> Self {
        Self::new::<T>(isa, geometry, batch, [0, 1].map(|axis| Axis::forward(geometry, axis)), false)
    }

    /// The plan of its adjoint in `x`: from `O` to `C` channels.
    pub fn input_gradient<T: Element>(isa: Isa, geometry: &ConvGeometry, batch: usize) -> Self {
        Self::new::<T>(isa, geometry, batch, [0, 1].map(|axis| Axis::input_gradient(geometry, axis)), true)
    }

    fn new<T: Element>(
        isa: Isa,
        geometry: &ConvGeometry,
        batch: usize,
        [rows, columns]: [Axis; 2],
        transposed: bool,
    ) -> Self {
        let [lanes, registers] = T::dispatch(isa, Lanes);
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let inputs = geometry.in_channels / geometry.groups;
        let outputs = geometry.out_channels / geometry.groups;
        let (sources, targets) = if transposed { (outputs, inputs) } else { (inputs, outputs) };
        // Weights are `[groups, O, C, taps]`.
        let (source_step, target_step) = if transposed { (targets * taps, taps) } else { (taps, sources * taps) };
        let mut layout = PlaneLayout {
            samples: 1,
            sources,
            source_step,
            channel_len: 0,
            pitch: columns.packing.length,
            plane_len: 0,
            column_phases: columns.packing.phases.len(),
            kernel_columns: geometry.kernel[1],
            target_columns: columns.target,
        };
        let widths = rows.outputs.iter().flat_map(|row| columns.outputs.iter().map(move |column| (row, column)));
        let width = widths.map(|(row, column)| runs(row, column, &layout).1).max().unwrap_or(0);
        layout.samples = interleaved_samples(width, lanes, batch);
        layout.pitch *= layout.samples;
        layout.plane_len = rows.packing.length * layout.pitch;
        layout.channel_len = rows.packing.phases.len() * columns.packing.phases.len() * layout.plane_len;
        let sweeps: Vec<Sweep> = rows
            .outputs
            .iter()
            .flat_map(|row| columns.outputs.iter().map(move |column| (row, column)))
            .map(|(row, column)| Sweep::new(row, column, &layout, lanes))
            .collect();
        // One tap and whole vectors only: nothing outside the source is read.
        let whole = sweeps.iter().all(|sweep| sweep.positions.iter().all(|position| position.count == lanes));
        Self {
            isa,
            lanes,
            registers,
            samples: layout.samples,
            groups: geometry.groups,
            sources,
            targets,
            channel_len: layout.channel_len,
            target_len: rows.target * columns.target,
            in_place: whole && taps == 1 && rows.packing.is_identity() && columns.packing.is_identity(),
            rows: rows.packing,
            columns: columns.packing,
            sweeps,
            weight_len: geometry.weight_len(),
            target_step,
        }
    }

    /// Numbers of one source sample.
    pub fn source_len(&self) -> usize {
        self.groups * self.sources * self.rows.source * self.columns.source
    }

    /// Numbers of one target sample.
    pub fn targets_len(&self) -> usize {
        self.groups * self.targets * self.target_len
    }

    /// Numbers of one packed block of interleaved source samples.
    pub fn packed_len(&self) -> usize {
        self.groups * self.sources * self.channel_len
    }
}

/// How many samples of rows of `width` numbers to lay side by side: the fewest with which at most a fifth more vectors
/// are needed than with the best.
fn interleaved_samples(width: usize, lanes: usize, batch: usize) -> usize {
    let vectors = |samples: usize| (width * samples).div_ceil(lanes) as f64 / samples as f64;
    let choices = [1, 2, 4, 8].into_iter().filter(|&samples| samples <= batch.max(1).min(lanes));
    let best = choices.clone().map(vectors).fold(f64::INFINITY, f64::min);
    choices.into_iter().find(|&samples| vectors(samples) <= 1.2 * best).unwrap_or(1)
}

/// Vectors of pixels and target channels of one register tile: their sums fill half of the registers. With three quarters of
/// 16, and a weight of each channel, some would move to memory and back.
pub(super) const fn tile_sizes(registers: usize) -> (usize, usize) {
    if registers >= 32 { (4, 4) } else { (2, 4) }
}

/// Asks for the lanes of a vector and for the number of registers.
pub(super) struct Lanes;

impl<T> SimdTask<T> for Lanes {
    type Output = [usize; 2];

    #[inline(always)]
    fn run<S: Simd<Scalar = T>>(self) -> [usize; 2] {
        [S::LANES, S::REGISTERS]
    }
}
