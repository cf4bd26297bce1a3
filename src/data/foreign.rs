//! Rows of another origin in the form that a network takes.

use super::images::Picture;
use super::{Dataset, Inputs, Targets};
use crate::Result;
use crate::random::{Purpose, substream, uniform};

impl Dataset {
    /// The rows of `other` as inputs of a network for the rows of this set: normalised as these, images of bytes resized to
    /// their size (bilinear, as [`super::ImageFiles`] does), grey ones repeated over three channels. Labels go. `None` where
    /// shapes still differ.
    ///
    /// # Errors
    /// Rows without numbers in them.
    pub(crate) fn foreign(&self, other: &Self) -> Result<Option<Self>> {
        let (to, from) = (self.sample_shape.as_slice(), other.sample_shape.as_slice());
        if to == from {
            return self.unlabelled(other.source.clone(), other.inputs.clone(), other.len()).map(Some);
        }
        // Other values are not resized, so there is no need to read them.
        if !other.inputs.are_bytes() {
            return Ok(None);
        }
        let inputs = match (&*other.inputs.in_memory()?, to, from) {
            (Inputs::Bytes(bytes), &[channels, height, width], &[own, rows, columns])
                if own == channels || (own, channels) == (1, 3) =>
            {
                let pictures = bytes.chunks_exact((own * rows * columns).max(1));
                let resized = pictures.flat_map(|bytes| {
                    let picture = Picture { channels: own, height: rows, width: columns, bytes: bytes.to_vec() };
                    let bytes = picture.resize(height, width).bytes;
                    bytes.repeat(channels / own.max(1))
                });
                Inputs::Bytes(resized.collect())
            }
            _ => return Ok(None),
        };
        self.unlabelled(other.source.clone(), inputs, other.len()).map(Some)
    }

    /// As many rows of noise as there are, each value uniform on `0..1` before the normalisation; bytes for bytes.
    ///
    /// # Errors
    /// Rows without numbers in them.
    pub(crate) fn noise(&self, seed: u64) -> Result<Self> {
        let draw = |row: usize| {
            let mut rng = substream(seed, Purpose::NoiseImages, row as u64);
            (0..self.sample_len()).map(move |_| uniform(&mut rng))
        };
        let values = (0..self.len()).flat_map(draw);
        let inputs = match self.inputs.are_bytes() {
            true => Inputs::Bytes(values.map(|value| (256.0 * value) as u8).collect()),
            false => Inputs::Float32(values.map(|value| value as f32).collect()),
        };
        self.unlabelled("noise".into(), inputs, self.len())
    }

    /// Rows in the form of these, with a label that stands for none.
    fn unlabelled(&self, source: String, inputs: Inputs, count: usize) -> Result<Self> {
        let targets = Targets::Classes { labels: vec![0; count], num_classes: 1 };
        let mut rows = Self::new(source, self.sample_shape.clone(), inputs, targets, self.normalisation.clone())?;
        rows.input_name.clone_from(&self.input_name);
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(shape: &[usize], bytes: Vec<u8>) -> Dataset {
        let count = bytes.len() / shape.iter().product::<usize>();
        let targets = Targets::Classes { labels: vec![1; count], num_classes: 2 };
        Dataset::new("images".into(), shape.to_vec(), Inputs::Bytes(bytes), targets, None).unwrap()
    }

    #[test]
    fn grey_images_are_resized_and_repeated_over_the_channels() {
        let own = images(&[3, 4, 4], vec![0; 48]);
        let grey = images(&[1, 2, 2], vec![10, 10, 10, 10, 200, 200, 200, 200]);
        let foreign = own.foreign(&grey).unwrap().unwrap();
        assert_eq!(foreign.sample_shape, [3, 4, 4]);
        assert_eq!(foreign.inputs, Inputs::Bytes([vec![10; 48], vec![200; 48]].concat()));
        assert_eq!(foreign.targets, Targets::Classes { labels: vec![0; 2], num_classes: 1 });
        // Colours do not become grey, nor floats other sizes.
        assert!(grey.foreign(&own).unwrap().is_none());
        let floats = Dataset { inputs: Inputs::Float32(vec![0.0; 8]), ..grey };
        assert!(own.foreign(&floats).unwrap().is_none() && floats.foreign(&floats).unwrap().is_some());
    }

    #[test]
    fn noise_has_the_form_of_the_rows_and_is_seeded() {
        let own = images(&[1, 3, 3], vec![7; 45]);
        let noise = own.noise(4).unwrap();
        assert_eq!((noise.len(), &noise.sample_shape), (5, &own.sample_shape));
        assert_eq!(noise.sha256, own.noise(4).unwrap().sha256);
        assert_ne!(noise.sha256, own.noise(5).unwrap().sha256);
    }
}
