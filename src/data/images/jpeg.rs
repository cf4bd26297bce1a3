//! JPEG files as libjpeg-turbo decodes them with its defaults, bit for bit, and with it Pillow and torchvision: its
//! accurate integer inverse transform, triangular upsampling of the colours and conversion in fixed point.

use image::error::{DecodingError, ImageFormatHint};
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat};

/// The most scans that a file may have: encoders write about ten, and each covers the whole image.
const MAX_SCANS: usize = 100;

/// A file whose headers are read.
pub(super) struct JpegDecoder<'a>(Decoder<'a>);

impl<'a> JpegDecoder<'a> {
    /// Reads the headers; the error says what is wrong.
    pub(super) fn new(file: &'a [u8], memory_bytes: usize) -> Result<Self, String> {
        if !is_whole(file) {
            return Err("the JPEG file is cut short".into());
        }
        let limits =
            DecodeLimits { max_scans: MAX_SCANS, max_memory: Some(memory_bytes as u64), ..DecodeLimits::default() };
        let mut decoder = Decoder::new_with_limits(file, limits).map_err(|error| error.to_string())?;
        let header = decoder.header();
        if header.precision != 8 {
            return Err(format!("it has {} bits per sample, not 8", header.precision));
        }
        // CMYK images too, converted as Pillow does.
        let format = if header.components.len() == 1 { PixelFormat::Grayscale } else { PixelFormat::Rgb };
        decoder.set_output_format(format);
        Ok(Self(decoder))
    }
}

impl ImageDecoder for JpegDecoder<'_> {
    fn dimensions(&self) -> (u32, u32) {
        let header = self.0.header();
        (header.width.into(), header.height.into())
    }

    fn color_type(&self) -> ColorType {
        if self.0.header().components.len() == 1 { ColorType::L8 } else { ColorType::Rgb8 }
    }

    fn read_image(self, buffer: &mut [u8]) -> ImageResult<()> {
        let failure = |error: JpegError| {
            ImageError::Decoding(DecodingError::new(ImageFormatHint::Exact(ImageFormat::Jpeg), error))
        };
        self.0.decode_image_into(buffer).map(|_| ()).map_err(failure)
    }

    fn read_image_boxed(self: Box<Self>, buffer: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(buffer)
    }
}

/// Whether a file reaches its end-of-image marker. Without it a decoder may fill what is missing.
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

#[cfg(test)]
mod tests {
    use crate::data::images::picture::decode;
    use crate::data::testing::{MEMORY, damaged, image_fixture};

    /// Subsampling, progressive scans, restarts, grey and CMYK, as `tools/make_image_fixtures.py` had Pillow write and
    /// read them.
    const KINDS: [&str; 8] = ["444", "422", "420", "440", "progressive", "restarts", "grey", "cmyk"];

    #[test]
    fn pixels_are_those_of_pillow() {
        for kind in KINDS {
            let read = |ending| decode(&image_fixture(&format!("jpeg_{kind}.{ending}")), MEMORY).unwrap();
            assert!(read("jpg") == read("png"), "{kind}");
        }
    }

    #[test]
    fn damage_is_an_error_and_memory_a_limit() {
        for kind in KINDS {
            let file = image_fixture(&format!("jpeg_{kind}.jpg"));
            for file in damaged(&file) {
                let _ = decode(&file, 1 << 20);
            }
            assert!(decode(&file, 1 << 10).is_err(), "{kind}");
        }
        let twelve_bits: Vec<u8> = image_fixture("jpeg_444.jpg");
        let frame = twelve_bits.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        let mut twelve_bits = twelve_bits;
        twelve_bits[frame + 4] = 12;
        assert_eq!(decode(&twelve_bits, MEMORY).unwrap_err(), "it has 12 bits per sample, not 8");
    }

    /// A file of empty scans would keep a decoder busy for as long as it likes.
    #[test]
    fn scans_are_counted() {
        let file = image_fixture("jpeg_progressive.jpg");
        let scans: Vec<usize> = (0..file.len() - 1).filter(|&place| file[place..place + 2] == [0xff, 0xda]).collect();
        let last = &file[scans[scans.len() - 1]..file.len() - 2];
        let many = |count: usize| [&file[..file.len() - 2], &last.repeat(count), b"\xff\xd9"].concat();
        let error = decode(&many(super::MAX_SCANS), MEMORY).unwrap_err();
        assert!(error.contains("scan"), "{error}");
    }
}
