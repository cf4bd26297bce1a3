//! What can go wrong in a spectral computation.

/// What can go wrong in a spectral computation.
#[derive(Debug, thiserror::Error)]
pub enum SpectralError {
    /// A product held NaN or infinity.
    #[error("{method}: the product with the operator is not finite at matvec {matvec}")]
    NonFinite {
        /// The algorithm.
        method: &'static str,
        /// Number of the matvec at which it first appeared, from 1.
        matvec: usize,
    },
    /// More eigenpairs, steps or probes than the operator has dimensions.
    #[error("{method}: {what} is {got}, but the operator has dimension {dim}")]
    TooMany {
        /// The algorithm.
        method: &'static str,
        /// The parameter's name.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The operator's dimension.
        dim: usize,
    },
    /// `uᵀAv` and `vᵀAu` differ.
    #[error(
        "{method}: the operator is not symmetric: uᵀAv and vᵀAu differ by {asymmetry:.1e} of ‖A‖, {tolerance:.0e} allowed"
    )]
    NotSymmetric {
        /// The algorithm.
        method: &'static str,
        /// The difference over `‖A‖`.
        asymmetry: f64,
        /// What rounding explains.
        tolerance: f64,
    },
    /// Two products of the same vector differ.
    #[error(
        "{method}: the operator is not deterministic: two products of one vector differ by {difference:.1e} of ‖Av‖"
    )]
    NotDeterministic {
        /// The algorithm.
        method: &'static str,
        /// Norm of the difference over the norm of the product.
        difference: f64,
    },
    /// A kept state lacks a part, or has it in another shape.
    #[error("the state of the earlier run is damaged or of another version: {part}")]
    DamagedState {
        /// Which part.
        part: String,
    },
    /// The budget does not pay for one step.
    #[error("{method}: a budget of {got} products is too small: at least {needed} are needed for a result")]
    BudgetTooSmall {
        /// The algorithm.
        method: &'static str,
        /// Products allowed.
        got: usize,
        /// Products needed.
        needed: usize,
    },
    /// A Gram matrix that the memory does not hold.
    #[error("gram: {} MiB do not have room for two copies of the Gram matrix of {rows} rows and two of these rows", memory_bytes >> 20)]
    NoRoom {
        /// Its rows.
        rows: usize,
        /// What there is to plan with.
        memory_bytes: usize,
    },
    /// Vectors that came with another number of values or forms.
    #[error("{method}: got {values} values or forms for {vectors} vectors")]
    Unpaired {
        /// The algorithm.
        method: &'static str,
        /// How many vectors.
        vectors: usize,
        /// How many values.
        values: usize,
    },
    /// Too few probes for a standard error.
    #[error("{method}: {got} probes, but a standard error needs 2 or more")]
    TooFewProbes {
        /// The algorithm.
        method: &'static str,
        /// The number asked for.
        got: usize,
    },
}

impl SpectralError {
    /// How to mend it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NonFinite { .. } => "check the weights and the data for NaN, or use --dtype f64".into(),
            Self::TooMany { what, dim, .. } => format!("set {what} to {dim} or less"),
            Self::NotSymmetric { .. } => "this method is for symmetric operators only".into(),
            Self::NotDeterministic { .. } => {
                "switch off everything random in it (dropout, shuffling, augmentation)".into()
            }
            Self::DamagedState { .. } => "start again without --resume".into(),
            Self::BudgetTooSmall { needed, .. } => format!("allow {needed} products or more"),
            Self::NoRoom { .. } => {
                "allow more memory, take fewer data rows, or let a survey estimate the spectrum".into()
            }
            Self::Unpaired { .. } => "give one value and one form of each shard per vector".into(),
            Self::TooFewProbes { .. } => "ask for 2 probes or more".into(),
        })
    }
}
