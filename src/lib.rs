//! How flat is this minimum, how sure are we, and is it flatter than that one?
//!
//! ```text
//! data ──► train ──► checkpoint.safetensors ──► analyze ──► tables (Parquet) ──► figures, report
//!            │                                   │
//!            └────────── autodiff ◄──── nn ──────┘        gradients and curvature come from ONE engine
//! ```

pub mod analysis;
pub mod autodiff;
pub mod checkpoint;
pub mod cli;
pub mod curvature;
pub mod data;
pub mod error;
pub mod kernels;
pub mod landscape;
pub mod models;
pub mod nn;
pub mod observer;
pub mod optim;
pub mod random;
pub mod report;
pub mod spectral;
pub mod train;

pub use error::{Error, Result};
pub use observer::{Observer, Step};

/// The candidate most similar to `word`, if any comes close: for "did you mean".
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let score = |candidate: &str| match strsim::osa_distance(word, candidate) {
        // One slip counts in the shortest names too.
        0 | 1 => 1.0,
        _ => strsim::jaro_winkler(word, candidate),
    };
    let scored = candidates.into_iter().map(|candidate| (score(candidate), candidate));
    scored.filter(|(score, _)| *score > 0.7).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate.into())
}
