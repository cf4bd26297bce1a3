//! How flat is this minimum, how sure are we, and is it flatter than that one?
//!
//! ```text
//! PyTorch .pt2 ─┐                                     ┌─► tables (Parquet) ─► figures, page, notebook
//! layer list   ─┼─► program ─► objective ─► operator ─┤
//! family       ─┘      ▲           ▲                  └─► spectral, sharpness, landscape
//!                   weights     rows, loss
//! ```
//!
//! | room | what it is for |
//! | --- | --- |
//! | [`kernels`] | fast primitives on candle tensors, in three families closed under differentiation |
//! | [`autodiff`] | values (plain or dual), the tape, parameters as one flat space |
//! | [`program`] | a network as a flat list of operations, each of which answers every question about itself |
//! | [`formats`] | archives of `torch.export`, layer lists and families as programs |
//! | [`data`], [`checkpoint`] | rows in, weights in and out; `container` below them knows zip archives, pickles and raw numbers |
//! | [`optim`], [`train`] | update rules; the loop |
//! | [`workers`] | the one pool of threads of a run; sums whose order no thread decides |
//! | [`objective`] | the mean loss over rows: shards, micro-batches, pieces |
//! | [`operator`] | [`operator::LinearOperator`], the only seam between networks and algorithms |
//! | [`curvature`] | Hessian, GGN and Fisher of an objective as operators |
//! | [`spectral`], [`landscape`] | Krylov methods and estimators on any operator; loss surfaces |
//! | [`sharpness`] | how much the loss rises nearby, in the units of the weights and relative to them |
//! | [`analysis`], [`report`] | the survey as plain structs; its tables and figures |
//! | [`experiment`] | many runs: a grid as data, its folders and their states |
//! | [`langevin`] | SGLD and fSGLD on potentials whose laws are known |
//! | [`statistics`] | means, intervals and tests over few seeds |
//! | [`files`] | results written whole or not at all, in folders that one process has to itself |
//! | [`vocabulary`] | the names that command line, numerics and tables share |
//! | [`cli`] | one file per subcommand |
//!
//! Dependencies point down: `cli → report, analysis, train → spectral, landscape → curvature → objective → program → autodiff
//! → kernels`; `operator` and `workers` stand on the ground, beside and below `kernels`. `spectral` knows no network, `autodiff`
//! no operation by name, `report` runs no numerics. `docs/architecture.md` follows a checkpoint and a batch through the rooms.

// Words belong to the command line, which writes to streams that tests can capture.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod analysis;
pub mod autodiff;
pub mod checkpoint;
pub mod cli;
mod container;
pub mod curvature;
pub mod data;
mod digest;
pub mod error;
pub mod experiment;
pub mod files;
pub mod formats;
mod input;
pub mod kernels;
pub mod landscape;
pub mod langevin;
pub mod objective;
pub mod observer;
pub mod operator;
pub mod optim;
mod parquet;
mod path_text;
pub mod plan;
pub mod program;
pub mod random;
pub mod report;
pub mod sharpness;
pub mod spectral;
pub mod statistics;
pub mod train;
mod visible;
pub mod vocabulary;
pub mod workers;

pub use error::{Error, Result};
pub use observer::{Observer, Step};
pub use workers::Workers;

/// The candidate most similar to `word`, if any comes close: for "did you mean".
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let score = |candidate: &str| {
        let alike = strsim::jaro_winkler(word, candidate);
        // One slip counts in the shortest names too.
        if strsim::osa_distance(word, candidate) <= 1 { 1.0 + alike } else { alike }
    };
    let scored = candidates.into_iter().map(|candidate| (score(candidate), candidate));
    scored.filter(|(score, _)| *score > 0.7).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate.into())
}

/// The examples of the page are doc tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct LibraryPage;
