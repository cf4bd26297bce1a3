//! Python's pickles (protocols 0 to 5) as plain values.
//!
//! A pickle is a program for a stack machine, and Python's own reader runs what it names. This one runs nothing: a call stays a
//! description of the call ([`Value::Object`]), for whoever knows what it would make. Values are named by their place in one list, so
//! that a value used twice is kept once, values may hold themselves, and no depth of nesting is too much.

mod machine;
mod opcodes;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use values::{Id, Pickle, Value};

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`. Time and memory are linear in its length.
    ///
    /// # Errors
    /// In words: it is damaged, has more than 2²¹ values, or uses what only a running Python has.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        machine::run(bytes)
    }
}
