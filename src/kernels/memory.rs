//! How long mimalloc, the program's allocator, keeps freed memory. Nothing changes where another one allocates.

use std::ffi::{c_int, c_long};

/// `mi_option_purge_delay` of mimalloc 2.
const PURGE_DELAY: c_int = 15;
/// Milliseconds for which freed memory is kept where there is plenty, instead of 10.
const KEPT: c_long = 100;
/// Memory to plan with that counts as plenty.
const PLENTY: usize = 1 << 30;

/// Keeps freed memory from one product to the next where `memory_bytes`, what the engine plans with, is plenty. A product
/// of a small network spends a fifth of its time on fresh pages otherwise; with less memory to plan with they are due,
/// since what is kept comes on top. `MIMALLOC_PURGE_DELAY` in the environment comes first.
pub fn keep_freed_memory(memory_bytes: usize) {
    if memory_bytes >= PLENTY {
        // SAFETY: stores a number that later frees read.
        unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plenty_of_memory_keeps_what_is_freed() {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
            return;
        }
        // SAFETY: reads a number.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        keep_freed_memory(PLENTY - 1);
        assert_eq!(delay(), 10, "another version of mimalloc has its options in other places");
        keep_freed_memory(PLENTY);
        assert_eq!(delay(), KEPT);
    }
}
