//! Operations with kernels of their own: a tape only keeps how they pass cotangents back.

use candle_core::Result;

use super::Value;

/// An operation that primitives could express, recorded whole because one kernel serves it.
pub trait Composite<V>: Send {
    /// Adds what the result's `cotangent` gives to each operand that wants it, in the order in which they were recorded.
    ///
    /// # Errors
    /// A kernel that fails.
    fn adjoint(self: Box<Self>, cotangent: V, operands: &mut [Cotangent<V>]) -> Result<()>;
}

/// The cotangent of one operand, as far as later operations have summed it.
#[derive(Debug)]
pub struct Cotangent<V> {
    pub(super) wanted: bool,
    pub(super) sum: Option<V>,
}

impl<V: Value> Cotangent<V> {
    /// Adds a part, which is computed only where it is wanted.
    ///
    /// # Errors
    /// Those of `part`, or of the addition.
    pub fn add(&mut self, part: impl FnOnce() -> Result<V>) -> Result<()> {
        self.replace(|sum| {
            let part = part()?;
            sum.map_or(Ok(part.clone()), |sum| sum.add(&part))
        })
    }

    /// Replaces the sum so far by `f` of it, where it is wanted: for kernels that add in their own pass.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn replace(&mut self, f: impl FnOnce(Option<V>) -> Result<V>) -> Result<()> {
        if self.wanted {
            self.sum = Some(f(self.sum.take())?);
        }
        Ok(())
    }
}
