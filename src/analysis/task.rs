//! A matrix, and what to compute of it.

use std::ops::Range;

use candle_core::Tensor;

use crate::Result;
use crate::autodiff::ParamSpace;
use crate::curvature::CurvatureOperator;
use crate::objective::Objective;
use crate::plan::AnalysisOptions;
use crate::vocabulary::Curvature;

/// A matrix of an objective at a point, and what to compute of it.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) objective: &'a Objective<'a>,
    pub(super) theta: &'a Tensor,
    pub(super) curvature: Curvature,
    pub(super) options: &'a AnalysisOptions,
}

impl<'a> Task<'a> {
    /// The parameters of the network.
    pub(super) fn space(&self) -> &'a ParamSpace {
        self.objective.network().space()
    }

    /// Ranges of the parameters in the scope.
    pub(super) fn ranges(&self) -> Result<Vec<Range<usize>>> {
        Ok(self.options.scope.resolve(self.space())?)
    }

    /// The matrix on all parameters.
    pub(super) fn operator(&self) -> Result<CurvatureOperator<'a>> {
        self.operator_of(self.objective)
    }

    /// The same matrix for other rows.
    pub(super) fn operator_of<'b>(&self, objective: &'b Objective<'b>) -> Result<CurvatureOperator<'b>> {
        Ok(CurvatureOperator::new(objective, self.theta, self.curvature)?.with_label_seed(self.options.seed))
    }
}
