//! An image as bytes, channel by channel, and operations on it.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::jpeg::JpegDecoder;
use super::share::Share;

/// `[channels, height, width]` bytes, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) struct Picture {
    pub(in crate::data) channels: usize,
    pub(in crate::data) height: usize,
    pub(in crate::data) width: usize,
    pub(in crate::data) bytes: Vec<u8>,
}

/// Kinds of files that are read.
pub(super) const KINDS: &str = "JPEG, PNG, WebP, BMP, TIFF or GIF";
/// The first bytes that tell one from another.
pub(super) const MAGIC_LEN: usize = 12;
/// The most pixels of an image that is decoded; the largest photograph of ImageNet has half as many.
const MAX_PIXELS: u64 = 1 << 27;
/// Bytes per pixel that decoding takes beyond the decoder's own count: coefficients within it, and the channels both
/// interleaved and separate.
const PIXEL_BYTES: u64 = 12;

/// The kind of a file, by its first bytes.
pub(super) fn format(file: &[u8]) -> Option<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    image::guess_format(file).ok().filter(|format| [Jpeg, Png, WebP, Bmp, Tiff, Gif].contains(format))
}

/// Decodes an image file to three channels, the first frame of an animated one: grey is repeated, transparency dropped,
/// 16 bits rounded to 8. The orientation that a camera noted is not applied (torchvision's `ImageFolder` does not
/// either).
pub(super) fn decode(file: &[u8], memory_bytes: usize) -> Result<Picture, String> {
    if file.is_empty() {
        return Err("the file is empty".into());
    }
    let format = format(file).ok_or_else(|| format!("it is not a {KINDS} file"))?;
    contained(|| {
        let decoder = decoder(file, format, memory_bytes)?;
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        let needed = decoder.total_bytes().saturating_add(pixels.saturating_mul(PIXEL_BYTES));
        if pixels > MAX_PIXELS || needed > memory_bytes as u64 {
            return Err(format!("it claims {width}x{height} pixels, which do not fit --memory or are above 2^27"));
        }
        let _share = Share::wait(needed as usize, memory_bytes);
        let image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
        planes(&image.into_rgb8())
    })
}

/// What reads the file, within limits; nothing is decoded yet.
pub(in crate::data) fn decoder(
    file: &[u8],
    format: ImageFormat,
    memory_bytes: usize,
) -> Result<Box<dyn ImageDecoder + '_>, String> {
    if format == ImageFormat::Jpeg {
        return Ok(Box::new(JpegDecoder::new(file, memory_bytes)?));
    }
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(memory_bytes as u64);
    reader.limits(limits);
    Ok(Box::new(reader.into_decoder().map_err(|error| error.to_string())?))
}

/// Calls `decode`; a panic of a decoder becomes an error.
pub(in crate::data) fn contained<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err("it is damaged: its decoder fails".into()))
}

fn planes(image: &RgbImage) -> Result<Picture, String> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width == 0 || height == 0 {
        return Err("the image has no pixels".into());
    }
    let mut bytes = vec![0; 3 * width * height];
    let (red, rest) = bytes.split_at_mut(width * height);
    let (green, blue) = rest.split_at_mut(width * height);
    let planes = red.iter_mut().zip(green).zip(blue);
    for (&[r, g, b], ((red, green), blue)) in image.as_raw().as_chunks().0.iter().zip(planes) {
        (*red, *green, *blue) = (r, g, b);
    }
    Ok(Picture { channels: 3, height, width, bytes })
}

impl Picture {
    /// The part of `height × width` pixels at (`top`, `left`), which may reach beyond the image: pixels outside are 0.
    pub(in crate::data) fn crop(&self, top: isize, left: isize, height: usize, width: usize) -> Self {
        let mut bytes = vec![0; self.channels * height * width];
        let rows = bytes.chunks_exact_mut(width.max(1)).enumerate();
        // The columns of the part that lie within the picture.
        let first = (-left).clamp(0, width as isize) as usize;
        let end = (self.width as isize - left).clamp(first as isize, width as isize) as usize;
        for (index, row) in rows {
            let (channel, y) = (index / height, (index % height) as isize + top);
            if (0..self.height as isize).contains(&y) && first < end {
                let start = (channel * self.height + y as usize) * self.width;
                let from = start + (first as isize + left) as usize;
                row[first..end].copy_from_slice(&self.bytes[from..from + end - first]);
            }
        }
        Self { channels: self.channels, height, width, bytes }
    }

    /// Left becomes right.
    pub(in crate::data) fn flip(&mut self) {
        self.bytes.chunks_exact_mut(self.width.max(1)).for_each(<[u8]>::reverse);
    }

    /// Fills rows `top..bottom` and columns `left..right`, cut off at the borders, with a value per channel.
    pub(in crate::data) fn fill(&mut self, [top, bottom]: [isize; 2], [left, right]: [isize; 2], values: &[u8]) {
        let within = |place: isize, end: usize| place.clamp(0, end as isize) as usize;
        let (left, right) = (within(left, self.width), within(right, self.width));
        let planes = self.bytes.chunks_exact_mut((self.height * self.width).max(1));
        for (plane, &value) in planes.zip(values) {
            for row in within(top, self.height)..within(bottom, self.height) {
                plane[row * self.width..][left..right].fill(value);
            }
        }
    }

    /// Shorter side to `8/7 size` (256 for 224), rounded, then the square of `size` in the middle: the usual
    /// deterministic preparation, as torchvision's `Resize` and `CenterCrop` do it.
    pub(super) fn centre(&self, size: usize) -> Self {
        let short = (16 * size + 7) / 14;
        let long = |long: usize, side: usize| short * long / side;
        let resized = match self.height <= self.width {
            true => [short, long(self.width, self.height)],
            false => [long(self.height, self.width), short],
        };
        // Half a pixel is rounded to even, as Python's `round` does.
        let [rows, columns] = resized.map(|side| {
            let twice = side - size;
            let start = twice / 2 + usize::from(twice % 4 == 3);
            start..start + size
        });
        self.resize_window(resized, rows, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::{MEMORY, damaged};
    use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};

    fn picture(height: usize, width: usize) -> Picture {
        Picture { channels: 2, height, width, bytes: (1..=(2 * height * width) as u8).collect() }
    }

    #[test]
    fn what_lies_outside_is_zero() {
        let part = picture(2, 3).crop(-1, 1, 3, 3);
        assert_eq!(part.bytes, [0, 0, 0, 2, 3, 0, 5, 6, 0, 0, 0, 0, 8, 9, 0, 11, 12, 0]);
        assert_eq!(picture(2, 3).crop(0, -1, 1, 2).bytes, [0, 1, 0, 7]);
        assert_eq!(picture(2, 3).crop(5, -9, 1, 2).bytes, [0; 4]);
        let mut flipped = picture(2, 3);
        flipped.flip();
        assert_eq!(flipped.bytes, [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10]);
        let mut filled = picture(2, 3);
        filled.fill([-1, 1], [1, 9], &[77, 88]);
        assert_eq!(filled.bytes, [1, 77, 77, 4, 5, 6, 7, 88, 88, 10, 11, 12]);
    }

    #[test]
    fn grey_and_transparent_files_become_three_channels() {
        let png = |pixels: &[u8], colour| {
            let mut file = Vec::new();
            PngEncoder::new(&mut file).write_image(pixels, 2, 1, colour).unwrap();
            decode(&file, MEMORY).unwrap().bytes
        };
        assert_eq!(png(&[10, 20], ExtendedColorType::L8), [10, 20, 10, 20, 10, 20]);
        assert_eq!(png(&[1, 2, 3, 0, 4, 5, 6, 9], ExtendedColorType::Rgba8), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn files_cut_short_or_of_another_kind_are_refused() {
        let pixels: Vec<u8> = (0..48 * 48 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let mut jpeg = Vec::new();
        JpegEncoder::new(&mut jpeg).write_image(&pixels, 48, 48, ExtendedColorType::Rgb8).unwrap();
        assert_eq!(decode(&jpeg, MEMORY).unwrap().width, 48);
        // Bytes behind the image do not matter; a missing end does.
        assert!(decode(&[jpeg.as_slice(), b"more"].concat(), MEMORY).is_ok());
        for cut in 0..jpeg.len() {
            assert!(decode(&jpeg[..cut], MEMORY).is_err(), "{cut} of {}", jpeg.len());
        }
        let mut png = Vec::new();
        PngEncoder::new(&mut png).write_image(&pixels, 48, 48, ExtendedColorType::Rgb8).unwrap();
        assert!(decode(&png, MEMORY).is_ok() && decode(&png[..png.len() / 2], MEMORY).is_err());
        assert_eq!(decode(b"", MEMORY).unwrap_err(), "the file is empty");
        assert_eq!(decode(b"%PDF-1.4", MEMORY).unwrap_err(), "it is not a JPEG, PNG, WebP, BMP, TIFF or GIF file");
        for file in damaged(&jpeg).chain(damaged(&png)) {
            let _ = decode(&file, MEMORY);
        }
    }

    #[test]
    fn every_kind_is_read_and_its_damage_is_contained() {
        let image = RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 / 2 * 20, y as u8 * 15, 7]));
        for format in [ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif, ImageFormat::Png] {
            let mut file = Cursor::new(Vec::new());
            image.write_to(&mut file, format).unwrap();
            let file = file.into_inner();
            let picture = decode(&file, MEMORY).unwrap();
            assert_eq!((picture.height, picture.width), (16, 24), "{format:?}");
            // 192 colours, which a GIF holds as they are.
            assert_eq!(picture.bytes, planes(&image).unwrap().bytes, "{format:?}");
            for file in damaged(&file) {
                let _ = decode(&file, 1 << 20);
            }
        }
    }

    #[test]
    fn what_an_image_claims_is_held_against_the_memory() {
        let mut file = Cursor::new(Vec::new());
        RgbImage::new(100, 100).write_to(&mut file, ImageFormat::Bmp).unwrap();
        let mut file = file.into_inner();
        assert!(decode(&file, 15 * 100 * 100).is_ok());
        let error = decode(&file, 15 * 100 * 100 - 1).unwrap_err();
        assert!(error.starts_with("it claims 100x100 pixels"), "{error}");
        // Width and height of the header.
        file[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
        assert!(decode(&file, usize::MAX).unwrap_err().contains("65535x65535"));
    }
}
