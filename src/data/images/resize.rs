//! Bilinear resizing that averages where it makes smaller, bit for bit as Pillow does it (and torchvision with it).
//!
//! Rows come first, always. Pillow 13 (11.3 does not) takes columns first where an image becomes lower but wider, which
//! moves some values by a grey level.

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
    let tap = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(input);
        let weight = |x: usize| (1.0 - ((x as f64 - centre + 0.5) / support).abs()).max(0.0);
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

impl Picture {
    /// The picture at another size: rows first, rounded to bytes, then columns. Cost: a few multiply-adds per pixel of
    /// either size.
    pub(in crate::data) fn resize(&self, height: usize, width: usize) -> Self {
        self.resize_window([height, width], 0..height, 0..width)
    }

    /// A window of the picture at another size, without the rest: a strip of one pixel's height may become very long.
    pub(super) fn resize_window(&self, [height, width]: [usize; 2], rows: Range<usize>, columns: Range<usize>) -> Self {
        let (new_height, new_width) = (rows.len(), columns.len());
        let wide = self.resize_rows(&taps(self.width, width, columns), new_width);
        let bytes = self.resize_columns(&wide, &taps(self.height, height, rows), new_width);
        Self { channels: self.channels, height: new_height, width: new_width, bytes }
    }

    /// `[channels, self.height, width]`.
    fn resize_rows(&self, taps: &[Taps], width: usize) -> Vec<u8> {
        let mut out = vec![0; self.channels * self.height * width];
        for (row, out) in self.bytes.chunks_exact(self.width.max(1)).zip(out.chunks_exact_mut(width.max(1))) {
            for (out, Taps { first, weights }) in out.iter_mut().zip(taps) {
                let products = row[*first..].iter().zip(weights).map(|(&value, weight)| i32::from(value) * weight);
                *out = rounded((1 << (PRECISION - 1)) + products.sum::<i32>());
            }
        }
        out
    }

    /// `[channels, taps, width]` of `[channels, self.height, width]`.
    fn resize_columns(&self, wide: &[u8], taps: &[Taps], width: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.channels * taps.len() * width);
        let mut sums = vec![0; width];
        for plane in wide.chunks_exact((self.height * width).max(1)) {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::images::picture::decode;
    use std::path::Path;

    /// Pictures that `tools/make_image_fixtures.py` made with Pillow and torchvision.
    fn fixture(name: &str) -> Picture {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images").join(name);
        decode(&std::fs::read(path).unwrap(), 1 << 30).unwrap()
    }

    #[test]
    fn sizes_come_out_as_pillow_makes_them() {
        let source = fixture("source.png");
        assert_eq!((source.height, source.width), (37, 53));
        for (height, width) in [(20, 20), (37, 24), (11, 53), (80, 91), (1, 1), (36, 50)] {
            let expected = fixture(&format!("resized_{height}x{width}.png"));
            assert!(source.resize(height, width) == expected, "{height}x{width}");
        }
        assert!(source.resize(37, 53) == source);
    }

    #[test]
    fn the_middle_is_that_of_torchvision() {
        let source = fixture("source.png");
        for size in [21, 28, 56] {
            assert!(source.centre(size) == fixture(&format!("centre_{size}.png")), "{size}");
        }
        assert!(fixture("tall.png").centre(28) == fixture("tall_centre_28.png"));
    }
}
