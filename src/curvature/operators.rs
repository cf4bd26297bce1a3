//! Hessian, generalised Gauss-Newton and empirical Fisher matrix of an objective at fixed parameters.

use candle_core::{DType, Device, Tensor};

use super::objective::Objective;
use super::pass::{Direction, Pass};
use super::{LinearOperator, Product, ShardForms};
use crate::kernels::row_dots;
use crate::{Error, Observer, Result};

/// Which symmetric matrix of the objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curvature {
    /// Second derivative of the mean loss (and of the L2 term, where the objective has one).
    Hessian,
    /// `(1/N) Σ J_nᵀ L_n J_n`, `L_n` the loss Hessian in the outputs (Schraudolph 2002), and the L2 term.
    Ggn,
    /// `(1/N) Σ g_n g_nᵀ` of the per-sample gradients, without the L2 term.
    EmpiricalFisher,
}

/// Curvature of an objective at `theta`.
pub struct CurvatureOperator<'a> {
    objective: &'a Objective<'a>,
    params: Vec<Tensor>,
    curvature: Curvature,
}

impl<'a> CurvatureOperator<'a> {
    /// The matrix at `theta` `[n]`.
    ///
    /// # Errors
    /// Placing `theta` on the objective's device.
    pub fn new(objective: &'a Objective<'a>, theta: &Tensor, curvature: Curvature) -> Result<Self> {
        let params = objective.network.space.split(&objective.place(theta)?)?;
        Ok(Self { objective, params, curvature })
    }

    fn apply_group(&self, group: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        let pass = match self.curvature {
            Curvature::Hessian => Pass::Hessian,
            Curvature::Ggn => Pass::Ggn,
            Curvature::EmpiricalFisher => Pass::Fisher,
        };
        let tangents = self.objective.network.space.split(group)?;
        let direction = Direction { count: group.dims()[0], tangents };
        let (sum, rows) = self.objective.sum_over_shards(&self.params, &direction, pass, observer)?;
        let num_rows = self.objective.num_rows() as f64;
        let mut block = sum.primal.finish(1.0 / num_rows, self.dtype(), self.device())?;
        let mut forms: Vec<Vec<f64>> =
            sum.forms.iter().zip(&rows).map(|(forms, &rows)| forms.iter().map(|f| f / rows as f64).collect()).collect();
        let decay = self.objective.options.weight_decay;
        if decay != 0.0 && self.curvature != Curvature::EmpiricalFisher {
            block = (block + (group * decay)?)?;
            let squares = row_dots(group, group)?;
            forms.iter_mut().for_each(|forms| forms.iter_mut().zip(&squares).for_each(|(f, s)| *f += decay * s));
        }
        let shards = (rows.len() > 1).then_some(ShardForms { rows, forms });
        Ok(Product { block, shards })
    }
}

impl LinearOperator for CurvatureOperator<'_> {
    fn dim(&self) -> usize {
        self.objective.dim()
    }

    fn dtype(&self) -> DType {
        self.objective.options.dtype
    }

    fn device(&self) -> &Device {
        &self.objective.options.device
    }

    fn apply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Product> {
        let &[count, n] = block.dims() else {
            return Err(Error::VectorShape { got: block.dims().to_vec(), dim: self.dim() });
        };
        if n != self.dim() || count == 0 {
            return Err(Error::VectorShape { got: block.dims().to_vec(), dim: self.dim() });
        }
        // Even groups: 9 vectors go as 5 + 4, not as 8 + 1.
        let groups = count.div_ceil(self.block_size());
        let mut products = Vec::with_capacity(groups);
        for group in 0..groups {
            let (start, end) = (group * count / groups, (group + 1) * count / groups);
            products.push(self.apply_group(&block.narrow(0, start, end - start)?.contiguous()?, observer)?);
        }
        if products.len() == 1 {
            return products.pop().ok_or(Error::Interrupted);
        }
        let blocks: Vec<&Tensor> = products.iter().map(|product| &product.block).collect();
        let block = Tensor::cat(&blocks, 0)?;
        let mut shards: Option<ShardForms> = None;
        for forms in products.into_iter().filter_map(|product| product.shards) {
            match &mut shards {
                None => shards = Some(forms),
                Some(all) => all.forms.iter_mut().zip(forms.forms).for_each(|(all, more)| all.extend(more)),
            }
        }
        Ok(Product { block, shards })
    }

    fn block_size(&self) -> usize {
        self.objective.block_size()
    }
}
