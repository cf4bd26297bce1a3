//! The hash that says whether two data sets are the same to a network.

use sha2::{Digest, Sha256};

use super::{Dataset, Inputs, Normalisation, Targets};

impl Dataset {
    /// SHA-256 in hex of what [`Dataset::new`] lists.
    pub(super) fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"flatness data 1");
        update_sizes(&mut hasher, &[self.sample_shape.len()]);
        update_sizes(&mut hasher, &self.sample_shape);
        update_sizes(&mut hasher, &[self.len()]);
        match &self.normalisation {
            None => hasher.update(b"raw"),
            Some(Normalisation { mean, std }) => {
                hasher.update(b"normalised");
                update_floats(&mut hasher, mean.iter().chain(std).copied());
            }
        }
        update_inputs(&mut hasher, &self.inputs);
        for column in &self.columns {
            hasher.update(b"column");
            update_sizes(&mut hasher, &[column.name.len()]);
            hasher.update(column.name.as_bytes());
            update_sizes(&mut hasher, &[column.sample_shape.len()]);
            update_sizes(&mut hasher, &column.sample_shape);
            update_inputs(&mut hasher, &column.inputs);
        }
        match &self.targets {
            Targets::Classes { labels, .. } => {
                hasher.update(b"classes");
                labels.iter().for_each(|label| hasher.update(label.to_le_bytes()));
            }
            Targets::Tokens { labels, sample_shape, .. } => {
                hasher.update(b"tokens");
                update_sizes(&mut hasher, sample_shape);
                labels.iter().for_each(|label| hasher.update(label.to_le_bytes()));
            }
            Targets::Values { values, sample_shape } => {
                hasher.update(b"values");
                update_sizes(&mut hasher, sample_shape);
                update_floats(&mut hasher, values.iter().copied());
            }
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn update_inputs(hasher: &mut Sha256, inputs: &Inputs) {
    match inputs {
        Inputs::Bytes(bytes) => {
            hasher.update(b"bytes");
            hasher.update(bytes);
        }
        Inputs::Files(files) => {
            hasher.update(b"files");
            for (path, bytes) in files.entries() {
                update_sizes(hasher, &[path.len()]);
                hasher.update(path);
                hasher.update(bytes.to_le_bytes());
            }
        }
        Inputs::Float32(values) => {
            hasher.update(b"floats");
            update_floats(hasher, values.iter().map(|&value| f64::from(value)));
        }
        Inputs::Whole(values) => {
            hasher.update(b"whole");
            values.iter().for_each(|value| hasher.update(value.to_le_bytes()));
        }
        Inputs::Float64(values) => {
            hasher.update(b"floats");
            update_floats(hasher, values.iter().copied());
        }
    }
}

fn update_sizes(hasher: &mut Sha256, sizes: &[usize]) {
    sizes.iter().for_each(|&size| hasher.update((size as u64).to_le_bytes()));
}

fn update_floats(hasher: &mut Sha256, values: impl Iterator<Item = f64>) {
    // Adding 0 turns -0 into 0: equal numbers, equal hash.
    values.for_each(|value| hasher.update((value + 0.0).to_bits().to_le_bytes()));
}
