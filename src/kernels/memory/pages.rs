//! Address space of the system's, and which parts of it are free.

use std::collections::{BTreeMap, BTreeSet};
use std::ptr::null_mut;

/// Free ranges start and end at multiples of this: pages of any system.
pub(super) const PAGE: usize = 16 << 10;
/// Address space is taken from the system in parts of this size, or of a block that is larger.
const REGION: usize = 1 << 30;

/// Whether the system holds memory for a range: it does from the first write to it on, until the range is purged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Reads as zeros and takes no memory.
    Clean,
    /// As it was left by whoever had it.
    Dirty,
}

/// Free ranges, of which no two neighbours have the same state.
pub(super) struct Pages {
    /// Length and state, by start.
    free: BTreeMap<usize, (usize, State)>,
    /// Lengths and starts of the clean ones.
    clean: BTreeSet<(usize, usize)>,
    /// Lengths and starts of the dirty ones.
    dirty: BTreeSet<(usize, usize)>,
    dirty_bytes: usize,
}

impl Pages {
    pub(super) const fn new() -> Self {
        Self { free: BTreeMap::new(), clean: BTreeSet::new(), dirty: BTreeSet::new(), dirty_bytes: 0 }
    }

    /// Bytes of the dirty ranges.
    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// A block of `bytes`, a multiple of [`PAGE`], from the smallest range of this state that holds it; `None` where none
    /// does.
    pub(super) fn take(&mut self, bytes: usize, state: State) -> Option<*mut u8> {
        let &(length, start) = self.of(state).range((bytes, 0)..).next()?;
        self.remove(start);
        if length > bytes {
            self.insert(start + bytes, length - bytes, state);
        }
        Some(start as *mut u8)
    }

    /// Takes a block back, which the system has memory for.
    pub(super) fn give(&mut self, block: *mut u8, bytes: usize) {
        self.join(block as usize, bytes, State::Dirty);
    }

    /// Returns the memory of dirty ranges to the system, the largest first, until that has been `bytes`, or all.
    pub(super) fn purge(&mut self, mut bytes: usize) {
        while bytes > 0
            && let Some(&(length, start)) = self.dirty.last()
        {
            self.remove(start);
            let purged = length.min(bytes).next_multiple_of(PAGE);
            system::purge(start, purged);
            if length > purged {
                self.insert(start + purged, length - purged, State::Dirty);
            }
            self.join(start, purged, State::Clean);
            bytes = bytes.saturating_sub(purged);
        }
    }

    /// Takes address space for a block of `bytes` from the system; says whether that had some.
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        let length = bytes.max(REGION);
        // Where limits are narrow, as much as the block needs.
        let found = system::map(length).map(|start| (start, length));
        let Some((start, length)) = found.or_else(|| system::map(bytes).map(|start| (start, bytes))) else {
            return false;
        };
        self.join(start, length, State::Clean);
        true
    }

    /// Adds a range, as one with the neighbours of its state.
    fn join(&mut self, mut start: usize, mut length: usize, state: State) {
        if let Some((&before, &(size, own))) = self.free.range(..start).next_back()
            && before + size == start
            && own == state
        {
            self.remove(before);
            (start, length) = (before, size + length);
        }
        if let Some(&(size, own)) = self.free.get(&(start + length))
            && own == state
        {
            self.remove(start + length);
            length += size;
        }
        self.insert(start, length, state);
    }

    fn insert(&mut self, start: usize, length: usize, state: State) {
        self.free.insert(start, (length, state));
        self.of(state).insert((length, start));
        self.dirty_bytes += if state == State::Dirty { length } else { 0 };
    }

    fn remove(&mut self, start: usize) {
        if let Some((length, state)) = self.free.remove(&start) {
            self.of(state).remove(&(length, start));
            self.dirty_bytes -= if state == State::Dirty { length } else { 0 };
        }
    }

    fn of(&mut self, state: State) -> &mut BTreeSet<(usize, usize)> {
        match state {
            State::Clean => &mut self.clean,
            State::Dirty => &mut self.dirty,
        }
    }
}

#[cfg(unix)]
mod system {
    use super::null_mut;

    /// A new range that reads as zeros, in huge pages if the system has them; `None` where it has no room.
    pub(super) fn map(bytes: usize) -> Option<usize> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of its own, at a place that the system chooses.
        let start = unsafe { libc::mmap(null_mut(), bytes, access, kind | libc::MAP_NORESERVE, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        #[cfg(target_os = "linux")]
        // SAFETY: the mapping just made. Where the advice is refused, pages are small.
        unsafe {
            libc::madvise(start, bytes, libc::MADV_HUGEPAGE);
        }
        Some(start as usize)
    }

    /// Returns the memory of a free range, which reads as zeros from then on.
    pub(super) fn purge(start: usize, bytes: usize) {
        #[cfg(target_os = "linux")]
        // SAFETY: a range of `map` that nobody uses.
        unsafe {
            libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_DONTNEED);
        }
        #[cfg(not(target_os = "linux"))]
        {
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let kind = kind | libc::MAP_NORESERVE | libc::MAP_FIXED;
            // SAFETY: in place of a range of `map` that nobody uses; only here does the advice not clear it.
            unsafe { libc::mmap(start as *mut libc::c_void, bytes, access, kind, -1, 0) };
        }
    }
}

/// Without ranges: every block is mimalloc's.
#[cfg(not(unix))]
mod system {
    pub(super) fn map(_: usize) -> Option<usize> {
        None
    }

    pub(super) fn purge(_: usize, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pages: &Pages) -> Vec<(usize, bool)> {
        pages.free.values().map(|&(length, state)| (length / PAGE, state == State::Dirty)).collect()
    }

    #[test]
    fn ranges_are_cut_joined_and_purged() {
        let mut pages = Pages::new();
        assert!(pages.take(PAGE, State::Clean).is_none() && pages.reserve(PAGE));
        let all = REGION / PAGE;
        let blocks = [1, 2, 3].map(|count| (pages.take(count * PAGE, State::Clean).unwrap(), count * PAGE));
        assert_eq!(ranges(&pages), [(all - 6, false)]);
        let give = |pages: &mut Pages, index: usize| {
            let (block, bytes): (*mut u8, usize) = blocks[index];
            // SAFETY: a block just taken.
            unsafe { block.write_bytes(1, bytes) }
            pages.give(block, bytes);
        };
        give(&mut pages, 0);
        give(&mut pages, 2);
        assert_eq!(ranges(&pages), [(1, true), (3, true), (all - 6, false)]);
        give(&mut pages, 1);
        assert_eq!((ranges(&pages), pages.dirty_bytes()), (vec![(6, true), (all - 6, false)], 6 * PAGE));
        // The smallest range that holds it: of the dirty ones there is one.
        assert!(pages.take(7 * PAGE, State::Dirty).is_none());
        let again = pages.take(2 * PAGE, State::Dirty).unwrap();
        assert_eq!(again, blocks[0].0);
        pages.purge(PAGE + 1);
        assert_eq!(ranges(&pages), [(2, false), (2, true), (all - 6, false)]);
        pages.give(again, 2 * PAGE);
        pages.purge(usize::MAX);
        assert_eq!((ranges(&pages), pages.dirty_bytes()), (vec![(all, false)], 0));
        let clean = pages.take(6 * PAGE, State::Clean).unwrap();
        // SAFETY: a block just taken.
        assert!((0..6 * PAGE).all(|i| unsafe { *clean.add(i) } == 0));
    }
}
