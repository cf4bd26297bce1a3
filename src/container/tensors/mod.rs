//! Files of named tensors: safetensors, and what `torch.save` writes. Tensors are read when they are asked for.

mod contents;
mod numpy;
mod pytorch;
mod rebuild;
mod recognise;
mod safetensors;
#[cfg(test)]
mod tests;

pub(crate) use contents::{Contents, Entry, Failure};

impl Contents {
    /// Reads a file by its first bytes, whatever it is called.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Failure> {
        if safetensors::is_one(bytes) {
            return safetensors::read(bytes).map_err(|reason| Failure::Damaged { format: "safetensors", reason });
        }
        if bytes.starts_with(b"PK\x03\x04") {
            return pytorch::zipped(bytes);
        }
        if bytes.first() == Some(&0x80) && bytes.get(1).is_some_and(|protocol| (2..=5).contains(protocol)) {
            return pytorch::pickled(bytes).map_err(|reason| Failure::Damaged { format: "PyTorch", reason });
        }
        if let Some((what, remedy)) = recognise::foreign(bytes) {
            return Err(Failure::Foreign { what, remedy });
        }
        safetensors::read(bytes).map_err(|reason| Failure::Damaged { format: "safetensors", reason })
    }
}
