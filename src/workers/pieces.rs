//! Sums by fixed pieces and a fixed tree, whoever brings the terms.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::lock::lock;
use crate::Result;
use crate::team::Wire;

/// Items cut into even pieces of consecutive ones, as [`Workers::reduce`](super::Workers::reduce) adds them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub(super) count: usize,
    pieces: usize,
}

impl Cut {
    /// `count` items in `pieces` pieces: at least one, at most as many as items.
    pub fn new(count: usize, pieces: usize) -> Self {
        Self { count, pieces: pieces.min(count).max(1) }
    }

    /// Pieces; 1 without items.
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    /// The items of consecutive pieces.
    pub(super) fn items(&self, pieces: &Range<usize>) -> Range<usize> {
        pieces.start * self.count / self.pieces..pieces.end * self.count / self.pieces
    }

    pub(super) fn range(&self, piece: usize) -> Range<usize> {
        self.items(&(piece..piece + 1))
    }

    pub(super) fn piece_of(&self, item: usize) -> usize {
        // The largest `j` with `⌊j·count/p⌋ ≤ item`.
        ((item + 1) * self.pieces - 1) / self.count
    }
}

/// A sum of items of kind `R`, made of pieces, which may come from other ranks.
pub trait PieceSum<R>: Send + Wire {
    /// What is made of the whole sum.
    type Whole: Send + Wire;

    /// Adds the next item of its piece.
    ///
    /// # Errors
    /// What the addition says; it ends the whole.
    fn add(&mut self, item: R) -> Result<()>;

    /// With the sum of the items that come after its own.
    ///
    /// # Errors
    /// As [`PieceSum::add`].
    fn merge(self, later: Self) -> Result<Self>;

    /// What everyone gets; called once, on the sum of all items.
    ///
    /// # Errors
    /// As [`PieceSum::add`].
    fn conclude(self) -> Result<Self::Whole>;
}

/// Results of consecutive items on their way to be committed in order, to a state such as their sum.
pub(super) struct Line<R, C> {
    end: usize,
    waiting: Mutex<Waiting<R, C>>,
}

struct Waiting<R, C> {
    next: usize,
    early: BTreeMap<usize, R>,
    /// Away with whoever commits.
    state: Option<C>,
}

impl<R, C> Line<R, C> {
    pub(super) fn new(items: Range<usize>, state: C) -> Self {
        let waiting = Waiting { next: items.start, early: BTreeMap::new(), state: Some(state) };
        Self { end: items.end, waiting: Mutex::new(waiting) }
    }

    /// Brings a result, and commits what is ready unless somebody else does; the state, when all items are committed.
    pub(super) fn bring(
        &self,
        index: usize,
        result: R,
        commit: impl Fn(&mut C, usize, R) -> Result<()>,
    ) -> Result<Option<C>> {
        lock(&self.waiting).early.insert(index, result);
        loop {
            let (mut state, next, result) = {
                let mut waiting = lock(&self.waiting);
                // Whoever has the state looks again before leaving it.
                let Some(state) = waiting.state.take() else { return Ok(None) };
                let next = waiting.next;
                if next == self.end {
                    return Ok(Some(state));
                }
                match waiting.early.remove(&next) {
                    Some(result) => (state, next, result),
                    None => {
                        waiting.state = Some(state);
                        return Ok(None);
                    }
                }
            };
            commit(&mut state, next, result)?;
            let mut waiting = lock(&self.waiting);
            (waiting.next, waiting.state) = (next + 1, Some(state));
        }
    }
}

/// A binary tree over `count` leaves, whose shape depends on `count` alone.
pub(super) struct Tree<S> {
    count: usize,
    /// The leaves that are brought here.
    own: Range<usize>,
    /// By level and place, what waits for its sibling.
    waiting: Mutex<BTreeMap<(u32, usize), S>>,
}

impl<S> Tree<S> {
    pub(super) fn new(count: usize, own: Range<usize>) -> Self {
        Self { count, own, waiting: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn leaves(&self) -> usize {
        self.count
    }

    /// Nodes of a level; the leaves are level 0.
    pub(super) fn nodes(&self, level: u32) -> usize {
        self.count.div_ceil(1 << level)
    }

    /// Whether all leaves below a node are brought here.
    fn is_own(&self, level: u32, place: usize) -> bool {
        let end = self.count.min((place + 1) << level);
        self.own.start <= place << level && end <= self.own.end
    }

    /// Brings a leaf, and merges upwards as far as siblings are there; the last two sums are left to [`Tree::finish`].
    pub(super) fn add(&self, leaf: usize, sum: S, merge: impl Fn(S, S) -> Result<S>) -> Result<()> {
        let (mut level, mut place, mut sum) = (0, leaf, sum);
        loop {
            let (nodes, sibling) = (self.nodes(level), place ^ 1);
            if nodes <= 2 || sibling < nodes && !self.is_own(level, sibling) {
                lock(&self.waiting).insert((level, place), sum);
                return Ok(());
            }
            if sibling < nodes {
                let other = {
                    let mut waiting = lock(&self.waiting);
                    match waiting.remove(&(level, sibling)) {
                        Some(other) => other,
                        None => {
                            waiting.insert((level, place), sum);
                            return Ok(());
                        }
                    }
                };
                sum = if place < sibling { merge(sum, other)? } else { merge(other, sum)? };
            }
            (level, place) = (level + 1, place / 2);
        }
    }

    /// What waits at a node.
    pub(super) fn take(&mut self, level: u32, place: usize) -> Option<S> {
        self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner).remove(&(level, place))
    }

    /// An unpaired node moves up.
    pub(super) fn lift(&mut self, level: u32, place: usize) {
        if let Some(sum) = self.take(level, place) {
            self.put(level + 1, place / 2, sum);
        }
    }

    /// The left of two nodes and the right one make theirs above. Nothing happens where that is already there.
    pub(super) fn join(
        &mut self,
        level: u32,
        left: usize,
        right: Option<S>,
        merge: impl Fn(S, S) -> Result<S>,
    ) -> Result<()> {
        if let Some((left_sum, right_sum)) = self.take(level, left).zip(right) {
            self.put(level + 1, left / 2, merge(left_sum, right_sum)?);
        }
        Ok(())
    }

    fn put(&mut self, level: u32, place: usize, sum: S) {
        self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner).insert((level, place), sum);
    }

    /// The root, when all leaves are there; `None` without leaves.
    pub(super) fn finish(self, merge: impl Fn(S, S) -> Result<S>) -> Result<Option<S>> {
        let mut sums = self.waiting.into_inner().unwrap_or_else(PoisonError::into_inner).into_values();
        match (sums.next(), sums.next()) {
            (Some(left), Some(right)) => merge(left, right).map(Some),
            (root, _) => Ok(root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_even_and_hold_each_item_once() {
        for (count, pieces) in [(1, 1), (7, 3), (32, 32), (33, 32), (40, 16), (5, 9)] {
            let cut = Cut::new(count, pieces);
            let ranges: Vec<Range<usize>> = (0..cut.pieces()).map(|piece| cut.range(piece)).collect();
            assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            for (piece, range) in ranges.into_iter().enumerate() {
                assert!(range.len() >= count / pieces && range.len() <= count.div_ceil(pieces.min(count)));
                assert!(range.into_iter().all(|item| cut.piece_of(item) == piece));
            }
        }
        assert_eq!(Cut::new(0, 4).range(0), 0..0);
    }
}
