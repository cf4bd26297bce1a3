//! Drawn digits: an image set of ten classes that needs no download, hard for a linear model and easy for a small
//! convolutional one.

use rand::Rng;
use rayon::prelude::*;

use super::kind::Kind;
use super::request::{GlyphOptions, Request};
use super::table::Table;
use crate::data::draw::between;
use crate::data::{DataError, DataResult, Inputs, Normalisation, Split, Targets};
use crate::random::{Purpose, substream};

/// Side of an image in pixels.
const SIDE: usize = 16;
/// Digits.
const NUM_CLASSES: usize = 10;
/// Most images in a split: their labels alone take 64 MiB.
const MAX_COUNT: usize = 1 << 24;
/// Straight pieces per bend.
const PIECES: usize = 4;
/// Index of the first test image within the seed's sub-streams; no training image gets that far.
const FIRST_TEST_IMAGE: u64 = 1 << 32;

/// Digits drawn by the program, `[1, 16, 16]`; row `i` shows the digit `i mod 10`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glyphs;

impl Kind for Glyphs {
    fn place() -> &'static str {
        ""
    }

    fn about() -> &'static str {
        "digits drawn by the program, which needs no files for them"
    }

    fn parse(place: Option<&str>) -> Option<Self> {
        place.is_none().then_some(Self)
    }

    fn caption(&self) -> String {
        "glyphs".into()
    }

    /// Mean and standard deviation of the default training images.
    fn default_normalisation(&self) -> Option<Normalisation> {
        Some(Normalisation { mean: vec![0.1952], std: vec![0.2045] })
    }

    fn resolve(&self, request: &mut Request) {
        request.glyphs.count = Some(request.glyphs.count(request.split));
    }

    fn open(&self, request: &Request) -> DataResult<Table> {
        let (options, split) = (request.glyphs.clone(), request.split);
        let count = options.count(split);
        if count > MAX_COUNT {
            return Err(DataError::TooManyGlyphs { count, limit: MAX_COUNT });
        }
        let labels = (0..count).map(|row| (row % NUM_CLASSES) as u32).collect();
        let targets = Targets::Classes { labels, num_classes: NUM_CLASSES };
        Ok(Table::new(vec![1, SIDE, SIDE], targets, move |rows| Ok(Inputs::Bytes(draw(&options, split, rows)))))
    }
}

/// Bytes of the given rows, `[rows, 1, 16, 16]`. A row depends only on seed, split and its own index.
fn draw(options: &GlyphOptions, split: Split, rows: &[usize]) -> Vec<u8> {
    let mut images = vec![0; rows.len() * SIDE * SIDE];
    let first = if split == Split::Test { FIRST_TEST_IMAGE } else { 0 };
    images.par_chunks_mut(SIDE * SIDE).zip(rows).for_each(|(image, &row)| {
        let mut rng = substream(options.seed, Purpose::Synthetic, first + row as u64);
        draw_digit(image, row % NUM_CLASSES, &mut rng);
    });
    images
}

/// Control points of a stroke in the unit square, `y` downwards. The stroke bends around each inner point, from
/// the middle of the edge before it to the middle of the edge after it; a point given twice is a sharp corner.
type Stroke = &'static [[f32; 2]];

const DIGITS: [&[Stroke]; NUM_CLASSES] = [
    &[&[[0.5, 0.0], [0.1, 0.0], [0.1, 1.0], [0.9, 1.0], [0.9, 0.0], [0.5, 0.0]]],
    &[&[[0.25, 0.25], [0.55, 0.0], [0.55, 0.0], [0.55, 1.0]]],
    &[&[[0.1, 0.3], [0.15, 0.0], [0.9, -0.1], [0.9, 0.45], [0.1, 1.0], [0.1, 1.0], [0.95, 1.0]]],
    &[&[[0.1, 0.1], [0.9, -0.15], [0.9, 0.5], [0.4, 0.48], [0.4, 0.48], [1.0, 0.5], [0.95, 1.15], [0.05, 0.92]]],
    &[&[[0.68, 1.0], [0.68, 0.0], [0.68, 0.0], [0.05, 0.68], [0.05, 0.68], [0.95, 0.68]]],
    &[&[[0.85, 0.0], [0.2, 0.0], [0.2, 0.0], [0.15, 0.45], [0.15, 0.45], [0.95, 0.3], [1.0, 1.1], [0.05, 0.95]]],
    &[&[[0.75, 0.0], [0.1, 0.2], [0.05, 1.0], [0.95, 1.1], [0.9, 0.4], [0.2, 0.45], [0.14, 0.7]]],
    &[&[[0.05, 0.0], [0.95, 0.0], [0.95, 0.0], [0.4, 1.0]]],
    &[
        &[[0.5, 0.47], [0.1, 0.45], [0.1, 0.0], [0.9, 0.0], [0.9, 0.45], [0.5, 0.47]],
        &[[0.5, 0.47], [0.02, 0.5], [0.02, 1.0], [0.98, 1.0], [0.98, 0.5], [0.5, 0.47]],
    ],
    &[&[[0.86, 0.3], [0.8, -0.1], [0.1, -0.05], [0.1, 0.6], [0.8, 0.55], [0.86, 0.3], [0.86, 0.3], [0.75, 1.0]]],
];

/// One straight piece: start, edge vector and `1 / |edge|²`.
struct Segment {
    start: [f32; 2],
    edge: [f32; 2],
    inverse_length_sq: f32,
}

/// Draws a digit with a pose, a pen and pixel noise of its own.
///
/// Only `+ − × ÷ √` are used, which round alike on every machine; no sine, no logarithm. So the bytes are the
/// same everywhere.
fn draw_digit(image: &mut [u8], digit: usize, rng: &mut impl Rng) {
    let pose = Pose::draw(rng);
    let segments = segments(DIGITS[digit], &pose, rng);
    let radius = between(rng, 0.4, 1.1);
    let paper = between(rng, 0.0, 0.2);
    let ink = paper + between(rng, 0.5, 0.75);
    let grain = between(rng, 0.01, 0.045);
    let mut noise = [0u8; 4 * SIDE * SIDE];
    rng.fill_bytes(&mut noise);
    for (place, (pixel, noise)) in image.iter_mut().zip(noise.chunks_exact(4)).enumerate() {
        let (x, y) = ((place % SIDE) as f32 + 0.5, (place / SIDE) as f32 + 0.5);
        let coverage = (radius + 0.5 - distance(&segments, x, y)).clamp(0.0, 1.0);
        // Four uniform bytes: mean 510, standard deviation sqrt(4 (256² − 1) / 12) = 147.8; nearly normal.
        let normal = (noise.iter().map(|&byte| f32::from(byte)).sum::<f32>() - 510.0) / 147.8;
        let value = paper + (ink - paper) * coverage + grain * normal;
        *pixel = (255.0 * value + 0.5).clamp(0.0, 255.0) as u8;
    }
}

/// Distance of a point from the nearest segment; infinite without segments.
fn distance(segments: &[Segment], x: f32, y: f32) -> f32 {
    let distance_sq = segments.iter().fold(f32::INFINITY, |nearest, segment| {
        let (dx, dy) = (x - segment.start[0], y - segment.start[1]);
        let along = ((dx * segment.edge[0] + dy * segment.edge[1]) * segment.inverse_length_sq).clamp(0.0, 1.0);
        let (dx, dy) = (dx - along * segment.edge[0], dy - along * segment.edge[1]);
        nearest.min(dx * dx + dy * dy)
    });
    distance_sq.sqrt()
}

/// An affine map from the unit square to pixels.
struct Pose {
    linear: [[f32; 2]; 2],
    centre: [f32; 2],
}

impl Pose {
    fn draw(rng: &mut impl Rng) -> Self {
        // tan of half the angle, up to 11 degrees.
        let tangent = between(rng, -0.1, 0.1);
        let norm = 1.0 + tangent * tangent;
        let (cos, sin) = ((1.0 - tangent * tangent) / norm, 2.0 * tangent / norm);
        let height = between(rng, 8.5, 12.0);
        let width = height * between(rng, 0.55, 0.95);
        let shear = between(rng, -0.12, 0.12) * height;
        let middle = SIDE as f32 / 2.0;
        Self {
            linear: [[cos * width, cos * shear - sin * height], [sin * width, sin * shear + cos * height]],
            centre: [middle + between(rng, -2.5, 2.5), middle + between(rng, -2.0, 2.0)],
        }
    }

    fn apply(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (x, y) = (x - 0.5, y - 0.5);
        let row = |i: usize| self.centre[i] + self.linear[i][0] * x + self.linear[i][1] * y;
        [row(0), row(1)]
    }
}

/// The strokes as straight pieces in pixels, every control point shaken a little.
fn segments(strokes: &[Stroke], pose: &Pose, rng: &mut impl Rng) -> Vec<Segment> {
    let mut segments = Vec::new();
    for stroke in strokes {
        let mut points: Vec<[f32; 2]> = Vec::with_capacity(stroke.len());
        for (place, &[x, y]) in stroke.iter().enumerate() {
            // The two halves of a corner move together.
            let shaken = match points.last() {
                Some(&last) if stroke[place - 1] == [x, y] => last,
                _ => pose.apply([x + between(rng, -0.03, 0.03), y + between(rng, -0.03, 0.03)]),
            };
            points.push(shaken);
        }
        let mut position = points[0];
        let mut line_to = |end: [f32; 2]| {
            let edge = [end[0] - position[0], end[1] - position[1]];
            let length_sq = edge[0] * edge[0] + edge[1] * edge[1];
            if length_sq > 1e-6 {
                segments.push(Segment { start: position, edge, inverse_length_sq: 1.0 / length_sq });
                position = end;
            }
        };
        let middle = |a: [f32; 2], b: [f32; 2]| [0.5 * (a[0] + b[0]), 0.5 * (a[1] + b[1])];
        for window in points.windows(3) {
            // A quadratic Bézier curve around the inner point.
            let (from, bend, to) = (middle(window[0], window[1]), window[1], middle(window[1], window[2]));
            line_to(from);
            for piece in 1..=PIECES {
                let t = piece as f32 / PIECES as f32;
                let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
                line_to([a * from[0] + b * bend[0] + c * to[0], a * from[1] + b * bend[1] + c * to[1]]);
            }
        }
        line_to(points[points.len() - 1]);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataSpec, Dataset, TargetBatch};
    use candle_core::{DType, Device};
    use nalgebra::DMatrix;

    fn load(split: Split) -> Dataset {
        DataSpec { split, ..DataSpec::new(Glyphs.into()) }.load().unwrap()
    }

    #[test]
    fn images_are_the_same_on_every_machine_and_in_every_order() {
        let (train, test) = (load(Split::Train), load(Split::Test));
        assert_eq!(train.sha256, "43e531c9f19bc505b38f178e34c859dcd4cf487b2f654f7dba246f006a7a7986");
        assert_eq!(test.sha256, "60778b34c00667298ce897498d1e6be188b5946e5dc2e3f16bc4683e2935bfe0");
        let Inputs::Bytes(bytes) = &train.inputs else { panic!("no bytes") };
        let alone = draw(&GlyphOptions::default(), Split::Train, &[3999, 7]);
        assert_eq!(alone, [&bytes[3999 * 256..], &bytes[7 * 256..8 * 256]].concat());
        assert_ne!(draw(&GlyphOptions::default(), Split::Test, &[7]), alone[256..]);
        assert_ne!(draw(&GlyphOptions { count: None, seed: 1 }, Split::Train, &[7]), alone[256..]);
        assert!(
            DataSpec { glyphs: GlyphOptions { count: Some(usize::MAX), seed: 0 }, ..DataSpec::new(Glyphs.into()) }
                .load()
                .is_err()
        );
    }

    #[test]
    fn normalisation_is_the_measured_one() {
        let train = load(Split::Train);
        let Inputs::Bytes(bytes) = &train.inputs else { panic!("no bytes") };
        let values = || bytes.iter().map(|&byte| f64::from(byte) / 255.0);
        let mean = values().sum::<f64>() / bytes.len() as f64;
        let std = (values().map(|value| (value - mean).powi(2)).sum::<f64>() / bytes.len() as f64).sqrt();
        // The constants have four digits.
        let stored = Glyphs.default_normalisation().unwrap();
        assert!((stored.mean[0] - mean).abs() <= 5e-5 && (stored.std[0] - std).abs() <= 5e-5, "{mean} {std}");
    }

    /// Rows with a leading 1, `[N, 257]`, and their labels.
    fn rows(data: &Dataset) -> (DMatrix<f32>, Vec<u32>) {
        let all: Vec<usize> = (0..data.len()).collect();
        let (x, targets) = data.batch(&all, DType::F32, &Device::Cpu).unwrap();
        let TargetBatch::Classes(labels) = targets else { panic!("no classes") };
        let x: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        (DMatrix::from_row_slice(data.len(), 256, &x).insert_column(0, 1.0), labels)
    }

    fn accuracy(logits: &DMatrix<f32>, labels: &[u32]) -> f64 {
        let right =
            labels.iter().enumerate().filter(|&(row, &label)| logits.row(row).transpose().imax() == label as usize);
        right.count() as f64 / labels.len() as f64
    }

    #[test]
    fn a_linear_classifier_stays_below_90_percent() {
        let ((x, labels), (test_x, test_labels)) = (rows(&load(Split::Train)), rows(&load(Split::Test)));
        let (mut weights, mut velocity) = (DMatrix::<f32>::zeros(257, 10), DMatrix::<f32>::zeros(257, 10));
        // Softmax regression by gradient descent with momentum.
        for _ in 0..200 {
            let mut residual = &x * &weights;
            for (mut row, &label) in residual.row_iter_mut().zip(&labels) {
                let largest = row.max();
                row.apply(|logit| *logit = (*logit - largest).exp());
                row /= row.sum();
                row[label as usize] -= 1.0;
            }
            velocity = &velocity * 0.9 - x.tr_mul(&residual) * (0.05 / labels.len() as f32);
            weights += &velocity;
        }
        let (train, test) = (accuracy(&(&x * &weights), &labels), accuracy(&(&test_x * &weights), &test_labels));
        assert!(train > 0.87 && (0.8..0.9).contains(&test), "fitted {train}, test {test}");
    }
}
