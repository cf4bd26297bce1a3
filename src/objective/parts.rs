//! The rows of an objective: their seeded order, data shards, and objectives on some of them.

use std::ops::Range;

use rand::seq::SliceRandom;

use super::{Objective, ObjectiveError};
use crate::Result;
use crate::random::{Purpose, stream};

/// A spread over fewer shards would say too little about the data error.
const FEWEST_SHARDS: usize = 8;

impl<'a> Objective<'a> {
    /// All rows of the data, in the random order from which shards are cut. Rows that follow one another stay as they are:
    /// neighbours are alike, and only blocks of them are near to independent.
    pub(super) fn shuffled_rows(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.data.len()).collect();
        if !self.data.consecutive {
            rows.shuffle(&mut stream(self.options.seed, Purpose::Shards));
        }
        rows
    }

    /// Consecutive parts of shuffled rows, as many as asked for; fewer, but not below [`FEWEST_SHARDS`], where so few
    /// rows would not pay for committing a gradient. One part, in the order of the data, where rows are coupled.
    pub(super) fn cut_rows(&self, mut rows: Vec<usize>) -> Vec<Vec<usize>> {
        if self.couples_rows() {
            rows.sort_unstable();
            return vec![rows];
        }
        let paying = (rows.len() / self.paying_rows(1)).max(FEWEST_SHARDS);
        let count = self.options.num_shards.min(paying).clamp(1, rows.len().max(1));
        let bounds: Vec<usize> = (0..=count).map(|shard| shard * rows.len() / count).collect();
        bounds.windows(2).map(|bound| rows[bound[0]..bound[1]].to_vec()).collect()
    }

    /// The objective on some of its data shards: the mean over their rows, for cross-fitting.
    ///
    /// The rows of disjoint parts are independent draws where the data are, since shards are random parts. With `W_i` the
    /// weight of the rows of part `i`, the curvature of the whole is `Σ (W_i / Σ W) A_i` over the parts (`A_i` their
    /// curvatures), L2 term included.
    ///
    /// # Errors
    /// [`ObjectiveError::NoShards`] for a range that is empty or reaches past the last shard.
    pub fn part(&self, shards: Range<usize>) -> Result<Objective<'a>> {
        let no_shards =
            || ObjectiveError::NoShards { start: shards.start, end: shards.end, num_shards: self.shards.len() };
        let chosen = self.shards.get(shards.clone()).filter(|chosen| !chosen.is_empty()).ok_or_else(no_shards)?;
        Ok(Self { shards: chosen.to_vec(), ..self.clone() })
    }

    /// The objective on its first `num_rows` rows in the seeded order, cut into shards anew, for studies of how results
    /// depend on the number of rows. Subsets of one objective are nested: a larger one holds every row of a smaller one.
    ///
    /// # Errors
    /// [`ObjectiveError::SubsetSize`] for no rows, or more than there are.
    pub fn first_rows(&self, num_rows: usize) -> Result<Objective<'a>> {
        let own = self.num_rows();
        if num_rows == 0 || num_rows > own {
            return Err(ObjectiveError::SubsetSize { got: num_rows, num_rows: own }.into());
        }
        let mut rows = self.shards.concat();
        if self.couples_rows() && !self.data.consecutive {
            // Coupled rows are kept in the order of the data, which may be sorted by class.
            rows.shuffle(&mut stream(self.options.seed, Purpose::Shards));
        }
        rows.truncate(num_rows);
        Ok(Self { shards: self.cut_rows(rows), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use crate::data::{Dataset, Inputs, Targets};
    use crate::formats::Architecture;
    use crate::objective::{Objective, ObjectiveOptions};
    use crate::program::Loss;

    #[test]
    fn shards_of_consecutive_rows_are_blocks_and_others_are_mixed() {
        let layers = r#"{"layers": [{"kind": "linear", "in": 1, "out": 2, "weight": "w"}]}"#;
        let network = Architecture::from_json(layers, "test").unwrap().network(Default::default()).unwrap();
        let targets = Targets::Classes { labels: vec![0; 40], num_classes: 2 };
        let mixed = Dataset::new("test".into(), vec![1], Inputs::Float64(vec![1.0; 40]), targets, None).unwrap();
        let blocks = Dataset { consecutive: true, ..mixed.clone() };
        for (data, in_order) in [(&mixed, false), (&blocks, true)] {
            let options = ObjectiveOptions { num_shards: 8, ..ObjectiveOptions::new(Loss::cross_entropy()) };
            let objective = Objective::new(&network, data, options).unwrap();
            assert_eq!(objective.num_shards(), 8);
            assert_eq!(objective.shards.concat().is_sorted(), in_order);
        }
    }
}
