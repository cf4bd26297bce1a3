//! The survey: both ends of a spectrum and its density from one set of Krylov bases.

mod rules;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;

use self::rules::Rules;
use super::data_error::mean_data_std_error;
use super::guard::guard;
use super::outcome::{Stop, SurveyOutcome, SurveyReport};
use super::pairs::{EigenParams, check_counts};
use super::search::{Limits, METHOD, SPARE_ROWS, Search};
use super::state::{Store, SurveyState};
use super::trace::mean_and_std_error;
use super::{SlqParams, SlqReport, SpectralError, TraceReport, slq};
use crate::observer::Observer;
use crate::operator::{LinearOperator, ShardForms};
use crate::team::team;
use crate::{Error, Result};

/// What to find, how well, and at what cost at most.
#[derive(Debug, Clone, PartialEq)]
pub struct SurveyParams {
    /// Number of largest algebraic eigenvalues.
    pub top: usize,
    /// Number of smallest algebraic eigenvalues.
    pub bottom: usize,
    /// A pair has converged when `‖A y − θ y‖` is at most this times the largest `|θ|` found.
    pub eigen_tolerance: f64,
    /// Start vectors that go in lock-step, 2 or more.
    pub num_probes: usize,
    /// Block steps of the density at most; twice as many where eigenvalues beyond 1 % of the largest `|λ|` cannot be located by
    /// then.
    pub num_steps: usize,
    /// The density has settled when [`SlqReport::change`] is at most this, and eigenvalues beyond 1 % of the largest `|λ|` can
    /// be located.
    pub density_tolerance: f64,
    /// Products to spend at most, those of the guard and the closing ones included.
    pub max_matvecs: usize,
    /// Time to spend at most: the survey ends before a block product that, with the closing ones, would exceed it at the pace so far.
    pub max_time: Option<Duration>,
    /// Bound on the basis, a block and the vectors at the end.
    pub memory_bytes: usize,
}

impl Default for SurveyParams {
    /// Four start vectors: a product of 4 costs 6 % more per vector than one of 8 and a quarter less than one of 1, and
    /// the ends converge in a fifth fewer products than with 8 ([`EigenParams::default`] has the measurements).
    fn default() -> Self {
        Self {
            top: 5,
            bottom: 3,
            eigen_tolerance: 1e-4,
            num_probes: 4,
            num_steps: 32,
            density_tolerance: 0.05,
            max_matvecs: 1_000,
            max_time: None,
            memory_bytes: 1 << 30,
        }
    }
}

/// Steps of a density of its own that a small budget buys before it buys probes.
const FEWEST_STEPS: usize = 8;

/// Both ends of the spectrum of `A` and its density, from one block Krylov space of `num_probes` random start vectors.
///
/// One block product per step serves everything: Ritz pairs at both ends ([`super::eigenpairs`], the same thick-restart
/// method), and, before the first restart, one Gauss rule per start vector (block quadrature: Golub & Meurant 2010,
/// chapter 6), whose first moment is a trace sample. Converged pairs at the ends enter the rules with their exact weight
/// `1/n`. The start vectors are uniform on the sphere (orthonormalised normal vectors), so each rule's moments are unbiased.
/// It ends when both the pairs and the density are within their tolerances, when the density has taken all its steps, or
/// when the budget is spent, and says which.
///
/// Before anything, `A` is applied twice to one vector, and both products must agree bit for bit; each step checks the
/// symmetry of `A`. Where the memory holds no basis for `num_probes` vectors, the density comes from a separate [`slq`].
/// State goes to `store` when it wants it, and a survey that finds one there goes on from it.
///
/// Cost: `num_matvecs` products, `4 m n` multiplications per product for a basis of `m` vectors.
///
/// # Errors
/// Those of [`super::eigenpairs`] and [`slq`]; [`SpectralError::NotDeterministic`], [`SpectralError::NotSymmetric`],
/// [`SpectralError::BudgetTooSmall`] where `max_matvecs` pays for no pair.
pub fn survey(
    operator: &dyn LinearOperator,
    params: &SurveyParams,
    rng: &mut ChaCha8Rng,
    store: &mut dyn Store,
    observer: &mut dyn Observer,
) -> Result<SurveyReport> {
    check(operator, params)?;
    let started = Instant::now();
    let eigen = params.eigen();
    let guard = guard(METHOD, operator, rng, observer)?;
    let mut search = Search::new(
        operator,
        &eigen,
        SPARE_ROWS.max(params.num_probes.saturating_mul(params.most_steps())),
        None,
        rng,
    )?;
    // The guard, a basis that holds all pairs, and a closing product for each.
    let wanted = search.wanted();
    let needed = guard + wanted.max(1).next_multiple_of(search.limits.block) + wanted;
    if params.max_matvecs < needed {
        return Err(SpectralError::BudgetTooSmall { method: METHOD, got: params.max_matvecs, needed }.into());
    }
    let mut run = Run { params, guard, trace: None, shards: None, settled: false, rules: None };
    if let Some(state) = store.load()? {
        search.restore(&state)?;
        state.set_position(rng)?;
        run.restore(&search, &state)?;
    }
    let taken_before = search.state.num_matvecs;
    let stop = loop {
        if search.is_full() {
            run.take_rules(&search);
            search.restart()?;
        }
        let rows = search.state.rows();
        match search.step(rng, observer) {
            Err(Error::Interrupted) if rows > 0 => {
                run.save(&search, rng, store, true)?;
                break Stop::Interrupted;
            }
            result => result?,
        }
        run.take_start(&search);
        run.check_rules(&mut search);
        let least = if run.is_settled(&search) { 0 } else { search.limits.block.saturating_mul(params.num_steps) };
        let stopped = search.announce(least, observer);
        if search.is_done() && run.is_settled(&search) {
            break Stop::Converged;
        }
        let reach = guard + search.next_matvecs();
        if search.is_enough() && reach > params.max_matvecs {
            break Stop::MaxMatvecs;
        }
        run.save(&search, rng, store, stopped)?;
        if stopped {
            break Stop::Interrupted;
        }
        if let Some(most) = params.max_time.filter(|_| search.is_enough()) {
            let taken = guard + search.state.num_matvecs;
            let pace = started.elapsed().as_secs_f64() / (taken - taken_before).max(1) as f64;
            let end = started.elapsed().as_secs_f64() + pace * reach.saturating_sub(taken) as f64;
            if team().decides(end > most.as_secs_f64())? {
                break Stop::MaxTime { max_matvecs: reach - 1 };
            }
        }
    };
    if stop == Stop::Interrupted && !search.is_enough() {
        return Err(Error::Interrupted);
    }
    run.finish(search, stop, rng, observer)
}

impl SurveyParams {
    fn most_steps(&self) -> usize {
        self.num_steps.saturating_mul(2)
    }

    fn eigen(&self) -> EigenParams {
        EigenParams {
            top: self.top,
            bottom: self.bottom,
            tolerance: self.eigen_tolerance,
            max_matvecs: self.max_matvecs,
            block: self.num_probes,
            memory_bytes: self.memory_bytes,
        }
    }
}

fn check(operator: &dyn LinearOperator, params: &SurveyParams) -> Result<()> {
    check_counts(METHOD, params.top, params.bottom, operator.dim())?;
    if params.num_probes < 2 {
        return Err(SpectralError::TooFewProbes { method: METHOD, got: params.num_probes }.into());
    }
    Ok(())
}

/// What the start vectors have seen so far.
struct Run<'a> {
    params: &'a SurveyParams,
    /// Products that the guard took.
    guard: usize,
    /// `n·qᵀAq` of each start vector.
    trace: Option<Vec<f64>>,
    shards: Option<ShardForms>,
    /// At the last look more steps did not move the density, or are not wanted.
    settled: bool,
    /// Taken at the last moment before the basis shrinks or goes.
    rules: Option<Rules>,
}

impl Run<'_> {
    /// After the first step: trace samples and their shard forms.
    fn take_start(&mut self, search: &Search<'_>) {
        if self.trace.is_none() {
            let (projected, dim) = (search.state.projected(), search.operator.dim() as f64);
            self.trace = Some(projected.diagonal().iter().map(|form| dim * form).collect());
            self.shards = search.state.first_forms.clone();
        }
    }

    /// Keeps the rules as they are, where none are kept yet.
    fn take_rules(&mut self, search: &Search<'_>) {
        if self.rules.is_none() && search.limits.block == self.block(search) {
            self.rules = Some(Rules::of(search, self.block(search)));
        }
    }

    /// Start vectors, in a space of few dimensions fewer than asked for.
    fn block(&self, search: &Search<'_>) -> usize {
        self.params.num_probes.min(search.operator.dim())
    }

    fn check_rules(&mut self, search: &mut Search<'_>) {
        let block = self.block(search);
        let num_steps = search.state.rows() / block;
        let all = num_steps >= self.params.most_steps();
        let due = search.state.is_complete() || all || rules::is_due(num_steps, self.params.num_steps);
        if self.rules.is_some() || search.limits.block < block || !due {
            return;
        }
        search.refresh();
        let SurveyParams { num_steps: enough, density_tolerance, .. } = *self.params;
        let rules = Rules::of(search, block).report(search.operator.dim());
        let known = num_steps >= enough || rules.change() <= density_tolerance;
        self.settled = all || known && rules.is_located();
    }

    /// Whether nothing is left to learn about the density from this basis.
    fn is_settled(&self, search: &Search<'_>) -> bool {
        self.settled || self.rules.is_some() || search.limits.block < self.block(search)
    }

    fn save(&self, search: &Search<'_>, rng: &ChaCha8Rng, store: &mut dyn Store, last: bool) -> Result<()> {
        if !team().decides(store.wants(search.state.bytes(), last))? {
            return Ok(());
        }
        let mut state = SurveyState::default();
        search.keep(&mut state)?;
        state.put_position(rng)?;
        if let Some(samples) = &self.trace {
            state.put_numbers("trace", samples)?;
        }
        if let Some(shards) = &self.shards {
            state.put_forms(shards)?;
        }
        state.put_numbers("settled", &[f64::from(u8::from(self.settled))])?;
        if let Some(rules) = &self.rules {
            state.put_rules(rules)?;
        }
        store.save(&state);
        Ok(())
    }

    fn restore(&mut self, search: &Search<'_>, state: &SurveyState) -> Result<()> {
        self.trace = Some(state.numbers("trace")?);
        self.shards = state.forms(self.block(search).min(search.limits.block))?;
        self.settled = state.numbers("settled")? == [1.0];
        self.rules = state.rules()?;
        Ok(())
    }

    fn finish(
        mut self,
        mut search: Search<'_>,
        mut stop: Stop,
        rng: &mut ChaCha8Rng,
        observer: &mut dyn Observer,
    ) -> Result<SurveyReport> {
        search.refresh();
        self.take_rules(&search);
        let (operator, dim, params) = (search.operator, search.operator.dim(), self.params);
        let basis_matvecs = search.state.num_matvecs;
        let Limits { basis_rows, memory_bound, .. } = search.limits;
        let num_restarts = search.num_restarts;
        let pairs = search.finish(stop == Stop::Interrupted, observer)?;
        let mut num_matvecs = self.guard + pairs.top.num_matvecs;
        let slq = match self.rules {
            Some(rules) => {
                let samples = self.trace.unwrap_or_default();
                let (trace, std_err_numeric) = mean_and_std_error(&samples);
                let std_err_data = dim as f64 * mean_data_std_error(self.shards.as_ref());
                let trace = TraceReport { trace, std_err_numeric, std_err_data, num_matvecs: samples.len(), samples };
                let interrupted = stop == Stop::Interrupted;
                SlqReport { num_matvecs: basis_matvecs, trace, interrupted, ..rules.report(dim) }
            }
            None => {
                let budget = match stop {
                    Stop::MaxTime { max_matvecs } => max_matvecs,
                    _ => params.max_matvecs,
                };
                let left = budget.saturating_sub(num_matvecs);
                let num_probes = params.num_probes.min(left / params.num_steps.clamp(1, FEWEST_STEPS)).max(2);
                let num_steps = params.num_steps.min(dim).min(left / num_probes).max(1);
                let apart = SlqParams { num_probes, num_steps, memory_bytes: params.memory_bytes };
                let slq = match slq(operator, &apart, rng, observer) {
                    Err(Error::Interrupted) => SlqReport::none(dim),
                    slq => slq?,
                };
                if slq.interrupted {
                    stop = Stop::Interrupted;
                }
                num_matvecs += slq.num_matvecs;
                slq
            }
        };
        let density_converged = slq.is_settled(params.density_tolerance);
        if stop == Stop::Converged && !density_converged {
            stop = Stop::MaxSteps;
        }
        let outcome = SurveyOutcome {
            stop,
            density_converged,
            num_steps: params.num_steps,
            basis_rows,
            memory_bound,
            num_restarts,
            num_matvecs,
        };
        Ok(SurveyReport { pairs, slq, outcome })
    }
}
