//! How flat is this minimum, how sure are we, and is it flatter than that one?
//!
//! ```text
//! PyTorch .pt2 ─┐                                     ┌─► tables (Parquet) ─► figures, page, notebook
//! layer list   ─┼─► program ─► objective ─► operator ─┤
//! family       ─┘      ▲           ▲                  └─► spectral, sharpness, landscape
//!                   weights     rows, loss
//! ```
//!
//! This is the library behind the command `flatness`. Its algorithms work on a [`LinearOperator`](operator::LinearOperator), a
//! symmetric matrix that is known only through its products with blocks of vectors; the Hessian of a network's loss is one.
//!
//! A product with the Hessian, exact and without finite differences:
//!
//! ```
//! use flatness::prelude::*;
//! # use std::collections::HashMap;
//! # use candle_core::{DType, Device, Tensor};
//! # fn main() -> Result<()> {
//! let data = DataSpec::new("glyphs".parse::<Source>()?).load()?;
//! let network = family("mlp:8", &data.sample_shape, 10)?.network(HashMap::new())?;
//! let theta = initialise(&network, DType::F64, 0)?;
//! let options = ObjectiveOptions { dtype: DType::F64, ..ObjectiveOptions::new(Loss::cross_entropy()) };
//! let objective = Objective::new(&network, &data, options)?;
//! let hessian = CurvatureOperator::new(&objective, &theta, Curvature::Hessian)?;
//! let vectors = Tensor::ones((1, hessian.dim()), DType::F64, &Device::Cpu)?;
//! let products = hessian.multiply(&vectors, &mut ())?; // one row for each vector
//! # assert_eq!(products.dims(), vectors.dims());
//! # Ok(())
//! # }
//! ```
//!
//! Eigenpairs of a matrix of one's own, each with its residual norm:
//!
//! ```
//! use flatness::prelude::*;
//! # use candle_core::{DType, Device, Tensor};
//!
//! /// The diagonal matrix with the entries 1, 2, …, 100.
//! struct Count;
//!
//! impl LinearOperator for Count {
//!     fn dim(&self) -> usize { 100 }
//!     fn dtype(&self) -> DType { DType::F64 }
//!     fn device(&self) -> &Device { &Device::Cpu }
//!     fn apply(&self, block: &Tensor, _: &mut dyn Observer) -> Result<Product> {
//!         let diagonal = Tensor::arange(1.0, 101.0, &Device::Cpu)?;
//!         Ok(Product { block: block.broadcast_mul(&diagonal)?, shards: None })
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let params = EigenParams { top: 2, bottom: 1, ..EigenParams::default() };
//! let found = eigenpairs(&Count, &params, &mut stream(0, Purpose::Eigenpairs), &mut ())?;
//! assert!((found.top.ritz_values[1] - 99.0).abs() <= found.top.residual_norms[1] + 1e-11);
//! # Ok(())
//! # }
//! ```
//!
//! What `flatness analyze` computes, as structs:
//!
//! ```
//! use flatness::analysis::{Analysis, AnalysisReport, fit};
//! use flatness::plan::AnalysisOptions;
//! use flatness::prelude::*;
//! # use std::collections::HashMap;
//! # use candle_core::DType;
//! # fn main() -> Result<()> {
//! # let mut spec = DataSpec::new("glyphs".parse::<Source>()?);
//! # spec.rows = Some(RowRange::new(0, 64)?);
//! # let data = spec.load()?;
//! # let network = family("mlp:2", &data.sample_shape, 10)?.network(HashMap::new())?;
//! # let theta = initialise(&network, DType::F32, 0)?;
//! # let objective = Objective::new(&network, &data, ObjectiveOptions::new(Loss::cross_entropy()))?;
//! let mut options = AnalysisOptions { top: 3, plane_points: 0, ..AnalysisOptions::default() };
//! fit(&mut options, &objective)?;
//! let mut report = AnalysisReport::empty("two units");
//! Analysis { objective: &objective, theta: &theta, options: &options, preconditioner: None }.run(&mut report, &mut (), &mut ())?;
//! for row in &report.summary {
//!     println!("{} = {} ± {}", row.quantity, row.value, row.std_err_data);
//! }
//! # assert_eq!(report.spectra[0].top.ritz_values.len(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! | room | what it is for |
//! | --- | --- |
//! | [`prelude`] | what a program of one's own needs most |
//! | [`formats`], [`checkpoint`], [`data`] | networks, weights and rows from files |
//! | [`objective`] | the mean loss over rows: shards, micro-batches, pieces |
//! | [`operator`], [`curvature`] | the seam between networks and algorithms; Hessian, GGN and Fisher matrices as operators |
//! | [`spectral`], [`landscape`] | Krylov methods and estimators on any operator; loss surfaces |
//! | [`analysis`] | what `analyze` and `compare` compute, as plain structs |
//! | [`plan`] | what a command does, as data: options with their defaults |
//! | [`train`] | the training loop |
//!
//! The remaining rooms (kernels, differentiation, programs, reports, the command line) are public for tests and benchmarks only;
//! `docs/architecture.md` is the map of all of them.

// Words belong to the command line, which writes to streams that tests can capture.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod analysis;
#[doc(hidden)]
pub mod autodiff;
#[doc(hidden)]
pub mod bayes;
pub mod checkpoint;
#[doc(hidden)]
pub mod cli;
mod container;
pub mod curvature;
pub mod data;
mod digest;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod experiment;
#[doc(hidden)]
pub mod files;
pub mod formats;
mod input;
#[doc(hidden)]
pub mod kernels;
pub mod landscape;
#[doc(hidden)]
pub mod langevin;
pub mod objective;
#[doc(hidden)]
pub mod observer;
pub mod operator;
#[doc(hidden)]
pub mod optim;
mod parquet;
mod path_text;
pub mod plan;
pub mod prelude;
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod random;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod sharpness;
pub mod spectral;
#[doc(hidden)]
pub mod statistics;
#[doc(hidden)]
pub mod team;
pub mod train;
mod visible;
#[doc(hidden)]
pub mod vocabulary;
#[doc(hidden)]
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
