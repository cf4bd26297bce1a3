//! Names of columns that are both written and read: each is written once, here.

/// Which curvature.
pub const OPERATOR: &str = "operator";
/// Part of the parameters.
pub const SCOPE: &str = "scope";
/// What a number measures.
pub const QUANTITY: &str = "quantity";
/// The number.
pub const VALUE: &str = "value";
/// Its standard error from the computation.
pub const STD_ERR_NUMERIC: &str = "std_err_numeric";
/// Its standard error from the choice of data rows.
pub const STD_ERR_DATA: &str = "std_err_data";
/// How it was found.
pub const METHOD: &str = "method";
/// Whether it met its tolerance.
pub const CONVERGED: &str = "converged";
/// Number of products that it took.
pub const NUM_MATVECS: &str = "num_matvecs";
/// Whether comparisons take it.
pub const HEADLINE: &str = "headline";
/// An end of the spectrum.
pub const END: &str = "end";
/// Index from that end, from 0.
pub const INDEX: &str = "index";
/// A Ritz value.
pub const EIGENVALUE: &str = "eigenvalue";
/// Its `‖A y − θ y‖`.
pub const RESIDUAL_NORM: &str = "residual_norm";
/// Number of a probe.
pub const PROBE: &str = "probe";
/// A node of its quadrature.
pub const NODE: &str = "node";
/// The weight of that node.
pub const WEIGHT: &str = "weight";
/// A variant of an experiment.
pub const VARIANT: &str = "variant";
/// How far a cell of it has come.
pub const STATE: &str = "state";
/// A group of networks.
pub const GROUP: &str = "group";
/// The seed of one.
pub const SEED: &str = "seed";
/// Its name.
pub const MEMBER: &str = "member";
/// Hash of its checkpoint.
pub const CHECKPOINT_SHA256: &str = "checkpoint_sha256";
