//! How a number was found.

names! {
    "method";
    /// How a number was found.
    pub enum Method {
        /// A closed form, or a sum over everything.
        Exact = "exact",
        /// Thick-restart block Lanczos.
        Lanczos = "lanczos",
        /// Power iteration.
        Power = "power",
        /// From the whole matrix.
        Dense = "dense",
        /// From the Gram matrix of the rows that the matrix is made of.
        Gram = "gram",
        /// Stochastic Lanczos quadrature.
        Slq = "slq",
        /// The same without storing the bases, which did not fit into memory.
        SlqThreeTerm = "slq_three_term",
        /// Random probes.
        Hutchinson = "hutchinson",
        /// Random probes, orthogonal to the converged eigenvectors.
        HutchinsonDeflated = "hutchinson_deflated",
        /// The exact trace of the GGN, and random probes for the residual.
        ExactGgnHutchinson = "exact_ggn+hutchinson",
        /// Random combinations of the outputs.
        RandomColumns = "random_columns",
        /// Found on one half of the rows and measured on the other.
        CrossFit = "cross_fit",
        /// Pairs of opposite perturbations.
        AntitheticPairs = "antithetic_pairs",
        /// Gradient ascent: a lower bound.
        Ascent = "ascent",
        /// Bisection.
        Bisection = "bisection",
        /// One product with the matrix.
        Product = "product",
        /// Products with vectors of random signs.
        RandomSigns = "random_signs",
        /// Chains of stochastic gradient Langevin dynamics.
        Sgld = "sgld",
        /// Not found: the run was interrupted.
        None = "none",
    }
}
