//! How long mimalloc, the program's allocator, keeps freed memory. With another allocator nothing changes.

use std::ffi::{c_int, c_long};

/// `mi_option_purge_delay` of mimalloc 2.
const PURGE_DELAY: c_int = 15;
/// Memory to plan with below which freed memory goes back to the system at once, and from which on it is kept long.
const TIGHT: usize = 512 << 20;
const PLENTY: usize = 1 << 30;

/// What a computation plans with unless it is told otherwise, in bytes.
pub(crate) const DEFAULT_MEMORY: usize = 2 << 30;

/// Milliseconds for which freed memory is kept, where the engine plans with `memory_bytes`: it comes on top of the plan.
fn delay(memory_bytes: usize) -> c_long {
    match memory_bytes {
        ..TIGHT => 0,
        TIGHT..PLENTY => 10,
        PLENTY.. => 2000,
    }
}

/// Keeps freed memory as long as is due where the engine plans with `memory_bytes`. Where there is plenty, a product
/// would spend up to a fifth of its time on fresh pages otherwise; where there is little, the process hardly exceeds
/// it, for twice the time. `MIMALLOC_PURGE_DELAY` in the environment comes first.
pub fn keep_freed_memory(memory_bytes: usize) {
    // SAFETY: `PURGE_DELAY` is an option of this mimalloc. It is one word: a thread that frees meanwhile reads the old delay
    // or the new one.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, delay(memory_bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_takes_the_delay() {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
            return;
        }
        // SAFETY: `PURGE_DELAY` is an option of this mimalloc.
        let kept = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(kept(), delay(TIGHT), "another version of mimalloc has its options in other places");
        for (memory_bytes, milliseconds) in [(PLENTY, 2000), (TIGHT - 1, 0), (TIGHT, 10)] {
            keep_freed_memory(memory_bytes);
            assert_eq!(kept(), milliseconds);
        }
    }
}
