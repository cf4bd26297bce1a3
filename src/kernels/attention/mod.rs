//! Attention of each head by itself (Vaswani et al. 2017): of its scores, one block of queries exists at a time (Dao et al. 2022),
//! for one direction; the adjoint computes them again.

mod heads;

use std::mem::MaybeUninit;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::access::with_float;
use super::element::{Element, filled};
use super::parallel;
use super::rows::{Held, OwnParts, Parts};
use heads::Inputs;

/// `softmax(q kᵀ · scale + mask) v` for each head: queries `[K?, heads, tokens, depth]`, keys `[K?, heads / served, keys, depth]`
/// and values `[K?, heads / served, keys, width]`.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Of the queries, those of all rows together.
    pub heads: usize,
    /// Heads of queries that share keys and values, one after the other.
    pub served: usize,
    /// Queries of a head.
    pub tokens: usize,
    /// Keys of a head.
    pub keys: usize,
    /// Length of queries and keys.
    pub depth: usize,
    /// Length of values.
    pub width: usize,
    /// The factor of the scores.
    pub scale: f64,
    /// Whether a token sees itself and those before it alone.
    pub is_causal: bool,
    /// Added to the scores, `[1 or heads, tokens, keys]`.
    pub mask: Option<Tensor>,
}

/// Queries, keys and values, each with what belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Qkv<T> {
    /// Of the queries.
    pub query: T,
    /// Of the keys.
    pub key: T,
    /// Of the values.
    pub value: T,
}

impl Attention {
    /// The result `[K?, heads, tokens, width]`.
    ///
    /// # Errors
    /// Operands without primals, or not of floats.
    pub fn forward(&self, operands: &Qkv<Parts<'_>>) -> Result<OwnParts> {
        let Some(like) = operands.query.primal else { candle_core::bail!("attention without queries") };
        let moving = directions(&[operands.query, operands.key, operands.value]);
        let count = Count { has_primal: true, directions: moving };
        let shape = [self.heads, self.tokens, self.width];
        with_float!(like.dtype(), T => {
            let held = self.held::<T>(operands, &Parts::default())?;
            let slices = held.slices()?;
            let slices: Vec<Option<&[T]>> = slices.iter().map(Option::as_deref).collect();
            let inputs = Inputs::of(self, &slices)?;
            let fill = |out: &mut [MaybeUninit<T>]| {
                let groups = by_group(out, count.parts(), self.heads / self.served);
                each_group(groups, |group, out| inputs.forward(group, out));
            };
            // SAFETY: every group of heads writes its part of the result in each direction.
            let out = unsafe { filled(count.parts() * shape.iter().product::<usize>(), fill) };
            count.own(&Tensor::from_vec(out, count.parts() * shape.iter().product::<usize>(), like.device())?, 0, shape)
        })
    }

    /// What the result's `cotangent` gives to queries, keys and values.
    ///
    /// # Errors
    /// Operands without primals, or not of floats.
    pub fn adjoint(&self, operands: &Qkv<Parts<'_>>, cotangent: &Parts<'_>) -> Result<Qkv<OwnParts>> {
        let Some(like) = operands.query.primal else { candle_core::bail!("attention without queries") };
        // A constant cotangent of moving operands still moves.
        let moving = cotangent.primal.and(directions(&[operands.query, operands.key, operands.value]));
        let count = Count { has_primal: cotangent.primal.is_some(), directions: directions(&[*cotangent]).or(moving) };
        let groups = self.heads / self.served;
        let shapes =
            [[self.heads, self.tokens, self.depth], [groups, self.keys, self.depth], [groups, self.keys, self.width]];
        // One after the other in one buffer.
        let lens = shapes.map(|shape| count.parts() * shape.iter().product::<usize>());
        let len = lens.iter().sum::<usize>();
        with_float!(like.dtype(), T => {
            let held = self.held::<T>(operands, cotangent)?;
            let slices = held.slices()?;
            let slices: Vec<Option<&[T]>> = slices.iter().map(Option::as_deref).collect();
            let inputs = Inputs::of(self, &slices)?;
            let fill = |out: &mut [MaybeUninit<T>]| {
                let (query, rest) = out.split_at_mut(lens[0]);
                let (key, value) = rest.split_at_mut(lens[1]);
                let [query, key, value] = [query, key, value].map(|out| by_group(out, count.parts(), groups));
                let outs = query.into_iter().zip(key).zip(value);
                let outs = outs.map(|((query, key), value)| Qkv { query, key, value }).collect();
                each_group(outs, |group, out| inputs.adjoint(group, out, count));
            };
            // SAFETY: every group of heads writes its part of all three in each direction.
            let all = Tensor::from_vec(unsafe { filled(len, fill) }, len, like.device())?;
            Ok(Qkv {
                query: count.own(&all, 0, shapes[0])?,
                key: count.own(&all, lens[0], shapes[1])?,
                value: count.own(&all, lens[0] + lens[1], shapes[2])?,
            })
        })
    }

    fn held<T: Element>(&self, operands: &Qkv<Parts<'_>>, cotangent: &Parts<'_>) -> Result<Held<'static, T, 9>> {
        let Qkv { query, key, value } = operands;
        let [primals, tangents] = [
            [query.primal, key.primal, value.primal, cotangent.primal],
            [query.tangents, key.tangents, value.tangents, cotangent.tangents],
        ];
        Held::of(std::array::from_fn(|index| match index {
            8 => self.mask.as_ref(),
            _ if index % 2 == 0 => primals[index / 2],
            _ => tangents[index / 2],
        }))
    }
}

/// How many directions any operand has.
fn directions(operands: &[Parts<'_>]) -> Option<usize> {
    operands.iter().find_map(|operand| operand.tangents).map(|tangents| tangents.dims()[0])
}

/// Which parts a result has: the primal, then the tangents of each direction.
#[derive(Clone, Copy)]
struct Count {
    has_primal: bool,
    directions: Option<usize>,
}

impl Count {
    fn parts(self) -> usize {
        usize::from(self.has_primal) + self.directions.unwrap_or(0)
    }

    /// The parts that lie in `all` from `start` on, each of this shape.
    fn own(self, all: &Tensor, start: usize, shape: [usize; 3]) -> Result<OwnParts> {
        let len = shape.iter().product::<usize>();
        let primal = self.has_primal.then(|| all.narrow(0, start, len)?.reshape(&shape)).transpose()?;
        let after = start + if self.has_primal { len } else { 0 };
        let stacked = |k: usize| all.narrow(0, after, k * len)?.reshape((k, shape[0], shape[1], shape[2]));
        Ok(OwnParts { primal, tangents: self.directions.map(stacked).transpose()? })
    }
}

/// A buffer of several parts, cut into groups of heads: of each group its place in each part.
fn by_group<T>(out: &mut [MaybeUninit<T>], parts: usize, groups: usize) -> Vec<Vec<&mut [MaybeUninit<T>]>> {
    let mut by_group: Vec<Vec<&mut [MaybeUninit<T>]>> = (0..groups).map(|_| Vec::with_capacity(parts)).collect();
    let len = out.len() / (parts * groups).max(1);
    for (index, out) in out.chunks_mut(len.max(1)).enumerate() {
        by_group[index % groups].push(out);
    }
    by_group
}

fn each_group<O: Send>(outs: Vec<O>, run: impl Fn(usize, O) + Sync) {
    if parallel::in_pool() && outs.len() > 1 {
        outs.into_par_iter().enumerate().for_each(|(group, out)| run(group, out));
    } else {
        outs.into_iter().enumerate().for_each(|(group, out)| run(group, out));
    }
}
