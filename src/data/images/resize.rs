//! Bilinear resizing that averages when it shrinks, bit for bit as Pillow 13 does it, and torchvision on Pillow's
//! images.

use std::ops::Range;

use super::picture::Picture;

/// Fractional bits of the weights, so that eight bits of value and the sum of the weights fit 32.
const PRECISION: u32 = 22;

/// The weights of one output pixel on a run of input pixels.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Triangles of width `max(scale, 1)` around the centres of the output pixels in `window`, for `input` pixels becoming
/// `output`.
fn taps(input: usize, output: usize, window: Range<usize>) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    let support = scale.max(1.0);
    let inverse = 1.0 / support;
    let tap = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(input);
        let weight = |x: usize| (1.0 - ((x as f64 - centre + 0.5) * inverse).abs()).max(0.0);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (0.5 + weight / total * f64::from(1u32 << PRECISION)) as i32;
        Taps { first, weights: weights.iter().map(fixed).collect() }
    };
    window.map(tap).collect()
}

fn rounded(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Whether columns are resized before rows: where the height loses more than twice the pixels that the width does.
/// Which come first moves some values by a grey level, since what lies between is rounded to bytes; up to Pillow 12 it
/// was rows.
fn columns_first(before: [usize; 2], after: [usize; 2]) -> bool {
    let [lower, narrower] = [0, 1].map(|axis| before[axis] as isize - after[axis] as isize);
    lower > 0 && lower > 2 * narrower
}

impl Picture {
    /// The picture at another size. Cost: a few multiply-adds per pixel of either size.
    pub(in crate::data) fn resize(&self, height: usize, width: usize) -> Self {
        self.resize_window([height, width], 0..height, 0..width)
    }

    /// A window of the picture at another size, without the rest: a strip of one pixel's height may become very long.
    pub(super) fn resize_window(&self, size: [usize; 2], rows: Range<usize>, columns: Range<usize>) -> Self {
        let (height, width) = (rows.len(), columns.len());
        let down = taps(self.height, size[0], rows);
        let across = taps(self.width, size[1], columns);
        let bytes = if columns_first([self.height, self.width], size) {
            resize_rows(&resize_columns(&self.bytes, [self.height, self.width], &down), self.width, &across)
        } else {
            resize_columns(&resize_rows(&self.bytes, self.width, &across), [self.height, width], &down)
        };
        Self { channels: self.channels, height, width, bytes }
    }
}

/// `[…, taps]` of `[…, width]`.
fn resize_rows(bytes: &[u8], width: usize, taps: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() / width.max(1) * taps.len());
    for row in bytes.chunks_exact(width.max(1)) {
        out.extend(taps.iter().map(|Taps { first, weights }| {
            let products = row[*first..].iter().zip(weights).map(|(&value, weight)| i32::from(value) * weight);
            rounded((1 << (PRECISION - 1)) + products.sum::<i32>())
        }));
    }
    out
}

/// `[…, taps, width]` of `[…, height, width]`.
fn resize_columns(bytes: &[u8], [height, width]: [usize; 2], taps: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() / height.max(1) * taps.len());
    let mut sums = vec![0; width];
    for plane in bytes.chunks_exact((height * width).max(1)) {
        for Taps { first, weights } in taps {
            sums.fill(1 << (PRECISION - 1));
            for (row, weight) in plane[first * width..].chunks_exact(width).zip(weights) {
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += i32::from(value) * weight);
            }
            out.extend(sums.iter().map(|&sum| rounded(sum)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::picture::decode;
    use crate::data::testing::{MEMORY, image_fixture};

    fn fixture(name: &str) -> Picture {
        decode(&image_fixture(name), MEMORY).unwrap()
    }

    #[test]
    fn sizes_come_out_as_pillow_makes_them() {
        let source = fixture("source.png");
        assert_eq!((source.height, source.width), (37, 53));
        // The last four lose height: beside more width, exactly twice as much as width, a pixel more, far more.
        for (height, width) in
            [(20, 20), (37, 24), (11, 53), (80, 91), (1, 1), (36, 50), (12, 91), (17, 43), (16, 43), (2, 50)]
        {
            let expected = fixture(&format!("resized_{height}x{width}.png"));
            assert!(source.resize(height, width) == expected, "{height}x{width}");
        }
        assert!(source.resize(37, 53) == source);
    }

    #[test]
    fn the_middle_is_that_of_torchvision() {
        for (name, size) in [("source", 21), ("source", 28), ("source", 56), ("tall", 28), ("tower", 21)] {
            let expected = fixture(&format!("{name}_centre_{size}.png"));
            assert!(fixture(&format!("{name}.png")).centre(size) == expected, "{name} {size}");
        }
    }
}
