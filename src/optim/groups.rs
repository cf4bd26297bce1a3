//! A value for each parameter that depends only on the role of its tensor.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::autodiff::ParamSpace;
use crate::vocabulary::ParamKind;

/// Which parameters weight decay acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// All parameters.
    #[default]
    All,
    /// Filters and matrices only, not biases or the scale and shift of normalisations.
    Weights,
}

impl Decay {
    /// Whether parameters of this kind decay.
    pub(super) fn acts_on(self, kind: ParamKind) -> bool {
        self == Self::All || kind == ParamKind::Weight
    }
}

/// Runs of equal values along the flat vector.
#[derive(Debug, Clone)]
pub(super) struct Groups<T> {
    /// Where each run ends, and its value.
    runs: Vec<(usize, T)>,
}

impl<T: Copy + PartialEq> Groups<T> {
    /// `value(kind)` for the parameters of each tensor.
    pub(super) fn new(space: &ParamSpace, value: impl Fn(ParamKind) -> T) -> Self {
        let mut runs: Vec<(usize, T)> = Vec::new();
        for tensor in space.tensors().iter().filter(|tensor| !tensor.is_empty()) {
            let (end, value) = (tensor.offset + tensor.len(), value(tensor.kind));
            match runs.last_mut() {
                Some(last) if last.1 == value => last.0 = end,
                _ => runs.push((end, value)),
            }
        }
        Self { runs }
    }

    /// The pieces of equal value of `len` parameters from `start` on, as ranges that count from `start`.
    pub(super) fn pieces(&self, start: usize, len: usize) -> impl Iterator<Item = (Range<usize>, T)> {
        let first = self.runs.partition_point(|&(end, _)| end <= start);
        let mut from = 0;
        self.runs.iter().skip(first).map_while(move |&(end, value)| {
            let piece = from..(end - start).min(len);
            from = piece.end;
            (!piece.is_empty()).then_some((piece, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_where_the_value_changes() {
        let space = ParamSpace::new([
            ("conv.weight".into(), vec![2, 3], ParamKind::Weight),
            ("conv.bias".into(), vec![2], ParamKind::Bias),
            ("norm.weight".into(), vec![2], ParamKind::Norm),
            ("fc.weight".into(), vec![5], ParamKind::Weight),
            ("empty".into(), vec![0], ParamKind::Bias),
        ]);
        let groups = Groups::new(&space, |kind| Decay::Weights.acts_on(kind));
        let pieces = |start, len| groups.pieces(start, len).collect::<Vec<_>>();
        assert_eq!(pieces(0, 15), [(0..6, true), (6..10, false), (10..15, true)]);
        assert_eq!(pieces(4, 3), [(0..2, true), (2..3, false)]);
        assert_eq!(pieces(6, 4), [(0..4, false)]);
        assert_eq!(pieces(10, 2), [(0..2, true)]);
        let all = Groups::new(&space, |kind| Decay::All.acts_on(kind));
        assert_eq!(all.pieces(3, 9).collect::<Vec<_>>(), [(0..9, true)]);
    }
}
