//! A limit on the memory that images take while many threads decode them.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes in use by all threads.
static USED: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// A share of the memory, released when dropped.
pub(super) struct Share(usize);

impl Share {
    /// Waits until `bytes` fit within `limit` together with what others use, or nothing else is in use.
    pub(super) fn wait(bytes: usize, limit: usize) -> Self {
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && used.saturating_add(bytes) > limit {
            used = FREED.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used = used.saturating_add(bytes);
        Self(bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
        *used = used.saturating_sub(self.0);
        FREED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn shares_of_one_half_are_taken_two_at_a_time() {
        const PART: usize = usize::MAX / 2;
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let _share = Share::wait(PART, 2 * PART);
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert!(most.into_inner() <= 2);
    }
}
