//! Work space that a thread uses again and again: clearing it each time would cost as much as a pass over it.

use std::ops::{Deref, DerefMut};

use super::element::Element;

/// `len` numbers of any value: zeros, or what an earlier use on this thread left.
pub(super) struct Scratch<T: Element> {
    buffer: Vec<T>,
    len: usize,
}

/// Buffers that a thread keeps at most.
const SPARES: usize = 8;

impl<T: Element> Scratch<T> {
    pub fn new(len: usize) -> Self {
        let mut buffer = T::with_spares(Vec::pop).unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, T::ZERO);
        }
        Self { buffer, len }
    }
}

impl<T: Element> Drop for Scratch<T> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        T::with_spares(|spares| {
            if spares.len() < SPARES {
                spares.push(buffer);
            }
        });
    }
}

impl<T: Element> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.buffer[..self.len]
    }
}

impl<T: Element> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[..self.len]
    }
}
