//! Training end to end: exact reductions, equal bytes, running statistics, errors, and glyphs learned.

mod outcomes;
mod rules;
mod stability;
mod stops;
mod support;
