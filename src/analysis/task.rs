//! A matrix, and what to compute of it.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::autodiff::ParamSpace;
use crate::curvature::{CurvatureError, CurvatureOperator, Preconditioner};
use crate::objective::Objective;
use crate::operator::{LinearOperator, Product, Scaled};
use crate::plan::AnalysisOptions;
use crate::vocabulary::Curvature;
use crate::{Observer, Result};

/// A matrix of an objective at a point, and what to compute of it.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) objective: &'a Objective<'a>,
    pub(super) theta: &'a Tensor,
    pub(super) curvature: Curvature,
    pub(super) options: &'a AnalysisOptions,
    /// Of the preconditioned Hessian.
    pub(super) preconditioner: Option<&'a Preconditioner>,
}

/// A matrix of an objective, preconditioned or not.
pub(super) enum Matrix<'a> {
    Plain(CurvatureOperator<'a>),
    Preconditioned(Scaled<CurvatureOperator<'a>>),
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
    pub(super) fn operator(&self) -> Result<Matrix<'a>> {
        self.operator_of(self.objective)
    }

    /// The same matrix for other rows.
    pub(super) fn operator_of<'b>(&self, objective: &'b Objective<'b>) -> Result<Matrix<'b>> {
        if self.curvature == Curvature::PreconditionedHessian {
            let hessian = CurvatureOperator::new(objective, self.theta, Curvature::Hessian)?;
            return Ok(Matrix::Preconditioned(Scaled::new(hessian, &self.scale()?)?));
        }
        let plain = CurvatureOperator::new(objective, self.theta, self.curvature)?;
        Ok(Matrix::Plain(plain.with_label_seed(self.options.seed)))
    }

    /// The diagonal of `P^{-1/2}`, `[n]`.
    fn scale(&self) -> Result<Tensor> {
        self.preconditioner.ok_or(CurvatureError::NoPreconditioner)?.scale()
    }

    /// `S B` for a block `[k, n]` on all parameters, where the matrix is `S A S`: what gradients become in its coordinates,
    /// and what turns its eigenvectors into directions of the weights. `S = I` unless it is preconditioned.
    pub(super) fn scaled(&self, block: &Tensor) -> Result<Tensor> {
        match self.curvature {
            Curvature::PreconditionedHessian => {
                let scale = self.scale()?.to_dtype(block.dtype())?.to_device(block.device())?;
                Ok(block.broadcast_mul(&scale.unsqueeze(0)?)?)
            }
            _ => Ok(block.clone()),
        }
    }
}

impl<'a> Matrix<'a> {
    fn operator(&self) -> &dyn LinearOperator {
        match self {
            Self::Plain(operator) => operator,
            Self::Preconditioned(operator) => operator,
        }
    }

    /// The matrix where it may be a sum of outer products.
    pub(super) fn plain(&self) -> Option<&CurvatureOperator<'a>> {
        match self {
            Self::Plain(operator) => Some(operator),
            Self::Preconditioned(_) => None,
        }
    }
}

impl LinearOperator for Matrix<'_> {
    fn dim(&self) -> usize {
        self.operator().dim()
    }

    fn dtype(&self) -> DType {
        self.operator().dtype()
    }

    fn device(&self) -> &Device {
        self.operator().device()
    }

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        self.operator().apply(block, observer)
    }

    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        self.operator().multiply(block, observer)
    }

    fn block_size(&self) -> usize {
        self.operator().block_size()
    }
}
