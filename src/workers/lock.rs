//! Locks that outlive a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whatever another thread's panic left: it is passed on when all threads are done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
