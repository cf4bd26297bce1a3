//! Self-attention (Vaswani et al. 2017), composed of primitives, so that every derivative follows.

use super::{Forward, Place};
use crate::Result;
use crate::autodiff::{Finish, Value, Var};
use crate::kernels::{Bilinear, Linear, MatMul, Pointwise};

impl<V: Value> Forward<'_, V> {
    /// `softmax(q kᵀ / √d) v` in each head, `[N, T, 3·dim]` to `[N, T, dim]`; two matrix products per sample and head.
    pub(super) fn attention(&mut self, x: &Var<V>, heads: usize, place: &Place<'_>) -> Result<Var<V>> {
        let [n, tokens, width] = place.tokens(x.dims()?, None)?;
        if heads == 0 || width % (3 * heads) != 0 {
            return Err(
                place.misfit(format!("queries, keys and values of {heads} heads do not divide {width} numbers"))
            );
        }
        let size = width / (3 * heads);
        let batch = n * heads;
        self.count(place.element_count(&[batch, tokens, tokens])?);
        self.count(n * tokens * width);
        let x = self.reshape(x, |_| vec![n, tokens, 3, heads, size])?;
        let x = self.tape.linear(Linear::Permute { axes: vec![2, 0, 3, 1, 4] }, &x)?;
        let mut part = |start| -> Result<Var<V>> {
            let one = self.tape.linear(Linear::Narrow { axis: 0, start, len: 1, size: 3, rank: 5 }, &x)?;
            self.reshape(&one, |_| vec![batch, tokens, size])
        };
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        let queries = self.tape.linear(Linear::Scale { factor: 1.0 / (size as f64).sqrt() }, &queries)?;
        let product =
            |k, n, transpose_b| Bilinear::MatMul(MatMul { batch, m: tokens, k, n, transpose_a: false, transpose_b });
        self.multiply_adds += 2 * batch * tokens * tokens * size;
        let scores = self.tape.bilinear(product(size, tokens, true), &queries, &keys)?;
        let scores = self.reshape(&scores, |_| vec![batch * tokens, tokens])?;
        let weights = self.softmax(&scores, [batch * tokens, tokens])?;
        let weights = self.reshape(&weights, |_| vec![batch, tokens, tokens])?;
        let y = self.tape.bilinear(product(tokens, size, false), &weights, &values)?;
        let y = self.reshape(&y, |_| vec![n, heads, tokens, size])?;
        let y = self.tape.linear(Linear::Permute { axes: vec![0, 2, 1, 3] }, &y)?;
        self.reshape(&y, |_| vec![n, tokens, width / 3])
    }

    /// `e^{x − m} / Σ e^{x − m}` in each row of `[rows, width]`. The row's maximum `m` keeps exp from overflowing; it is a
    /// constant, since the result does not depend on it.
    fn softmax(&mut self, x: &Var<V>, [rows, width]: [usize; 2]) -> Result<Var<V>> {
        let (full, small) = (vec![rows, width], vec![rows, 1]);
        let Some(primal) = x.value().primal() else {
            return Err(candle_core::Error::Msg("a softmax of a value without primal".into()).into());
        };
        let shift = self.tape.constant(primal.max_keepdim(1)?.neg()?);
        let shifted = self.tape.affine(x, None, &shift, Finish::default())?;
        let exponentials = self.tape.pointwise(Pointwise::Exp, &shifted)?;
        let sum = self.tape.linear(Linear::SumTo { from: full.clone(), to: small.clone() }, &exponentials)?;
        let inverse = self.tape.pointwise(Pointwise::Reciprocal, &sum)?;
        Ok(self.tape.bilinear(Bilinear::Product { full, small }, &exponentials, &inverse)?)
    }
}
