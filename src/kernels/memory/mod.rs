//! The allocator: mimalloc for small blocks; large ones are kept for the next of their size, or of any.

mod pages;

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mimalloc::MiMalloc;

use self::pages::{PAGE, Pages, State};

/// What a computation plans with unless it is told otherwise, in bytes.
pub(crate) const DEFAULT_MEMORY: usize = 2 << 30;

/// Blocks from this size on are large, as a power of two: tensors of a micro-batch and larger.
const LARGE_BITS: u32 = 17;
/// Sizes of large blocks between a power of two and the next, as a power of two.
const STEP_BITS: u32 = 5;
/// Up to the largest block that a layout can ask for.
const NUM_SIZES: usize = ((usize::BITS - LARGE_BITS) as usize) << STEP_BITS;

/// What the engine plans with, in bytes.
static ALLOWED: AtomicUsize = AtomicUsize::new(0);

/// Lets a [`KeepingAllocator`] keep more freed memory, as long as all takes no more than three quarters of `memory_bytes`, what
/// the engine plans with.
pub fn keep_freed_memory(memory_bytes: usize) {
    ALLOWED.store(memory_bytes, Relaxed);
}

/// Keeps freed blocks of 128 KiB and more as long as blocks in use and kept ones together take no more than was ever in use at
/// once, or half as much again if [`keep_freed_memory`] allows it: the process needs hardly more memory than it would without,
/// and a pass over the rows takes its tensors without a system call, on pages that are there.
///
/// A freed block waits for the next request of its size. If none waits, the block is cut from pages that belong to no block, and
/// failing that, from new memory of the system. If that would exceed the bound, all freed blocks are first joined to such pages;
/// if these are still too scattered, as many of them go back to the system as it gives.
/// Smaller blocks, and those of unusual alignment, are mimalloc's.
pub struct KeepingAllocator {
    /// Freed blocks by size.
    sizes: [Stack; NUM_SIZES],
    /// What belongs to no block.
    pages: Mutex<Pages>,
    /// Bytes of large blocks in use.
    in_use: AtomicUsize,
    /// Bytes of freed blocks.
    kept: AtomicUsize,
    /// The most that was in use.
    peak: AtomicUsize,
    allowed: &'static AtomicUsize,
}

/// The freed blocks of a size.
struct Stack(Mutex<*mut Free>);

/// A freed block, which holds the next one of its size.
struct Free {
    next: *mut Free,
}

// SAFETY: nobody else has the blocks of a stack, and the lock gives them to one thread at a time.
unsafe impl Sync for Stack {}

impl KeepingAllocator {
    /// Keeps nothing yet.
    pub const fn new() -> Self {
        Self::within(&ALLOWED)
    }

    const fn within(allowed: &'static AtomicUsize) -> Self {
        Self {
            sizes: [const { Stack(Mutex::new(null_mut())) }; NUM_SIZES],
            pages: Mutex::new(Pages::new()),
            in_use: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            allowed,
        }
    }

    /// Returns what is kept to the system, and forgets the peak.
    pub fn release(&self) {
        let mut pages = locked(&self.pages);
        self.give_up(&mut pages);
        pages.purge(usize::MAX);
        self.peak.store(self.in_use.load(Relaxed), Relaxed);
    }

    /// Null where the system has no memory.
    fn alloc_large(&self, size: Size, zeroed: bool) -> *mut u8 {
        let in_use = self.in_use.fetch_add(size.bytes, Relaxed) + size.bytes;
        self.peak.fetch_max(in_use, Relaxed);
        let kept = self.pop(size).map(|block| (block, State::Dirty));
        let Some((block, state)) = kept.or_else(|| self.put_together(size)) else {
            self.in_use.fetch_sub(size.bytes, Relaxed);
            return null_mut();
        };
        if zeroed && state == State::Dirty {
            // SAFETY: a block of this size, and nobody else's.
            unsafe { block.write_bytes(0, size.bytes) }
        }
        block
    }

    /// Bytes that blocks in use and kept ones may have together: more than was ever in use only where that leaves room for what
    /// is not counted here.
    fn most(&self) -> usize {
        let peak = self.peak.load(Relaxed);
        let roomy = self.allowed.load(Relaxed) / 4 * 3;
        peak.max(roomy.min(peak + peak / 2))
    }

    /// A block from pages that belong to none, or from the system.
    fn put_together(&self, size: Size) -> Option<(*mut u8, State)> {
        let mut pages = locked(&self.pages);
        let dirty = |pages: &mut Pages| Some((pages.take(size.bytes, State::Dirty)?, State::Dirty));
        // The block itself is counted already.
        let excess = |pages: &Pages| {
            let all = self.in_use.load(Relaxed) + self.kept.load(Relaxed) + pages.dirty_bytes();
            all.saturating_sub(self.most())
        };
        if let Some(block) = dirty(&mut pages) {
            return Some(block);
        }
        if excess(&pages) > 0 {
            self.give_up(&mut pages);
            if let Some(block) = dirty(&mut pages) {
                return Some(block);
            }
            let bytes = excess(&pages);
            pages.purge(bytes);
        }
        let clean = |pages: &mut Pages| Some((pages.take(size.bytes, State::Clean)?, State::Clean));
        if let Some(block) = clean(&mut pages) {
            return Some(block);
        }
        if pages.reserve(size.bytes) {
            return clean(&mut pages);
        }
        // The system has no room left, but there may be some in what is kept.
        self.give_up(&mut pages);
        dirty(&mut pages)
    }

    /// Gives up freed blocks: their pages serve any size.
    fn give_up(&self, pages: &mut Pages) {
        for size in (0..NUM_SIZES).map(Size::at) {
            while self.kept.load(Relaxed) > 0
                && let Some(block) = self.pop(size)
            {
                pages.give(block, size.bytes);
            }
        }
    }

    fn push(&self, block: *mut u8, size: Size) {
        let free = block.cast::<Free>();
        // Before another thread can take the block: never less than there is.
        self.kept.fetch_add(size.bytes, Relaxed);
        let mut first = locked(&self.sizes[size.index].0);
        // SAFETY: the block is large enough for a pointer, aligned to one, and nobody else's.
        unsafe { free.write(Free { next: *first }) }
        *first = free;
        drop(first);
        self.in_use.fetch_sub(size.bytes, Relaxed);
    }

    fn pop(&self, size: Size) -> Option<*mut u8> {
        let mut first = locked(&self.sizes[size.index].0);
        let block = *first;
        if block.is_null() {
            return None;
        }
        // SAFETY: blocks of a stack are freed ones, which hold the next.
        *first = unsafe { (*block).next };
        self.kept.fetch_sub(size.bytes, Relaxed);
        Some(block.cast())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for KeepingAllocator {
    fn default() -> Self {
        Self::new()
    }
}

/// A size of large blocks, a multiple of [`PAGE`].
#[derive(Clone, Copy)]
struct Size {
    index: usize,
    bytes: usize,
}

impl Size {
    /// The smallest that holds `bytes`, which are `1 << LARGE_BITS` or more; `None` above half of the address space.
    fn of(bytes: usize) -> Option<Self> {
        let unit = (1 << (bytes.ilog2() - STEP_BITS)).max(PAGE);
        let bytes = bytes.checked_next_multiple_of(unit).filter(|bytes| *bytes <= isize::MAX as usize)?;
        let octave = bytes.ilog2();
        let step = (bytes >> (octave - STEP_BITS)) & ((1 << STEP_BITS) - 1);
        Some(Self { index: (((octave - LARGE_BITS) as usize) << STEP_BITS) + step, bytes })
    }

    fn at(index: usize) -> Self {
        let (octave, step) = ((index >> STEP_BITS) as u32 + LARGE_BITS, index & ((1 << STEP_BITS) - 1));
        Self { index, bytes: ((1 << STEP_BITS) + step) << (octave - STEP_BITS) }
    }

    /// That of the blocks for `layout`, if these are large.
    fn of_large(layout: Layout) -> Option<Self> {
        let is_large = cfg!(unix) && layout.size() >= 1 << LARGE_BITS && layout.align() <= PAGE;
        if is_large { Self::of(layout.size()) } else { None }
    }
}

// SAFETY: a block is mimalloc's of the layout asked for, or a range of pages of its size, which is at least as large and as
// strictly aligned; which of the two follows from the layout alone. A kept block is nobody's until it is taken again.
unsafe impl GlobalAlloc for KeepingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Size::of_large(layout) {
            Some(size) => self.alloc_large(size, false),
            // SAFETY: as promised by the caller.
            None => unsafe { MiMalloc.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Size::of_large(layout) {
            Some(size) => self.alloc_large(size, true),
            // SAFETY: as promised by the caller.
            None => unsafe { MiMalloc.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Size::of_large(layout) {
            Some(size) => self.push(block, size),
            // SAFETY: as promised by the caller.
            None => unsafe { MiMalloc.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size, rounded up to the alignment, is a valid one.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (Size::of_large(layout), Size::of_large(new)) {
            // SAFETY: as promised by the caller.
            (None, None) => unsafe { MiMalloc.realloc(block, layout, new_size) },
            (Some(old), Some(new)) if old.index == new.index => block,
            _ => {
                // SAFETY: both blocks are as large as what is copied, and the old one is given back once.
                unsafe {
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        moved.copy_from_nonoverlapping(block, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    static NOTHING: AtomicUsize = AtomicUsize::new(0);

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 8).unwrap()
    }

    fn total(allocator: &KeepingAllocator) -> usize {
        allocator.in_use.load(Relaxed) + allocator.kept.load(Relaxed) + locked(&allocator.pages).dirty_bytes()
    }

    #[test]
    fn every_size_holds_what_is_asked_for_and_little_more() {
        let mut bytes = 1 << LARGE_BITS;
        while bytes < 1 << 45 {
            let size = Size::of(bytes).unwrap();
            assert!(size.bytes >= bytes && size.bytes - bytes <= (bytes >> STEP_BITS).max(PAGE), "{bytes}");
            assert_eq!((Size::at(size.index).bytes, Size::of(size.bytes).unwrap().index), (size.bytes, size.index));
            assert!(size.bytes.is_multiple_of(PAGE));
            bytes += bytes / 37 + 1;
        }
        assert!(Size::of(usize::MAX).is_none() && Size::of(isize::MAX as usize).is_none());
        assert!(Size::of_large(layout((1 << LARGE_BITS) - 1)).is_none());
        assert!(Size::of_large(Layout::from_size_align(MIB, 2 * PAGE).unwrap()).is_none());
    }

    #[test]
    fn blocks_come_back_and_never_take_more_than_was_in_use() {
        let allocator = KeepingAllocator::within(&NOTHING);
        // SAFETY: each block is used within its layout and given back once.
        unsafe {
            let first = allocator.alloc(layout(MIB));
            first.write_bytes(7, MIB);
            allocator.dealloc(first, layout(MIB));
            // The same block, also for a little less, and clean where that is asked for.
            let again = allocator.alloc_zeroed(layout(MIB - 100));
            assert_eq!(again, first);
            assert!((0..MIB - 100).all(|i| *again.add(i) == 0));
            let other = allocator.alloc(layout(3 * MIB));
            allocator.dealloc(again, layout(MIB - 100));
            assert_eq!((total(&allocator), allocator.kept.load(Relaxed)), (4 * MIB, MIB));
            // The kept MiB is part of the next two, or makes room for them; nothing else is kept.
            let third = allocator.alloc(layout(2 * MIB));
            assert_eq!(total(&allocator), 5 * MIB);
            allocator.dealloc(other, layout(3 * MIB));
            // Its pages serve smaller blocks.
            let parts = [1, 2].map(|count| (allocator.alloc(layout(count * MIB)), layout(count * MIB)));
            assert!(parts.iter().all(|(part, _)| (other..other.add(3 * MIB)).contains(part)));
            assert_eq!(total(&allocator), 5 * MIB);
            allocator.dealloc(third, layout(2 * MIB));
            parts.iter().for_each(|(part, layout)| allocator.dealloc(*part, *layout));
            // And together they are a large one again.
            let whole = allocator.alloc(layout(5 * MIB - 1));
            assert_eq!(total(&allocator), 5 * MIB);
            allocator.dealloc(whole, layout(5 * MIB - 1));
            allocator.release();
            assert_eq!(total(&allocator), 0);
        }
    }

    #[test]
    fn what_is_allowed_is_kept() {
        static SOME: AtomicUsize = AtomicUsize::new(8 * MIB);
        let allocator = KeepingAllocator::within(&SOME);
        for (count, all) in [(2, 2), (4, 6), (1, 6), (5, 6)] {
            // SAFETY: as above.
            unsafe { allocator.dealloc(allocator.alloc(layout(count * MIB)), layout(count * MIB)) }
            assert_eq!(total(&allocator), all * MIB, "{count}");
        }
    }

    #[test]
    fn a_block_that_grows_or_shrinks_keeps_its_bytes() {
        let allocator = KeepingAllocator::within(&NOTHING);
        let mut bytes = 1000;
        // SAFETY: as above.
        unsafe {
            let mut block = allocator.alloc(layout(bytes));
            block.write_bytes(5, bytes);
            for next in [200_000, 300_000, 305_000, 4 * MIB, 290_000, 900] {
                block = allocator.realloc(block, layout(bytes), next);
                assert!((0..bytes.min(next)).all(|i| *block.add(i) == 5));
                block.write_bytes(5, next);
                bytes = next;
            }
            allocator.dealloc(block, layout(bytes));
        }
        assert_eq!(allocator.in_use.load(Relaxed), 0);
    }

    #[test]
    fn threads_never_get_the_same_block() {
        let allocator = KeepingAllocator::within(&NOTHING);
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let allocator = &allocator;
                scope.spawn(move || {
                    for round in 0..200 {
                        let layouts = [1, 2, 3].map(|count| layout((count + round % 3) * 300_000));
                        // SAFETY: as above.
                        unsafe {
                            let blocks = layouts.map(|layout| allocator.alloc(layout));
                            for (block, layout) in blocks.iter().zip(layouts) {
                                block.write_bytes(thread, layout.size());
                            }
                            for (block, layout) in blocks.iter().zip(layouts) {
                                assert!((0..layout.size()).step_by(997).all(|i| *block.add(i) == thread));
                                allocator.dealloc(*block, layout);
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(allocator.in_use.load(Relaxed), 0);
        allocator.release();
        assert_eq!(total(&allocator), 0);
    }
}
