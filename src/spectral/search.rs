//! The search for both ends of a spectrum, step by step: what [`super::eigenpairs`] and [`super::survey`] share.

use candle_core::Tensor;
use rand::Rng;

use super::closing::Accepted;
use super::krylov_schur::{KrylovSchur, Ritz};
use super::pairs::{EigenParams, EigenpairsReport};
use super::state::{SurveyState, damaged};
use super::vectors::epsilon;
use crate::Result;
use crate::observer::{Observer, Step};
use crate::operator::LinearOperator;
use crate::vocabulary::Method;

/// The name in errors and tables.
pub(super) const METHOD: &str = Method::Lanczos.name();
/// Basis vectors beyond the wanted ones before a restart.
pub(super) const SPARE_ROWS: usize = 150;
/// Up to this dimension the whole space is spanned: all pairs are exact, whatever their multiplicity.
const EXACT_DIM: usize = 128;
/// Vectors of a basis whose Ritz pairs are looked at after every step, and looks while a larger one doubles.
const SMALL_BASIS: usize = 170;
const LOOKS_PER_DOUBLING: usize = 16;
/// The recurrence does not see the rounding of products; a little below the tolerance the closing product confirms.
const MARGIN: f64 = 0.7;
/// Residual over `|λ|` from which on a Ritz value at an end stands for one eigenvalue.
const CERTAIN: f64 = 0.01;

/// How many products a run will have taken, for progress bars: on spectra like those of networks about five per pair and
/// twenty more, and later about three for each pair still open.
fn expected_matvecs(done: usize, open: usize, wanted: usize, most: usize) -> usize {
    let guess = if open == 0 { done } else { (5 * wanted + 20).max(done + 3 * open) };
    guess.min(most).max(done)
}

/// A thick-restart basis, and how far its two ends have come.
pub(super) struct Search<'a> {
    pub(super) operator: &'a dyn LinearOperator,
    pub(super) params: EigenParams,
    pub(super) state: KrylovSchur<'a>,
    pub(super) ritz: Ritz,
    pub(super) limits: Limits,
    at_closure: Option<Closure>,
    pub(super) num_restarts: usize,
}

impl<'a> Search<'a> {
    /// Starts from the rows of `start` and random normal vectors up to the block; the basis may grow to `spare_rows`
    /// vectors beyond the wanted ones, where memory allows.
    pub(super) fn new(
        operator: &'a dyn LinearOperator,
        params: &EigenParams,
        spare_rows: usize,
        start: Option<&Tensor>,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let limits = Limits::new(operator, params, spare_rows);
        let state = KrylovSchur::new(operator, limits.block, METHOD, start, rng)?;
        let ritz = state.ritz();
        Ok(Self { operator, params: params.clone(), state, ritz, limits, at_closure: None, num_restarts: 0 })
    }

    /// Pairs asked for.
    pub(super) fn wanted(&self) -> usize {
        self.params.top + self.params.bottom
    }

    /// Whether the basis holds as many vectors as there are pairs wanted.
    pub(super) fn is_enough(&self) -> bool {
        self.state.rows() >= self.wanted()
    }

    /// Whether the basis must shrink before the next step.
    pub(super) fn is_full(&self) -> bool {
        self.state.rows() > self.wanted() && self.state.rows() + self.state.pending_rows() > self.limits.basis_rows
    }

    /// Shrinks the basis to the Ritz vectors nearest both ends.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.num_restarts += 1;
        let keep = self.limits.kept(&self.params, self.state.rows());
        self.state.restart(&self.ritz, &keep)?;
        self.ritz = self.state.ritz();
        Ok(())
    }

    /// One block product more. Of a large basis the Ritz pairs are looked at now and then only: they cost `O(m³)`.
    pub(super) fn step(&mut self, rng: &mut impl Rng, observer: &mut dyn Observer) -> Result<()> {
        self.state.step(rng, observer)?;
        let rows = self.state.rows();
        if rows <= SMALL_BASIS || rows >= self.ritz.values.len() + rows / LOOKS_PER_DOUBLING || self.is_full() {
            self.refresh();
        }
        Ok(())
    }

    /// Brings the Ritz pairs up to date with the basis.
    pub(super) fn refresh(&mut self) {
        if !self.is_fresh() {
            self.ritz = self.state.ritz();
        }
    }

    /// Whether the Ritz pairs are those of the present basis.
    pub(super) fn is_fresh(&self) -> bool {
        self.ritz.values.len() == self.state.rows()
    }

    /// Tells the observer, who hears of `least` products to come in all, or more; whether it asks to stop.
    pub(super) fn announce(&self, least: usize, observer: &mut dyn Observer) -> bool {
        let (wanted, converged) = (self.wanted(), self.num_converged());
        let message = format!("{converged} of {wanted} converged");
        let done = self.state.num_matvecs;
        let total = expected_matvecs(done, wanted - converged, wanted, self.params.max_matvecs).max(least);
        observer.on_step(&Step { task: METHOD, done, total, message }).is_break()
    }

    fn num_converged(&self) -> usize {
        self.ends().iter().filter(|&&i| self.is_converged(i)).count()
    }

    fn is_converged(&self, index: usize) -> bool {
        self.ritz.residuals[index] <= MARGIN * self.params.tolerance * self.scale()
    }

    /// How many Ritz values at the bottom and at the top are eigenvalues for certain: converged, with all further out, and
    /// within 1 % of themselves. (The last keeps out the many copies of zero, whose residuals are small beside the largest.)
    pub(super) fn known_at_ends(&self) -> [usize; 2] {
        let Ritz { values, residuals, .. } = &self.ritz;
        let is_known = |i: &usize| self.is_converged(*i) && residuals[*i] <= CERTAIN * values[*i].abs();
        let bottom = (0..values.len()).take_while(is_known).count();
        [bottom, (bottom..values.len()).rev().take_while(is_known).count()]
    }

    /// Whether the pairs at both ends have converged; to be asked once after each step.
    pub(super) fn is_done(&mut self) -> bool {
        if self.state.closed > 0 {
            self.refresh();
        }
        if !self.is_enough() || !self.is_fresh() {
            return false;
        }
        if self.state.closed > 0 {
            let values = self.ends().iter().map(|&i| self.ritz.values[i]).collect();
            let tolerance = self.params.tolerance * self.scale();
            self.at_closure = Some(Closure::next(self.at_closure.take(), values, tolerance, &self.state));
        }
        let settled = self.num_converged() == self.wanted() && self.operator.dim() > EXACT_DIM;
        let closure = self.at_closure.as_ref();
        let confirmed = closure.is_none_or(|closure| closure.is_confirmed(self.limits.block, &self.state));
        settled && confirmed || self.state.is_complete()
    }

    /// Products that one step more and the closing product would have taken in all.
    pub(super) fn next_matvecs(&self) -> usize {
        self.state.num_matvecs + self.state.pending_rows() + self.wanted()
    }

    /// The largest `|θ|`.
    pub(super) fn scale(&self) -> f64 {
        self.ritz.values.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()))
    }

    /// Positions among the ascending Ritz values: the bottom ones first, then the top ones, largest first.
    pub(super) fn ends(&self) -> Vec<usize> {
        let rows = self.ritz.values.len();
        let bottom = self.params.bottom.min(rows);
        (0..bottom).chain((rows - self.params.top.min(rows - bottom)..rows).rev()).collect()
    }

    /// Puts everything into `state` that [`Self::restore`] needs.
    pub(super) fn keep(&self, state: &mut SurveyState) -> Result<()> {
        if let Some(closure) = &self.at_closure {
            state.put_numbers("closure.values", &closure.values)?;
            state.put_numbers("closure.counts", &[closure.num_matvecs as f64, closure.since as f64])?;
        }
        state.put_numbers("search", &[self.ritz.values.len() as f64, self.num_restarts as f64])?;
        self.state.keep(state)
    }

    /// Goes on from a kept state.
    pub(super) fn restore(&mut self, state: &SurveyState) -> Result<()> {
        self.state.restore(state)?;
        self.at_closure = None;
        if state.tensors.contains_key("closure.values") {
            let &[num_matvecs, since] = state.numbers("closure.counts")?.as_slice() else {
                return Err(damaged("closure.counts"));
            };
            let values = state.numbers("closure.values")?;
            self.at_closure = Some(Closure { values, num_matvecs: num_matvecs as usize, since: since as usize });
        }
        let &[rows, restarts] = state.numbers("search")?.as_slice() else { return Err(damaged("search")) };
        self.num_restarts = restarts as usize;
        self.ritz = self.state.ritz();
        // An older look at the basis stays as old as it was, so that the next one comes at the same step.
        self.ritz.values.truncate(rows as usize);
        Ok(())
    }

    /// The pairs at both ends as they are, measured by one closing product each unless `interrupted`.
    pub(super) fn finish(self, interrupted: bool, observer: &mut dyn Observer) -> Result<EigenpairsReport> {
        let ends = self.ends();
        let pick = |values: &[f64]| ends.iter().map(|&i| values[i]).collect();
        let vectors: Option<Tensor> = if ends.is_empty() { None } else { Some(self.state.vectors(&self.ritz, &ends)?) };
        // Until a product measures it, no residual is known below the rounding of products.
        let rounding = epsilon(self.operator.dtype()) * self.scale();
        let residuals: Vec<f64> = self.ritz.residuals.iter().map(|residual| residual.max(rounding)).collect();
        let (values, residuals) = (pick(&self.ritz.values), pick(&residuals));
        let (num_matvecs, Self { operator, params, state, .. }) = (self.state.num_matvecs, self);
        // The basis goes before the closing products take their memory.
        drop(state);
        let mut accepted = Accepted::new(Method::Lanczos, vectors, values, residuals, num_matvecs)?;
        accepted.interrupted = interrupted;
        accepted.measure(operator, observer)?;
        let (top, bottom) = accepted.reports(operator, params.bottom, params.tolerance)?;
        Ok(EigenpairsReport { top, bottom })
    }
}

/// The wanted values at the moment when a Krylov space closed.
struct Closure {
    values: Vec<f64>,
    num_matvecs: usize,
    /// Spaces that have closed later and left the values as they were.
    since: usize,
}

impl Closure {
    /// After another closure: the earlier one if `values` agree with it, else a new one.
    fn next(earlier: Option<Self>, values: Vec<f64>, tolerance: f64, state: &KrylovSchur) -> Self {
        let agree = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance;
        match earlier.filter(|earlier| earlier.values.iter().zip(&values).all(agree)) {
            Some(earlier) => Self { since: earlier.since + state.closed, ..earlier },
            None => Self { values, num_matvecs: state.num_matvecs, since: 0 },
        }
    }

    /// Whether the random directions that filled up have had their say, which takes more than one step: their own
    /// spaces have closed (as many closures as the block is wide take the older directions with them), or have been
    /// followed for as long as it took to come here.
    fn is_confirmed(&self, block: usize, state: &KrylovSchur) -> bool {
        self.since >= block || state.num_matvecs >= 2 * self.num_matvecs
    }
}

pub(super) struct Limits {
    pub(super) block: usize,
    /// The most vectors that the basis may hold.
    pub(super) basis_rows: usize,
    /// Whether the memory, not the method, sets that.
    pub(super) memory_bound: bool,
}

impl Limits {
    fn new(operator: &dyn LinearOperator, params: &EigenParams, spare_rows: usize) -> Self {
        let (dim, wanted) = (operator.dim(), params.top + params.bottom);
        // Beside the basis there are a block, and at the end the wanted vectors.
        let that_fit = params.memory_bytes / (dim * operator.dtype().size_in_bytes());
        let spare = |block: usize| that_fit.saturating_sub(block.saturating_add(2 * wanted));
        // Wide blocks in a small basis restart before they have learnt anything: up to twice the products.
        let block = params.block.min(spare(params.block) / 10).clamp(1, dim);
        let spare = spare(block);
        let basis_rows = wanted + spare.clamp(3 * block, spare_rows.max(3 * block));
        Self { block, basis_rows, memory_bound: spare < spare_rows.min(dim) }
    }

    /// Which of `rows` Ritz vectors survive a restart: the wanted ones and as many neighbours as fit in half of the
    /// spare rows, shared between the ends as the wanted ones are.
    fn kept(&self, params: &EigenParams, rows: usize) -> Vec<usize> {
        let wanted = params.top + params.bottom;
        let extra = (self.basis_rows - wanted) / 2;
        let extra_top = (extra * params.top).checked_div(wanted).unwrap_or(0);
        let (top, bottom) = (params.top + extra_top, params.bottom + extra - extra_top);
        (0..bottom).chain(rows - top..rows).collect()
    }
}
