//! What files are made of: zip archives, pickles, raw numbers; and files of named tensors, which are made of these. Files are
//! not trusted: every place and size is checked against the file before it is used, and nothing in a file is executed.

mod archive;
mod numbers;
mod pickle;
mod tensors;

pub(crate) use archive::Archive;
#[cfg(test)]
pub(crate) use archive::tests::archive;
pub(crate) use numbers::{Element, Stored};
pub(crate) use pickle::{Id, Pickle, Value};
pub(crate) use tensors::{Contents, Entry, Failure, Optimizer, ParamState};
pub(crate) use tensors::{element as safetensors_element, header as safetensors_header};
