//! Checks of an operator before anything is computed from it.

use rand::Rng;

use super::SpectralError;
use super::vectors::{normal_block, norms};
use crate::Result;
use crate::observer::Observer;
use crate::operator::LinearOperator;

/// Products of the guard.
const GUARD_MATVECS: usize = 2;

/// Two products of one vector, which must agree bit for bit; the number of products.
pub(super) fn guard(
    method: &'static str,
    operator: &dyn LinearOperator,
    rng: &mut impl Rng,
    observer: &mut dyn Observer,
) -> Result<usize> {
    let vector = normal_block((1, operator.dim()), operator.dtype(), operator.device(), rng)?;
    let [first, second] = [operator.multiply(&vector, observer)?, operator.multiply(&vector, observer)?];
    let size = norms(&first)?[0];
    if !size.is_finite() {
        return Err(SpectralError::NonFinite { method, matvec: 1 }.into());
    }
    // NaN would pass as unequal to itself, and −0 as equal to 0, which no later step can tell apart.
    let difference = norms(&(first - second)?)?[0];
    if difference != 0.0 {
        return Err(SpectralError::NotDeterministic { method, difference: difference / size }.into());
    }
    Ok(GUARD_MATVECS)
}
