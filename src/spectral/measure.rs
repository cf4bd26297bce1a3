//! What a spectrum looks like through its Gauss rules, and what they leave open about a sum.

use super::TraceReport;
use crate::vocabulary::Method;

/// Steps from which on a rule is compared with a shorter one.
pub(super) const FEWEST_STEPS_COMPARED: usize = 4;

/// Where the rules of a spectral measure come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleSource {
    /// Lanczos recurrences whose bases were kept and orthogonalised in full.
    Lanczos,
    /// Too little memory for one basis: the recurrence ran on the last few vectors alone. Nodes may repeat, weights
    /// still add up.
    ThreeTerm,
    /// The matrix: one rule, whose nodes are all its eigenvalues.
    Dense,
    /// The Gram matrix of the rows that the matrix is made of: the same, with one node for all zeros that need no row.
    Gram,
}

impl RuleSource {
    /// How numbers of the rules are found.
    pub fn method(self) -> Method {
        match self {
            Self::Lanczos => Method::Slq,
            Self::ThreeTerm => Method::SlqThreeTerm,
            Self::Dense => Method::Dense,
            Self::Gram => Method::Gram,
        }
    }

    /// Whether the one rule is the spectrum itself: nothing was drawn, and nothing is left open.
    pub(crate) fn is_spectrum(self) -> bool {
        matches!(self, Self::Dense | Self::Gram)
    }
}

/// Gauss quadrature of the spectral measure seen from each probe (stochastic Lanczos quadrature), or all eigenvalues.
#[derive(Debug, Clone)]
pub struct SlqReport {
    /// One rule per probe.
    pub probes: Vec<Quadrature>,
    /// The rules of three quarters of the steps, which tell how much the steps still matter: see [`SlqReport::change`].
    /// Empty where the steps are too few to tell.
    pub shorter: Vec<Quadrature>,
    /// How many of the lowest and of the highest nodes of a survey are eigenvalues that are known: the same in all rules, each
    /// with the weight `1/n`.
    pub known: [usize; 2],
    /// Dimension of the operator.
    pub dim: usize,
    /// Steps: each rule is exact for polynomials of degree `2·num_steps − 1`. A rule from a block of start vectors has
    /// more nodes than steps.
    pub num_steps: usize,
    /// Products with the operator.
    pub num_matvecs: usize,
    /// `zᵀAz` per probe comes free with the first Lanczos step: Hutchinson's trace.
    pub trace: TraceReport,
    /// Where the rules come from.
    pub source: RuleSource,
    /// The observer ended the run early: fewer probes or shorter rules than asked for.
    pub interrupted: bool,
}

impl SlqReport {
    /// What an interruption before the first rule leaves.
    pub(crate) fn none(dim: usize) -> Self {
        let (trace, std_err_numeric, std_err_data) = (f64::NAN, f64::NAN, f64::NAN);
        Self {
            probes: Vec::new(),
            shorter: Vec::new(),
            known: [0, 0],
            dim,
            num_steps: 0,
            num_matvecs: 0,
            trace: TraceReport { trace, std_err_numeric, std_err_data, samples: Vec::new(), num_matvecs: 0 },
            source: RuleSource::Lanczos,
            interrupted: true,
        }
    }

    /// The nodes and weights of `rule` that are not known eigenvalues.
    pub(super) fn rest<'a>(&self, rule: &'a Quadrature) -> (&'a [f64], &'a [f64]) {
        let unknown = if self.source.is_spectrum() { 0..0 } else { self.known[0]..rule.nodes.len() - self.known[1] };
        (&rule.nodes[unknown.clone()], &rule.weights[unknown])
    }

    /// Known eigenvalues with their weights.
    pub(super) fn known(&self) -> impl Iterator<Item = (f64, f64)> + Clone {
        let rule = self.probes.first();
        let (nodes, weights) = rule.map_or((&[][..], &[][..]), |rule| (&rule.nodes[..], &rule.weights[..]));
        let (bottom, top) = if self.source.is_spectrum() { (nodes.len(), 0) } else { (self.known[0], self.known[1]) };
        let which = (0..bottom).chain(nodes.len() - top..nodes.len());
        which.map(move |index| (nodes[index], weights[index]))
    }

    /// `Σ f(λᵢ)/n` and its standard error from the probes; NaN without rules.
    ///
    /// A start vector that is uniform on the sphere of the `n'` dimensions off the known eigenvectors gives a form
    /// `qᵀf(A)q` of variance `2 Var(f)/(n' + 2)`, where `Var(f)` is that of `f` over the spectrum; so the error follows from
    /// the measure itself, whatever the number of probes, and has no heavy tails. For random signs it is an upper bound, to
    /// `2/n'` (`Σ f(A)ᵢᵢ² ≥ tr(f(A))²/n`).
    pub(super) fn mean_of(&self, f: impl Fn(f64) -> f64) -> (f64, f64) {
        if self.probes.is_empty() {
            return (f64::NAN, f64::NAN);
        }
        let known: f64 = self.known().map(|(value, weight)| weight * f(value)).sum();
        let (mut share, mut sum) = (0.0, 0.0);
        let rest = || self.probes.iter().flat_map(|rule| std::iter::zip(self.rest(rule).0, self.rest(rule).1));
        for (&node, weight) in rest() {
            share += weight;
            sum += weight * f(node);
        }
        if share == 0.0 {
            return (known, 0.0);
        }
        let mean = sum / share;
        let spread: f64 = rest().map(|(&node, weight)| weight * (f(node) - mean).powi(2)).sum::<f64>() / share;
        let probes = self.probes.len() as f64;
        let dim = self.dim.saturating_sub(self.known[0] + self.known[1]) as f64;
        (known + sum / probes, share / probes * (2.0 * spread / (probes * (dim + 2.0))).sqrt())
    }
}

/// Nodes (Ritz values) and weights (squared first components; sum 1) of one probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Quadrature {
    /// Ascending.
    pub nodes: Vec<f64>,
    /// Same order and length as `nodes`.
    pub weights: Vec<f64>,
    /// Whether the Krylov space closed (breakdown): the rule is then exact for this probe.
    pub exact: bool,
}
