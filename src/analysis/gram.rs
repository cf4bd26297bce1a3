//! The spectrum of an operator that is a sum of few outer products, from the Gram matrix of its rows.

use rand::Rng;

use super::TraceSummary;
use super::memory::basis_bytes;
use super::task::{Matrix, Task};
use super::trace::{KnownTrace, by_layer};
use super::vectors::spans;
use crate::curvature::{CurvatureError, OuterRows};
use crate::objective::Objective;
use crate::operator::LinearOperator;
use crate::plan::AnalysisOptions;
use crate::spectral::{Factored, GramParams, GramReport, RowBlocks, SpectralError, Store, SurveyReport, gram};
use crate::vocabulary::{Curvature, Method};
use crate::{Observer, Result};

/// Maximum number of rows of the Gram matrix if no method is asked for.
pub const GRAM_ROWS: usize = 5_000;
/// Maximum number of blocks of rows of such a matrix: each row is computed again for every earlier block.
pub const GRAM_BLOCKS: usize = 16;

/// How large a Gram matrix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GramSize {
    /// Number of its rows.
    pub rows: usize,
    /// Blocks of rows that fit into memory; `None` if the matrix itself does not fit.
    pub blocks: Option<RowBlocks>,
}

impl GramSize {
    /// The size for `kind` on the parameters of the scope; `None` if it is not known to be a sum of outer products: see
    /// [`Objective::outer_rows`].
    ///
    /// # Errors
    /// A scope that holds no parameters.
    pub fn of(objective: &Objective<'_>, kind: Curvature, options: &AnalysisOptions) -> Result<Option<Self>> {
        let Some(counts) = objective.outer_rows(kind)? else { return Ok(None) };
        let (rows, dim) = (counts.iter().sum(), options.dim(objective.network().space())?);
        let pairs = options.top.saturating_add(options.bottom).min(dim);
        let blocks = RowBlocks::fit(rows, dim, objective.options().dtype, pairs, basis_bytes(objective));
        Ok(Some(Self { rows, blocks: blocks.filter(|_| rows > 0) }))
    }

    /// The cost of the backward passes, in gradients over all `num_rows` data rows: for the matrix, and for the eigenvectors
    /// if the rows are no longer in memory.
    pub(super) fn gradients(&self, num_rows: usize) -> f64 {
        let Some(blocks) = self.blocks else { return 0.0 };
        let for_vectors = if blocks.kept { 0 } else { 2 * self.rows };
        (blocks.passing(self.rows) + for_vectors) as f64 / num_rows as f64
    }
}

/// A matrix as the sum of outer products of its rows, on the parameters of the scope.
pub(super) struct Outer<'a> {
    task: Task<'a>,
    rows: OuterRows<'a>,
    size: GramSize,
}

impl<'a> Outer<'a> {
    /// The rows of `whole`, the matrix of `task` on all parameters.
    pub(super) fn new(whole: &'a Matrix<'a>, task: Task<'a>) -> Result<Self> {
        let no_sum = || CurvatureError::NoOuterProducts { matrix: task.curvature.name() };
        let plain = whole.plain().ok_or_else(no_sum)?;
        let rows = OuterRows::new(plain, task.ranges()?)?.ok_or_else(no_sum)?;
        let size = GramSize::of(task.objective, task.curvature, task.options)?.ok_or_else(no_sum)?;
        Ok(Self { task, rows, size })
    }

    /// Its whole spectrum; `operator` is the matrix on the scope.
    pub(super) fn spectrum(
        &self,
        operator: &dyn LinearOperator,
        rng: &mut impl Rng,
        store: &mut dyn Store,
        observer: &mut dyn Observer,
    ) -> Result<(SurveyReport, TraceSummary)> {
        let Self { task, rows, size } = self;
        let memory_bytes = basis_bytes(task.objective);
        let blocks = size.blocks.ok_or(SpectralError::NoRoom { rows: size.rows, memory_bytes })?;
        let &AnalysisOptions { top, bottom, eigen_tolerance, ref scope, .. } = task.options;
        let spans = spans(scope, task.space())?;
        let lens = spans.iter().map(|(_, len)| *len).collect();
        let params = GramParams { top, bottom, eigen_tolerance, spans: lens, blocks };
        let GramReport { survey, squares } = gram(Factored { operator, factor: rows }, &params, rng, store, observer)?;
        let layers = by_layer(spans.into_iter().map(|(layer, _)| (layer, 1)));
        let groups: Vec<Vec<usize>> = layers.iter().map(|(_, spans)| spans.clone()).collect();
        let parts = rows.traces(&squares, &params.spans, &groups);
        let whole = rows.traces(&squares, &params.spans, &[groups.concat()]);
        let part = |(trace, std_err_data)| KnownTrace { trace, std_err_data };
        let layers = layers.into_iter().zip(parts).map(|((layer, _), found)| (layer, part(found))).collect();
        let trace = part(whole[0]).summary(Method::Gram, survey.slq.num_matvecs, layers);
        Ok((survey, trace))
    }
}
