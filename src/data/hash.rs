//! The hash that says whether two data sets are the same to a network.

use std::collections::BTreeSet;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::{DataResult, Dataset, Inputs, Normalisation, Targets};
use crate::team::{Team, TeamError};
use crate::{Error, Result};

/// Numbers that are read from a file at a time.
const BLOCK: usize = 1 << 20;

impl Dataset {
    /// SHA-256 in hex of what [`Dataset::new`] lists, on every rank of `team`. Rank 0 reads all rows for it, each of the others
    /// its share of them, which must be as rank 0 has it.
    ///
    /// # Errors
    /// [`TeamError::Differ`]; a file that cannot be read, or has changed; a message that is lost.
    pub(super) fn hash(&self, team: &dyn Team) -> Result<String> {
        let mut hashes = if team.leads() {
            let shares = (1..team.size()).map(|rank| team.share(rank, self.len()));
            let ranges: Vec<_> = std::iter::once(0..self.len()).chain(shares).collect();
            team.of_leader(self.hashes(&ranges).map_err(Error::from))?
        } else {
            let own = self.hashes(&[team.own(self.len())])?;
            let hashes: Vec<String> = team.of_leader(Ok(Vec::new()))?;
            if hashes.get(team.rank()) != own.first() {
                return Err(TeamError::Differ { what: "rows" }.into());
            }
            hashes
        };
        Ok(hashes.swap_remove(0))
    }

    /// A hash of the rows in each of the ranges, the first of which holds the others. Files are read once.
    fn hashes(&self, ranges: &[Range<usize>]) -> DataResult<Vec<String>> {
        let mut hashers: Vec<Sha256> = ranges.iter().map(|range| self.hasher(range.len())).collect();
        update_inputs(&mut hashers, ranges, &self.inputs, &self.sample_shape)?;
        for column in &self.columns {
            for hasher in &mut hashers {
                hasher.update(b"column");
                update_sizes(hasher, &[column.name.len()]);
                hasher.update(column.name.as_bytes());
                update_sizes(hasher, &[column.sample_shape.len()]);
                update_sizes(hasher, &column.sample_shape);
            }
            update_inputs(&mut hashers, ranges, &column.inputs, &column.sample_shape)?;
        }
        let finish = |mut hasher: Sha256| {
            update_targets(&mut hasher, &self.targets);
            hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        Ok(hashers.into_iter().map(finish).collect())
    }

    /// A hasher that has taken what comes before the inputs of so many rows.
    fn hasher(&self, rows: usize) -> Sha256 {
        let mut hasher = Sha256::new();
        hasher.update(b"flatness data 1");
        update_sizes(&mut hasher, &[self.sample_shape.len()]);
        update_sizes(&mut hasher, &self.sample_shape);
        update_sizes(&mut hasher, &[rows]);
        match &self.normalisation {
            None => hasher.update(b"raw"),
            Some(Normalisation { mean, std }) => {
                hasher.update(b"normalised");
                update_floats(&mut hasher, mean.iter().chain(std).copied());
            }
        }
        hasher
    }
}

/// Each hasher takes the rows of its range.
fn update_inputs(
    hashers: &mut [Sha256],
    ranges: &[Range<usize>],
    inputs: &Inputs,
    sample_shape: &[usize],
) -> DataResult<()> {
    hashers.iter_mut().for_each(|hasher| hasher.update(kind(inputs)));
    let sample_len: usize = sample_shape.iter().product();
    let bounds: BTreeSet<usize> = ranges.iter().flat_map(|range| [range.start, range.end]).collect();
    let bounds: Vec<usize> = bounds.into_iter().collect();
    let rows_at_a_time = (BLOCK / sample_len.max(1)).max(1);
    for part in bounds.windows(2) {
        for start in (part[0]..part[1]).step_by(rows_at_a_time) {
            let block = start..part[1].min(start + rows_at_a_time);
            let own = hashers.iter_mut().zip(ranges).filter(|(_, range)| range.contains(&start));
            match inputs {
                Inputs::Stored(rows) => {
                    let read = rows.read(&block.clone().collect::<Vec<_>>())?;
                    own.for_each(|(hasher, _)| update_rows(hasher, &read, 0..block.len(), sample_len));
                }
                _ => own.for_each(|(hasher, _)| update_rows(hasher, inputs, block.clone(), sample_len)),
            }
        }
    }
    Ok(())
}

/// The word before the values.
fn kind(inputs: &Inputs) -> &'static [u8] {
    match inputs {
        Inputs::Bytes(_) => b"bytes",
        Inputs::Files(_) => b"files",
        Inputs::Float32(_) | Inputs::Float64(_) => b"floats",
        Inputs::Whole(_) => b"whole",
        Inputs::Stored(rows) => rows.kind(),
    }
}

/// Takes rows that are in memory, and image files by their names and sizes.
fn update_rows(hasher: &mut Sha256, inputs: &Inputs, rows: Range<usize>, sample_len: usize) {
    let places = rows.start * sample_len..rows.end * sample_len;
    match inputs {
        Inputs::Bytes(bytes) => hasher.update(&bytes[places]),
        Inputs::Files(files) => {
            for (path, bytes) in files.entries(rows) {
                update_sizes(hasher, &[path.len()]);
                hasher.update(path);
                hasher.update(bytes.to_le_bytes());
            }
        }
        Inputs::Float32(values) => update_floats(hasher, values[places].iter().map(|&value| f64::from(value))),
        Inputs::Float64(values) => update_floats(hasher, values[places].iter().copied()),
        Inputs::Whole(values) => values[places].iter().for_each(|value| hasher.update(value.to_le_bytes())),
        Inputs::Stored(_) => {}
    }
}

fn update_targets(hasher: &mut Sha256, targets: &Targets) {
    match targets {
        Targets::Classes { labels, .. } => {
            hasher.update(b"classes");
            labels.iter().for_each(|label| hasher.update(label.to_le_bytes()));
        }
        Targets::Tokens { labels, sample_shape, .. } => {
            hasher.update(b"tokens");
            update_sizes(hasher, sample_shape);
            labels.iter().for_each(|label| hasher.update(label.to_le_bytes()));
        }
        Targets::Values { values, sample_shape } => {
            hasher.update(b"values");
            update_sizes(hasher, sample_shape);
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
