//! An image as bytes, channel by channel, and what may be done to it.

use std::io::Cursor;

use image::{ImageFormat, ImageReader};

/// `[channels, height, width]` bytes, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) struct Picture {
    pub(in crate::data) channels: usize,
    pub(in crate::data) height: usize,
    pub(in crate::data) width: usize,
    pub(in crate::data) bytes: Vec<u8>,
}

/// Whether a file starts like a JPEG or PNG file.
pub(super) fn has_magic(file: &[u8]) -> bool {
    file.starts_with(b"\xff\xd8\xff") || file.starts_with(b"\x89PNG\r\n\x1a\n")
}

/// Decodes a JPEG or PNG file to three channels: grey is repeated, transparency dropped, 16 bits rounded to 8. The
/// orientation that a camera noted is not applied (torchvision's `ImageFolder` does not either).
pub(super) fn decode(file: &[u8]) -> Result<Picture, String> {
    if file.is_empty() {
        return Err("the file is empty".into());
    }
    let format = match has_magic(file) {
        true if file.starts_with(b"\xff") => ImageFormat::Jpeg,
        true => ImageFormat::Png,
        false => return Err("it is neither a JPEG nor a PNG file".into()),
    };
    if format == ImageFormat::Jpeg && !is_whole(file) {
        return Err("the JPEG file is cut short".into());
    }
    let image = ImageReader::with_format(Cursor::new(file), format).decode().map_err(|error| error.to_string())?;
    let image = image.into_rgb8();
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

/// Whether a JPEG file reaches its end-of-image marker. The decoder fills what is missing with grey and says nothing.
fn is_whole(file: &[u8]) -> bool {
    let mut place = 2;
    loop {
        match file.get(place..).unwrap_or_default() {
            [0xff, 0xd9, ..] => return true,
            // Stuffed bytes and restart markers within a scan; markers without content.
            [0xff, 0x00 | 0x01 | 0xd0..=0xd8, ..] => place += 2,
            [0xff, 0xff, ..] => place += 1,
            // A segment says its length, so that the thumbnail within one is passed over.
            [0xff, _, high, low, ..] => place += 2 + usize::from(u16::from_be_bytes([*high, *low])),
            [0xff, ..] | [] => return false,
            [_, ..] => place += 1,
        }
    }
}

impl Picture {
    /// The part of `height × width` pixels at (`top`, `left`), which may lie outside in part: what is not there is 0.
    pub(in crate::data) fn crop(&self, top: isize, left: isize, height: usize, width: usize) -> Self {
        let mut bytes = vec![0; self.channels * height * width];
        let rows = bytes.chunks_exact_mut(width.max(1)).enumerate();
        // Columns of the part that the picture has.
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

    /// Shorter side to `8/7 size` (256 for 224), rounded, then the square of `size` in the middle: the usual way to look at
    /// an image without chance, as torchvision's `Resize` and `CenterCrop` do it.
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
    use crate::data::testing::damaged;
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
            decode(&file).unwrap().bytes
        };
        assert_eq!(png(&[10, 20], ExtendedColorType::L8), [10, 20, 10, 20, 10, 20]);
        assert_eq!(png(&[1, 2, 3, 0, 4, 5, 6, 9], ExtendedColorType::Rgba8), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn files_cut_short_or_of_another_kind_are_refused() {
        let pixels: Vec<u8> = (0..48 * 48 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let mut jpeg = Vec::new();
        JpegEncoder::new(&mut jpeg).write_image(&pixels, 48, 48, ExtendedColorType::Rgb8).unwrap();
        assert_eq!(decode(&jpeg).unwrap().width, 48);
        // Bytes behind the image do not matter; a missing end does.
        assert!(decode(&[jpeg.as_slice(), b"more"].concat()).is_ok());
        for cut in 0..jpeg.len() {
            assert!(decode(&jpeg[..cut]).is_err(), "{cut} of {}", jpeg.len());
        }
        let mut png = Vec::new();
        PngEncoder::new(&mut png).write_image(&pixels, 48, 48, ExtendedColorType::Rgb8).unwrap();
        assert!(decode(&png).is_ok() && decode(&png[..png.len() / 2]).is_err());
        assert_eq!(decode(b"").unwrap_err(), "the file is empty");
        assert_eq!(decode(b"GIF89a").unwrap_err(), "it is neither a JPEG nor a PNG file");
        for file in damaged(&jpeg).chain(damaged(&png)) {
            let _ = decode(&file);
        }
    }
}
