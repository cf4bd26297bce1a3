//! The spectrum of an operator that is a sum of few outer products, from the Gram matrix of its rows.

use std::ops::Range;

use rand::Rng;

use super::TraceSummary;
use super::spectrum::basis_bytes;
use super::trace::{by_layer, known_trace};
use super::vectors::spans;
use crate::curvature::{CurvatureError, CurvatureOperator, OuterRows};
use crate::objective::Objective;
use crate::operator::LinearOperator;
use crate::plan::AnalysisOptions;
use crate::spectral::{Factored, GramParams, GramReport, RowBlocks, SpectralError, Store, SurveyReport, gram};
use crate::vocabulary::{Curvature, Method};
use crate::{Observer, Result};

/// Most rows of the Gram matrix that is made unless a method is asked for.
pub const GRAM_ROWS: usize = 5_000;
/// Most blocks of rows of such a matrix: each row is computed once more for every earlier block.
pub const GRAM_BLOCKS: usize = 16;

/// How large a Gram matrix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GramSize {
    /// Its rows.
    pub rows: usize,
    /// Blocks in which the memory holds them; `None` where it does not hold the matrix.
    pub blocks: Option<RowBlocks>,
}

impl GramSize {
    /// Of `kind` on the parameters of the scope; `None` where it is not, or not known to be, a sum of outer products: see
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

    /// Gradients of all of `num_rows` data rows that the backward passes are worth: for the matrix, and for the eigenvectors
    /// where the rows are no longer in memory.
    pub(super) fn gradients(&self, num_rows: usize) -> f64 {
        let Some(blocks) = self.blocks else { return 0.0 };
        let for_vectors = if blocks.kept { 0 } else { 2 * self.rows };
        (blocks.passing(self.rows) + for_vectors) as f64 / num_rows as f64
    }
}

/// The whole spectrum of `operator`, which is `whole` on the parameters in `ranges`.
pub(super) fn by_gram(
    (whole, operator): (&CurvatureOperator<'_>, &dyn LinearOperator),
    ranges: Vec<Range<usize>>,
    (objective, kind, options): (&Objective<'_>, Curvature, &AnalysisOptions),
    rng: &mut impl Rng,
    (store, observer): (&mut dyn Store, &mut dyn Observer),
) -> Result<(SurveyReport, TraceSummary)> {
    let no_sum = || CurvatureError::NoOuterProducts { matrix: kind.name() };
    let rows = OuterRows::new(whole, ranges)?.ok_or_else(no_sum)?;
    let size = GramSize::of(objective, kind, options)?.ok_or_else(no_sum)?;
    let blocks = size.blocks.ok_or(SpectralError::NoRoom { rows: size.rows, memory_bytes: basis_bytes(objective) })?;
    let spans = spans(&options.scope, objective.network().space())?;
    let &AnalysisOptions { top, bottom, eigen_tolerance, .. } = options;
    let lens = spans.iter().map(|(_, len)| *len).collect();
    let params = GramParams { top, bottom, eigen_tolerance, spans: lens, blocks };
    let GramReport { survey, squares } = gram(Factored { operator, factor: &rows }, &params, rng, store, observer)?;
    let layers = by_layer(spans.into_iter().map(|(layer, _)| (layer, 1)));
    let groups: Vec<Vec<usize>> = layers.iter().map(|(_, spans)| spans.clone()).collect();
    let parts = rows.traces(&squares, &params.spans, &groups);
    let whole = rows.traces(&squares, &params.spans, &[groups.concat()]);
    let names = layers.into_iter().map(|(layer, _)| layer);
    let trace = known_trace(Method::Gram, (whole[0], survey.slq.num_matvecs), names.zip(parts).collect());
    Ok((survey, trace))
}
