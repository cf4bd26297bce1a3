//! How curvature depends on the number of rows it is taken over.

/// Which number of a subset study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubsetQuantity {
    /// Largest eigenvalue over the rows: the mean over subsets lies above that of all rows.
    LambdaMax,
    /// `vᵀHv` over rows of the unit vector `v` found on other rows: the mean lies below.
    LambdaMaxCrossFitted,
    /// Trace: unbiased.
    Trace,
}

impl SubsetQuantity {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::LambdaMax => "lambda_max",
            Self::LambdaMaxCrossFitted => "lambda_max_cross_fitted",
            Self::Trace => "trace",
        }
    }
}

/// One number at one size of subset.
#[derive(Debug, Clone, PartialEq)]
pub struct SubsetRow {
    /// Rows in a subset.
    pub num_rows: usize,
    /// Which number.
    pub quantity: SubsetQuantity,
    /// Its mean over the subsets of that size.
    pub value: f64,
    /// Standard error of that mean; NaN where unknown.
    pub std_err: f64,
}

/// Curvature over subsets of growing size.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubsetStudy {
    /// One entry per size and quantity, in any order.
    pub rows: Vec<SubsetRow>,
    /// How loss and data were defined, in one line for captions.
    pub statement: String,
}
