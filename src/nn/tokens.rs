//! Images as tokens, and what is added to them.

use super::{Forward, Place};
use crate::Result;
use crate::autodiff::{Finish, Value, Var};
use crate::kernels::Linear;
use crate::models::Layer;

impl<V: Value> Forward<'_, V> {
    /// A convolution whose stride is its kernel, as one matrix product over the patches.
    pub(super) fn patch_embedding(&mut self, layer: &Layer, x: &Var<V>, place: &Place<'_>) -> Result<Var<V>> {
        let Layer::PatchEmbedding { inputs, dim, patch, weight, bias } = layer else {
            return Ok(x.clone());
        };
        let [n, channels, height, width] = place.image(x.dims()?, Some(*inputs))?;
        let [patch_rows, patch_columns] = patch.0;
        if channels == 0 || *dim == 0 || patch_rows == 0 || patch_columns == 0 {
            return Err(place.misfit("`in`, `dim` and `patch` must be at least 1".into()));
        }
        if height % patch_rows != 0 || width % patch_columns != 0 {
            let patches = format!("patches of {patch_rows}x{patch_columns}");
            return Err(place.misfit(format!("{patches} do not tile an image of {height}x{width}")));
        }
        let (rows, columns) = (height / patch_rows, width / patch_columns);
        let x = self.reshape(x, |_| vec![n, channels, rows, patch_rows, columns, patch_columns])?;
        let x = self.tape.linear(Linear::Permute { axes: vec![0, 2, 4, 1, 3, 5] }, &x)?;
        let sizes = [n * rows * columns, channels * patch_rows * patch_columns, *dim];
        let y = self.rows_times_matrix(&x, sizes, (weight, bias.as_deref()), place)?;
        self.reshape(&y, |_| vec![n, rows * columns, *dim])
    }

    pub(super) fn class_token(&mut self, x: &Var<V>, dim: usize, token: &str, place: &Place<'_>) -> Result<Var<V>> {
        let [_, tokens, _] = place.tokens(x.dims()?, Some(dim))?;
        let pad = |start, len| Linear::Pad { axis: 1, start, len, size: tokens + 1, rank: 3 };
        let others = self.tape.linear(pad(1, tokens), x)?;
        let token = self.param(token)?;
        let first = self.tape.linear(pad(0, 1), &token)?;
        Ok(self.tape.affine(&others, None, &first, Finish::default())?)
    }

    pub(super) fn position_embedding(
        &mut self,
        x: &Var<V>,
        (tokens, dim): (usize, usize),
        embedding: &str,
        place: &Place<'_>,
    ) -> Result<Var<V>> {
        let [_, given, _] = place.tokens(x.dims()?, Some(dim))?;
        if given != tokens {
            return Err(place.misfit(format!("has vectors for {tokens} tokens, but its input has {given}")));
        }
        let embedding = self.param(embedding)?;
        Ok(self.tape.affine(x, None, &embedding, Finish::default())?)
    }

    pub(super) fn select_token(&mut self, x: &Var<V>, index: usize, place: &Place<'_>) -> Result<Var<V>> {
        let [n, tokens, dim] = place.tokens(x.dims()?, None)?;
        if index >= tokens {
            return Err(place.misfit(format!("no token {index} among {tokens}")));
        }
        let one = self.tape.linear(Linear::Narrow { axis: 1, start: index, len: 1, size: tokens, rank: 3 }, x)?;
        self.reshape(&one, |_| vec![n, dim])
    }
}
