//! Random changes of training images that do not change their class.

use std::fmt;
use std::str::FromStr;

use rand::Rng;

use super::draw::below;
use super::images::Picture;
use super::{DataError, DataResult, Dataset, ImageError, Inputs};
use crate::Result;
use crate::random::uniform;
use crate::random::{Purpose, substream};

/// Area of a random crop, as a part of the image's.
const SCALE: [f64; 2] = [0.08, 1.0];
/// Width by height of a random crop.
const RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// Draws of a crop that must fit the image before the middle is taken instead.
const ATTEMPTS: usize = 10;
/// Largest number of pixels in a step.
const MOST_PIXELS: usize = 4096;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Crop { padding: usize },
    Flip,
    Cutout { size: usize },
    RandomResizedCrop { size: usize },
}

/// Random changes of a training image, in the order given; written `crop:4,flip,cutout:8` or
/// `random_resized_crop:224,flip`.
///
/// | step | what it does |
/// | --- | --- |
/// | `crop:P` | a window of the image's own size out of the image with `P` rows and columns of bytes 0 (black) around it, all places equally likely (torchvision's `RandomCrop`) |
/// | `flip` | left becomes right, with probability 1/2 |
/// | `cutout:S` | a square of side `S` (an odd one reaches a pixel further right and down), its centre equally likely on each pixel, cut off at the borders; filled with the bytes nearest to the normalisation's means, 0 without one (DeVries and Taylor 2017, who fill with 0 after normalisation) |
/// | `random_resized_crop:S` | 8 to 100 % of the area at a ratio of 3/4 to 4/3, resized to `S × S` (torchvision's `RandomResizedCrop`, Pillow's antialiased bilinear filter); comes first, and from image files takes the whole image instead of its middle |
///
/// It works on bytes, before normalisation. What happens to a row depends on seed, epoch and row, not on batches, their
/// order or threads.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augmentation {
    steps: Vec<Step>,
}

/// The key of the random numbers of one epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct EpochKey(u64);

impl EpochKey {
    pub(super) fn new(seed: u64, epoch: u64) -> Self {
        Self(substream(seed, Purpose::Augmentation, epoch).next_u64())
    }
}

impl Augmentation {
    /// Whether the steps fit the rows of `data`.
    ///
    /// # Errors
    /// [`ImageError::Augmentation`] where rows are not images in bytes, or a step changes their size.
    pub fn check(&self, data: &Dataset) -> Result<()> {
        let shape = &data.sample_shape;
        let is_image = data.inputs.are_bytes() && shape.len() == 3;
        for step in &self.steps {
            let what = if !is_image {
                format!("`{}`, whose rows are not images in bytes", data.source)
            } else if matches!(step, Step::RandomResizedCrop { size } if shape[1..] != [*size, *size]) {
                format!("images of {}x{} pixels", shape[1], shape[2])
            } else {
                continue;
            };
            return Err(DataError::from(ImageError::Augmentation { step: format!("`{step}`"), what }).into());
        }
        Ok(())
    }

    /// Bytes of an existing row in the epoch of `key`, `[C, H, W]`; the steps fit the data.
    pub(super) fn apply(&self, data: &Dataset, row: usize, key: EpochKey) -> DataResult<Vec<u8>> {
        let rng = &mut substream(key.0, Purpose::Augmentation, row as u64);
        let whole = matches!(self.steps.first(), Some(Step::RandomResizedCrop { .. }));
        let mut picture = match &data.inputs {
            Inputs::Files(files) if whole => files.picture(row)?,
            inputs => {
                let bytes = inputs.bytes(row, data.sample_len())?;
                match data.sample_shape.as_slice() {
                    &[channels, height, width] => Picture { channels, height, width, bytes },
                    _ => return Ok(bytes),
                }
            }
        };
        for step in &self.steps {
            picture = step.apply(picture, data, rng);
        }
        Ok(picture.bytes)
    }
}

impl Step {
    fn apply(self, mut picture: Picture, data: &Dataset, rng: &mut impl Rng) -> Picture {
        let (height, width) = (picture.height, picture.width);
        match self {
            Self::Crop { padding } => {
                let mut offset = || below(rng, 2 * padding + 1) as isize - padding as isize;
                let (top, left) = (offset(), offset());
                picture.crop(top, left, height, width)
            }
            Self::Flip => {
                if uniform(rng) < 0.5 {
                    picture.flip();
                }
                picture
            }
            Self::Cutout { size } => {
                let mut range = |side| {
                    let start = below(rng, side) as isize - (size / 2) as isize;
                    [start, start + size as isize]
                };
                let (rows, columns) = (range(height), range(width));
                picture.fill(rows, columns, &fill_bytes(data));
                picture
            }
            Self::RandomResizedCrop { size } => {
                let [top, left, height, width] = random_window(height, width, rng);
                picture.crop(top as isize, left as isize, height, width).resize(size, size)
            }
        }
    }
}

/// Per channel the byte nearest to the normalisation's mean.
fn fill_bytes(data: &Dataset) -> Vec<u8> {
    match &data.normalisation {
        Some(normalisation) => normalisation.mean.iter().map(|mean| (mean * 255.0).round() as u8).collect(),
        None => vec![0; data.channels()],
    }
}

/// `[top, left, height, width]` of a random part, as torchvision's `RandomResizedCrop.get_params` draws it.
fn random_window(height: usize, width: usize, rng: &mut impl Rng) -> [usize; 4] {
    let area = (height * width) as f64;
    let log_ratio = RATIO.map(libm::log);
    for _ in 0..ATTEMPTS {
        let target = area * (SCALE[0] + (SCALE[1] - SCALE[0]) * uniform(rng));
        let ratio = libm::exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * uniform(rng));
        let part = [target / ratio, target * ratio].map(|square| square.sqrt().round_ties_even() as usize);
        if (1..=height).contains(&part[0]) && (1..=width).contains(&part[1]) {
            return [below(rng, height - part[0] + 1), below(rng, width - part[1] + 1), part[0], part[1]];
        }
    }
    // The largest part of the middle whose ratio is in range.
    let (h, w) = (height as f64, width as f64);
    let part = match w / h {
        ratio if ratio < RATIO[0] => [(w / RATIO[0]).round_ties_even() as usize, width],
        ratio if ratio > RATIO[1] => [height, (h * RATIO[1]).round_ties_even() as usize],
        _ => [height, width],
    };
    [(height - part[0]) / 2, (width - part[1]) / 2, part[0], part[1]]
}

impl FromStr for Augmentation {
    type Err = DataError;

    fn from_str(text: &str) -> DataResult<Self> {
        let syntax = || {
            DataError::syntax(
                "augmentation",
                text,
                "steps such as `crop:4,flip,cutout:8` or `random_resized_crop:224,flip`, each kind once, with 1 to \
                 4096 pixels and random_resized_crop first",
            )
        };
        let steps = text.split(',').map(|step| parse_step(step.trim()).ok_or_else(syntax));
        let steps = steps.collect::<DataResult<Vec<Step>>>()?;
        for (place, step) in steps.iter().enumerate() {
            let kind = std::mem::discriminant(step);
            let again = steps[..place].iter().any(|other| std::mem::discriminant(other) == kind);
            if again || (place > 0 && matches!(step, Step::RandomResizedCrop { .. })) {
                return Err(syntax());
            }
        }
        Ok(Self { steps })
    }
}

fn parse_step(text: &str) -> Option<Step> {
    if text == "flip" {
        return Some(Step::Flip);
    }
    let (kind, number) = text.split_once(':')?;
    let size = number.parse::<usize>().ok().filter(|size| (1..=MOST_PIXELS).contains(size))?;
    match kind {
        "crop" => Some(Step::Crop { padding: size }),
        "cutout" => Some(Step::Cutout { size }),
        "random_resized_crop" => Some(Step::RandomResizedCrop { size }),
        _ => None,
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crop { padding } => write!(f, "crop:{padding}"),
            Self::Flip => f.write_str("flip"),
            Self::Cutout { size } => write!(f, "cutout:{size}"),
            Self::RandomResizedCrop { size } => write!(f, "random_resized_crop:{size}"),
        }
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.steps.iter().map(Step::to_string).collect();
        f.write_str(&steps.join(","))
    }
}

impl TryFrom<String> for Augmentation {
    type Error = DataError;

    fn try_from(text: String) -> DataResult<Self> {
        text.parse()
    }
}

impl From<Augmentation> for String {
    fn from(augmentation: Augmentation) -> Self {
        augmentation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Normalisation, Targets};
    use crate::random::stream;

    /// Rows of 1x4x5 whose bytes say their place: 10 (y + 1) + x + 1.
    fn data(rows: usize) -> Dataset {
        let image: Vec<u8> = (0..20).map(|i| 10 * (i / 5 + 1) + i % 5 + 1).collect();
        let targets = Targets::Classes { labels: vec![0; rows], num_classes: 1 };
        let normalisation = Some(Normalisation { mean: vec![0.5], std: vec![0.25] });
        Dataset::new("test".into(), vec![1, 4, 5], Inputs::Bytes(image.repeat(rows)), targets, normalisation).unwrap()
    }

    fn augmented(text: &str, rows: usize) -> Vec<Vec<u8>> {
        let (data, augmentation) = (data(rows), text.parse::<Augmentation>().unwrap());
        augmentation.check(&data).unwrap();
        (0..rows).map(|row| augmentation.apply(&data, row, EpochKey::new(1, 0)).unwrap()).collect()
    }

    /// Counts of equally likely outcomes lie within 4 standard deviations of their mean.
    fn assert_uniform(counts: &[usize], total: usize) {
        let p = 1.0 / counts.len() as f64;
        let std_dev = (total as f64 * p * (1.0 - p)).sqrt();
        assert!(counts.iter().all(|&count| (count as f64 - total as f64 * p).abs() < 4.0 * std_dev), "{counts:?}");
    }

    #[test]
    fn crops_move_the_image_over_black() {
        let mut counts = vec![0; 9];
        for image in augmented("crop:1", 9000) {
            // Pixel (1, 1) of the window shows where it lies: (y, x) of 0 to 2.
            let place = usize::from(image[6]);
            let (y, x) = (place / 10 - 1, place % 10 - 1);
            counts[3 * y + x] += 1;
            for (i, &byte) in image.iter().enumerate() {
                let (y, x) = (i / 5 + y, i % 5 + x);
                let inside = (1..=4).contains(&y) && (1..=5).contains(&x);
                assert_eq!(usize::from(byte), if inside { 10 * y + x } else { 0 });
            }
        }
        assert_uniform(&counts, 9000);
    }

    #[test]
    fn half_of_the_images_are_flipped() {
        let plain = data(1);
        let Inputs::Bytes(plain) = &plain.inputs else { panic!("no bytes") };
        let images = augmented("flip", 4000);
        let flipped: Vec<u8> = plain.chunks(5).flat_map(|row| row.iter().rev().copied()).collect();
        assert!(images.iter().all(|image| image == plain || *image == flipped));
        let count = images.iter().filter(|image| **image == flipped).count();
        assert_uniform(&[count, 4000 - count], 4000);
    }

    #[test]
    fn cutouts_are_cut_off_at_the_borders_and_filled_with_the_mean() {
        let mut counts = vec![0; 20];
        for image in augmented("cutout:2", 20_000) {
            // 0.5 · 255 = 127.5, rounded away from 0. The square's last pixel is its centre: it never lies outside.
            let centre = image.iter().rposition(|&byte| byte == 128).unwrap();
            counts[centre] += 1;
            let (y, x) = (centre / 5, centre % 5);
            let size = if y > 0 { 2 } else { 1 } * if x > 0 { 2 } else { 1 };
            assert_eq!(image.iter().filter(|&&byte| byte == 128).count(), size);
        }
        assert_uniform(&counts, 20_000);
    }

    /// Moments of area and ratio against those of the distributions, in a large square where every draw of a ratio fits
    /// unless the area is almost all.
    #[test]
    fn windows_have_the_areas_and_ratios_of_torchvision() {
        let mut rng = stream(2, Purpose::Check);
        let windows: Vec<[f64; 4]> =
            (0..20_000).map(|_| random_window(2000, 2000, &mut rng).map(|side| side as f64)).collect();
        assert!(windows.iter().all(|[top, left, h, w]| top + h <= 2000.0 && left + w <= 2000.0));
        // A draw is refused where area · max(r, 1/r) is above the square's; log r is uniform on ±log(4/3). Over the
        // accepted area a: density proportional to min(1, −log a / log(4/3)); its mean by the midpoint rule.
        let accepted = |a: f64| (-a.ln() / (4.0f64 / 3.0).ln()).min(1.0);
        let grid: Vec<f64> = (0..100_000).map(|i| 0.08 + 0.92 * (f64::from(i) + 0.5) / 1e5).collect();
        let total: f64 = grid.iter().map(|&a| accepted(a)).sum();
        let moment = |power| grid.iter().map(|&a| a.powi(power) * accepted(a)).sum::<f64>() / total;
        let (mean, std) = (moment(1), (moment(2) - moment(1).powi(2)).sqrt());
        let areas: f64 = windows.iter().map(|[_, _, h, w]| h * w / 4e6).sum::<f64>() / 2e4;
        // Rounding of the sides shifts an area by 1e-3 at most and by far less on average.
        assert!((areas - mean).abs() < 4.0 * std / 2e4f64.sqrt() + 1e-4, "{areas} {mean}");
        let ratios: f64 = windows.iter().map(|[_, _, h, w]| (w / h).ln()).sum::<f64>() / 2e4;
        // Symmetric about 0, standard deviation at most log(4/3)/√3.
        assert!(ratios.abs() < 4.0 * (4.0f64 / 3.0).ln() / (3.0f64 * 2e4).sqrt(), "{ratios}");
        // In a long strip nothing fits: the middle.
        assert_eq!(random_window(10, 1000, &mut rng), [0, 493, 10, 13]);
        assert_eq!(random_window(1000, 10, &mut rng), [493, 0, 13, 10]);
    }

    #[test]
    fn draws_depend_on_seed_epoch_and_row_only() {
        let (data, augmentation) = (data(50), "crop:2,flip,cutout:1".parse::<Augmentation>().unwrap());
        let apply = |row, seed, epoch| augmentation.apply(&data, row, EpochKey::new(seed, epoch)).unwrap();
        let rows = |seed, epoch| (0..50).map(|row| apply(row, seed, epoch)).collect::<Vec<_>>();
        let first = rows(1, 0);
        assert_eq!(first, rows(1, 0));
        assert!(first != rows(1, 1) && first != rows(2, 0) && first[0] != first[1]);
        let mut backwards: Vec<_> = (0..50).rev().map(|row| apply(row, 1, 0)).collect();
        backwards.reverse();
        assert_eq!(first, backwards);
    }

    #[test]
    fn text_form_round_trips_and_is_checked() {
        for text in ["crop:4,flip,cutout:8", "random_resized_crop:224,flip", "flip"] {
            assert_eq!(text.parse::<Augmentation>().unwrap().to_string(), text);
        }
        for text in
            ["", "crop", "crop:0", "crop:x", "flip:1", "flip,flip", "flip,random_resized_crop:8", "cutout:9999", "a:1"]
        {
            assert!(text.parse::<Augmentation>().unwrap_err().to_string().ends_with("is not a valid augmentation"));
        }
        let error = "random_resized_crop:4".parse::<Augmentation>().unwrap().check(&data(1)).unwrap_err();
        assert_eq!(error.to_string(), "augmentation: `random_resized_crop:4` does not fit images of 4x5 pixels");
        let floats = Dataset { inputs: Inputs::Float32(vec![0.0; 20]), ..data(1) };
        assert!("flip".parse::<Augmentation>().unwrap().check(&floats).unwrap_err().hint().is_some());
    }
}
