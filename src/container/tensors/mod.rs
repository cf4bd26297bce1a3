//! Files of named tensors: safetensors, and what `torch.save` writes. Tensors are read when they are asked for.

mod contents;
mod numpy;
mod optimizer;
mod pytorch;
mod rebuild;
mod recognise;
mod safetensors;
#[cfg(test)]
mod tests;

pub(crate) use contents::{Contents, Entry, Failure};
pub(crate) use optimizer::{Optimizer, ParamState};
pub(crate) use safetensors::{element, header};

use rebuild::Rebuild;

impl Contents {
    /// Reads a file by its first bytes, whatever it is called.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Failure> {
        if safetensors::is_one(bytes) {
            return safetensors::read(bytes).map_err(|reason| Failure::Damaged { format: "safetensors", reason });
        }
        if let Some(contents) = of_torch(bytes, |rebuild| rebuild.contents()) {
            return contents;
        }
        if let Some((what, remedy)) = recognise::foreign(bytes) {
            return Err(Failure::Foreign { what, remedy });
        }
        safetensors::read(bytes).map_err(|reason| Failure::Damaged { format: "safetensors", reason })
    }
}

impl Optimizer {
    /// Reads the state of Adam or AdamW in what `torch.save` wrote; in words what it lacks.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Result<Self, String>, Failure> {
        let other = || match recognise::foreign(bytes) {
            Some((what, remedy)) => Failure::Foreign { what, remedy },
            None => Failure::Damaged { format: "PyTorch", reason: "it does not begin as such a file does".into() },
        };
        of_torch(bytes, |rebuild| Ok(optimizer::read(rebuild, bytes))).unwrap_or_else(|| Err(other()))
    }
}

/// What `read` takes from a file of PyTorch; `None` where its first bytes are of another kind.
fn of_torch<T>(bytes: &[u8], read: impl FnOnce(Rebuild<'_>) -> Result<T, String>) -> Option<Result<T, Failure>> {
    if bytes.starts_with(b"PK\x03\x04") {
        return Some(pytorch::zipped(bytes, read));
    }
    let is_pickle = bytes.first() == Some(&0x80) && bytes.get(1).is_some_and(|protocol| (2..=5).contains(protocol));
    let damaged = |reason| Failure::Damaged { format: "PyTorch", reason };
    is_pickle.then(|| pytorch::pickled(bytes, read).map_err(damaged))
}
