//! Headline numbers.

use super::{Curvature, Method, Quantity, Scope};

/// One headline number: a row of `summary.parquet` and of the terminal's table.
#[derive(Debug, Clone)]
pub struct SummaryRow {
    /// The curvature matrix, if it is a number of one.
    pub operator: Option<Curvature>,
    /// Part of the parameters.
    pub scope: Scope,
    /// What it measures.
    pub quantity: Quantity,
    /// Its value.
    pub value: f64,
    /// Standard error or bound of the computation; NaN where it does not apply.
    pub std_err_numeric: f64,
    /// Standard error from the choice of data rows; NaN where unknown.
    pub std_err_data: f64,
    /// How it was found.
    pub method: Method,
    /// Whether the estimate met its tolerance.
    pub converged: bool,
    /// Products with the operator that it took.
    pub num_matvecs: usize,
}

impl SummaryRow {
    /// Whether the value is only a bound: an outermost eigenvalue that has not converged.
    pub fn is_bound(&self) -> bool {
        !self.converged && self.quantity.end().is_some()
    }

    /// The name of the operator; empty without one.
    pub fn operator_name(&self) -> &'static str {
        self.operator.map_or("", Curvature::name)
    }

    /// A number without operator and estimation error.
    pub fn exact(quantity: impl Into<Quantity>, value: f64) -> Self {
        Self {
            operator: None,
            scope: Scope::All,
            quantity: quantity.into(),
            value,
            std_err_numeric: f64::NAN,
            std_err_data: f64::NAN,
            method: Method::Exact,
            converged: true,
            num_matvecs: 0,
        }
    }
}
