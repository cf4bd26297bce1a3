//! Hessian, its Gauss-Newton part and residual, and Fisher matrices of an objective at fixed parameters.

use candle_core::{DType, Device, Tensor};

use super::kept::KeptPasses;
use super::pass::Direction;
use super::{Curvature, CurvatureError};
use crate::autodiff::{Pattern, Saved};
use crate::data::Batch;
use crate::kernels::row_dots;
use crate::objective::{Asked, Objective};
use crate::operator::{LinearOperator, Product, ShardForms};
use crate::program::Loss;
use crate::{Error, Observer, Result};

impl Curvature {
    /// Whether it is a sum of outer products: as the GGN is, where the loss is convex in the outputs.
    pub(crate) fn is_positive(self, loss: &Loss) -> bool {
        match self {
            Self::Hessian | Self::Residual | Self::PreconditionedHessian => false,
            Self::Ggn => !matches!(loss, Loss::Program {}),
            Self::EmpiricalFisher | Self::McFisher | Self::GradientCovariance => true,
        }
    }
}

/// Curvature of an objective at `theta`.
pub struct CurvatureOperator<'a> {
    pub(super) objective: &'a Objective<'a>,
    pub(super) params: Vec<Tensor>,
    pub(super) curvature: Curvature,
    /// `[1, n]`, for the covariance alone.
    pub(super) mean_gradient: Option<Tensor>,
    /// Seed of the labels that the model draws, for the Monte Carlo Fisher matrix alone.
    pub(super) label_seed: Option<u64>,
    kept: KeptPasses,
}

impl<'a> CurvatureOperator<'a> {
    /// The matrix at `theta` `[n]`. Cost: none, but one gradient for [`Curvature::GradientCovariance`].
    ///
    /// # Errors
    /// Placing `theta` on the objective's device; [`CurvatureError::NoLabelModel`];
    /// [`CurvatureError::NoPreconditioner`] for the preconditioned Hessian, which is a
    /// [`crate::operator::Scaled`] Hessian; for the covariance, a loss that is not finite.
    pub fn new(objective: &'a Objective<'a>, theta: &Tensor, curvature: Curvature) -> Result<Self> {
        if curvature == Curvature::PreconditionedHessian {
            return Err(CurvatureError::NoPreconditioner.into());
        }
        let params = objective.network.space().split(&objective.place(theta)?)?;
        let loss = &objective.options.loss;
        if curvature == Curvature::McFisher && !matches!(loss, Loss::CrossEntropy(_)) {
            return Err(CurvatureError::NoLabelModel { loss: loss.describe() }.into());
        }
        if matches!(curvature, Curvature::Ggn | Curvature::Residual) {
            objective.network.check_loss_of_outputs(loss)?;
        }
        let label_seed = (curvature == Curvature::McFisher).then_some(0);
        let kept = KeptPasses::default();
        let mut operator = Self { objective, params, curvature, mean_gradient: None, label_seed, kept };
        if curvature == Curvature::GradientCovariance {
            let sum = objective.sum_over_rows(
                Asked::GRADIENT,
                |batch| {
                    objective.plain(batch, &operator.params, Saved::Everything, objective.mode(), &mut Pattern::Free)
                },
                &mut (),
            )?;
            operator.mean_gradient = Some(sum.primal.to_device(operator.device())?);
        }
        Ok(operator)
    }

    /// The same with the labels of a Monte Carlo Fisher matrix drawn with `seed`, which is 0 else.
    pub fn with_label_seed(mut self, seed: u64) -> Self {
        (self.label_seed, self.kept) = (self.label_seed.map(|_| seed), KeptPasses::default());
        self
    }

    /// `ḡᵀv` for each row of `group`, `[k, 1, 1]`, where the matrix is centred.
    fn centre(&self, group: &Tensor) -> Result<Option<Tensor>> {
        let Some(mean) = &self.mean_gradient else { return Ok(None) };
        let count = group.dims()[0];
        let mut dots = Vec::with_capacity(count);
        for row in 0..count {
            dots.extend(row_dots(mean, &group.narrow(0, row, 1)?)?);
        }
        Ok(Some(Tensor::from_vec(dots, (count, 1, 1), self.device())?.to_dtype(self.dtype())?))
    }

    /// The product of a block that one pass carries; shard forms where `by_shard` asks for them.
    fn apply_group(&self, group: &Tensor, by_shard: bool, observer: &mut dyn Observer) -> Result<Product> {
        let tangents = self.objective.network.space().split(group)?;
        let (centre, label_seed) = (self.centre(group)?, self.label_seed);
        let kept = &self.kept;
        let direction = Direction { count: group.dims()[0], tangents, by_shard, centre, label_seed, kept };
        let asked = Asked { directions: direction.count, by_shard, gradients: true };
        self.kept.begin(self.objective, asked);
        let product = |batch: &Batch| self.objective.product(self.curvature, &self.params, &direction, batch);
        let sum = self.objective.sum_over_rows(asked, product, observer)?;
        let mut block = sum.primal.to_device(self.device())?;
        let (weights, mut forms): (Vec<f64>, Vec<Vec<f64>>) = sum
            .shards
            .into_iter()
            // A shard in which nothing counts has no mean, and no share in that of all.
            .map(|(weight, forms)| {
                (weight, forms.into_iter().map(|form| if weight > 0.0 { form / weight } else { 0.0 }).collect())
            })
            .unzip();
        let decay = self.objective.options.weight_decay;
        if decay != 0.0 && matches!(self.curvature, Curvature::Hessian | Curvature::Ggn) {
            block = (block + (group * decay)?)?;
            let squares = row_dots(group, group)?;
            forms.iter_mut().for_each(|forms| forms.iter_mut().zip(&squares).for_each(|(f, s)| *f += decay * s));
        }
        let rows: Vec<usize> = self.objective.shards.iter().map(Vec::len).collect();
        let shards = (by_shard && rows.len() > 1).then_some(ShardForms { rows, weights, forms });
        Ok(Product { block, shards })
    }

    /// The products of even groups of vectors: 9 go as 5 + 4, not as 8 + 1.
    fn apply_groups(&self, block: &Tensor, by_shard: bool, observer: &mut dyn Observer) -> Result<Vec<Product>> {
        let count = match *block.dims() {
            [count, n] if n == self.dim() && count > 0 => count,
            _ => return Err(Error::VectorShape { got: block.dims().to_vec(), dim: self.dim() }),
        };
        let groups = count.div_ceil(self.block_size());
        let of_group = |group: usize| {
            let (start, end) = (group * count / groups, (group + 1) * count / groups);
            self.apply_group(&block.narrow(0, start, end - start)?.contiguous()?, by_shard, observer)
        };
        (0..groups).map(of_group).collect()
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
        let mut products = self.apply_groups(block, true, observer)?;
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

    /// Micro-batches of rows from any shards: fewer gradients to sum where shards are small.
    fn multiply(&self, block: &Tensor, observer: &mut dyn Observer) -> Result<Tensor> {
        let products = self.apply_groups(block, false, observer)?;
        let blocks: Vec<&Tensor> = products.iter().map(|product| &product.block).collect();
        let product = if let [product] = blocks[..] { product.clone() } else { Tensor::cat(&blocks, 0)? };
        let squares = self.objective.workers.install(|| row_dots(&product, &product))?;
        if !squares.iter().all(|square| square.is_finite()) {
            // By shard, the error names the rows.
            return Ok(self.apply(block, observer)?.block);
        }
        Ok(product)
    }

    fn block_size(&self) -> usize {
        self.objective.block_size()
    }
}
