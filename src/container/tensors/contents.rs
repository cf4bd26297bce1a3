//! What a file of named tensors holds.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::container::{Element, Stored};

/// A tensor of a file.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// In the bytes of the file.
    Stored(Stored),
    /// Made when the file was opened.
    Made(Tensor),
}

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// `__metadata__` of safetensors.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Tensors by name: of a file of PyTorch, by the keys that lead to them.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// Tensors that cannot be read, and why.
    pub(crate) unread: Vec<(String, String)>,
}

/// Why a file was not read.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is damaged, in words.
    Damaged { format: &'static str, reason: String },
    /// It is a file of another kind: what it is, and what to do.
    Foreign { what: &'static str, remedy: &'static str },
}

impl Entry {
    /// Its shape.
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Stored(stored) => &stored.shape,
            Self::Made(tensor) => tensor.dims(),
        }
    }

    /// The type of the tensor that is read.
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Self::Stored(stored) => stored.element.dtype(),
            Self::Made(tensor) => tensor.dtype(),
        }
    }

    /// Whether its numbers are floats of less than 32 bits.
    pub(crate) fn is_small(&self) -> bool {
        match self {
            Self::Stored(stored) => stored.element.dtype().is_float() && stored.element.width() < 4,
            Self::Made(tensor) => tensor.dtype().is_float() && tensor.dtype().size_in_bytes() < 4,
        }
    }

    /// The type of its numbers in the file, in PyTorch's words.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Stored(stored) => stored.element.name(),
            Self::Made(tensor) => match tensor.dtype() {
                DType::U8 => Element::U8.name(),
                DType::U32 => Element::U32.name(),
                DType::I64 => Element::I64.name(),
                DType::F16 => Element::F16.name(),
                DType::BF16 => Element::BF16.name(),
                DType::F32 => Element::F32.name(),
                DType::F64 => Element::F64.name(),
                other => other.as_str(),
            },
        }
    }

    /// The tensor; `file` holds the bytes that the entry was found in.
    ///
    /// # Errors
    /// In words, as [`Stored::read`].
    pub(crate) fn read(&self, file: &[u8]) -> Result<Tensor, String> {
        match self {
            Self::Stored(stored) => stored.read(file),
            Self::Made(tensor) => Ok(tensor.clone()),
        }
    }
}
