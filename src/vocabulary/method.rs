//! How a number was found.

/// How a number was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A closed form, or a sum over everything that there is.
    Exact,
    /// Thick-restart block Lanczos.
    Lanczos,
    /// Power iteration.
    Power,
    /// From the whole matrix.
    Dense,
    /// From the Gram matrix of the rows that the matrix is made of.
    Gram,
    /// Stochastic Lanczos quadrature.
    Slq,
    /// The same without kept bases, which did not fit into memory.
    SlqThreeTerm,
    /// Random probes.
    Hutchinson,
    /// Random probes off the converged eigenpairs.
    HutchinsonDeflated,
    /// The exact trace of the GGN, and random probes for the residual.
    ExactGgnHutchinson,
    /// Random combinations of the outputs.
    RandomColumns,
    /// Found on one half of the rows and measured on the other.
    CrossFit,
    /// Pairs of opposite perturbations.
    AntitheticPairs,
    /// Gradient ascent: a lower bound.
    Ascent,
    /// Bisection.
    Bisection,
    /// One product with the matrix.
    Product,
    /// Products with vectors of random signs.
    RandomSigns,
    /// Not found: the run was interrupted.
    None,
}

impl Method {
    /// All.
    pub const ALL: [Self; 18] = [
        Self::Exact,
        Self::Lanczos,
        Self::Power,
        Self::Dense,
        Self::Gram,
        Self::Slq,
        Self::SlqThreeTerm,
        Self::Hutchinson,
        Self::HutchinsonDeflated,
        Self::ExactGgnHutchinson,
        Self::RandomColumns,
        Self::CrossFit,
        Self::AntitheticPairs,
        Self::Ascent,
        Self::Bisection,
        Self::Product,
        Self::RandomSigns,
        Self::None,
    ];

    /// The word in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Lanczos => "lanczos",
            Self::Power => "power",
            Self::Dense => "dense",
            Self::Gram => "gram",
            Self::Slq => "slq",
            Self::SlqThreeTerm => "slq_three_term",
            Self::Hutchinson => "hutchinson",
            Self::HutchinsonDeflated => "hutchinson_deflated",
            Self::ExactGgnHutchinson => "exact_ggn+hutchinson",
            Self::RandomColumns => "random_columns",
            Self::CrossFit => "cross_fit",
            Self::AntitheticPairs => "antithetic_pairs",
            Self::Ascent => "ascent",
            Self::Bisection => "bisection",
            Self::Product => "product",
            Self::RandomSigns => "random_signs",
            Self::None => "none",
        }
    }
}
