//! The operations that a tape records, and their adjoints.

use candle_core::Result;

use super::{ChannelAffine, Moments, Value};
use crate::kernels::{Bilinear, Linear, Pointwise, Side};

/// One operation: its operands' nodes, and what its adjoint needs of their values.
pub(super) enum Node<V> {
    Leaf,
    Linear {
        x: usize,
        map: Linear,
    },
    Bilinear {
        map: Bilinear,
        a: V,
        b: V,
        a_node: Option<usize>,
        b_node: Option<usize>,
    },
    Pointwise {
        x: usize,
        f: Pointwise,
        value: V,
    },
    /// `x ⊙ scale + shift`
    Affine {
        full: Vec<usize>,
        small: Vec<usize>,
        x: Affected<V>,
        scale: Option<Affected<V>>,
        shift: Option<usize>,
    },
    /// The same per channel, with what follows it in the same pass.
    ChannelAffine {
        affine: ChannelAffine<V>,
        x: Option<usize>,
        scale: Option<usize>,
        shift: Option<usize>,
        addend: Option<usize>,
    },
    Moments {
        moments: Moments,
        x: usize,
        value: V,
    },
    Add {
        a: Option<usize>,
        b: Option<usize>,
    },
}

/// An operand of an affine map.
pub(super) struct Affected<V> {
    pub node: Option<usize>,
    pub value: Option<V>,
}

impl<V: Value> Node<V> {
    /// Adds the cotangents of the operands.
    pub fn play(self, cotangent: V, nodes: &[Node<V>], cotangents: &mut [Option<V>]) -> Result<()> {
        match self {
            Self::Leaf => Ok(()),
            Self::Linear { x, map } => accumulate(cotangents, Some(x), || cotangent.linear(&map.transpose())),
            Self::Bilinear { map, a, b, a_node, b_node } => {
                accumulate(cotangents, a_node, || adjoint(V::bilinear, map.adjoint_a(), &cotangent, &b))?;
                let to_leaf = b_node.is_some_and(|node| matches!(nodes[node], Node::Leaf));
                let compute = if to_leaf { V::bilinear_for_leaf } else { V::bilinear };
                accumulate(cotangents, b_node, || adjoint(compute, map.adjoint_b(), &cotangent, &a))
            }
            Self::Pointwise { x, f, value } => accumulate(cotangents, Some(x), || {
                let slope = value.pointwise(f, 1)?;
                let shape = value.primal().map(|primal| primal.dims().to_vec()).unwrap_or_default();
                V::bilinear(&Bilinear::Product { full: shape.clone(), small: shape }, &cotangent, &slope)
            }),
            Self::Affine { full, small, x, scale, shift } => {
                if let Some(scale) = &scale {
                    let product = Bilinear::Product { full: full.clone(), small: small.clone() };
                    if let Some(value) = &scale.value {
                        accumulate(cotangents, x.node, || {
                            adjoint(V::bilinear, product.adjoint_a(), &cotangent, value)
                        })?;
                    }
                    if let Some(value) = &x.value {
                        accumulate(cotangents, scale.node, || {
                            adjoint(V::bilinear, product.adjoint_b(), &cotangent, value)
                        })?;
                    }
                } else {
                    accumulate(cotangents, x.node, || Ok(cotangent.clone()))?;
                }
                accumulate(cotangents, shift, || cotangent.linear(&Linear::SumTo { from: full, to: small }))
            }
            Self::ChannelAffine { affine, x, scale, shift, addend } => {
                let parts = cotangent.channel_affine_adjoint(&affine)?;
                accumulate(cotangents, x, || Ok(parts.x))?;
                accumulate(cotangents, scale, || Ok(parts.scale))?;
                accumulate(cotangents, shift, || Ok(parts.shift))?;
                accumulate(cotangents, addend, || Ok(parts.addend.unwrap_or(cotangent)))
            }
            Self::Moments { moments, x, value } => {
                let sum = value.moments_adjoint(&moments, &cotangent, cotangents[x].take().as_ref())?;
                cotangents[x] = Some(sum);
                Ok(())
            }
            Self::Add { a, b } => {
                accumulate(cotangents, a, || Ok(cotangent.clone()))?;
                accumulate(cotangents, b, || Ok(cotangent.clone()))
            }
        }
    }
}

/// One of the two ways to apply a bilinear map to values.
type Apply<V> = fn(&Bilinear, &V, &V) -> Result<V>;

fn adjoint<V: Value>(apply: Apply<V>, (map, side): (Bilinear, Side), cotangent: &V, other: &V) -> Result<V> {
    match side {
        Side::Left => apply(&map, cotangent, other),
        Side::Right => apply(&map, other, cotangent),
    }
}

fn accumulate<V: Value>(
    cotangents: &mut [Option<V>],
    node: Option<usize>,
    part: impl FnOnce() -> Result<V>,
) -> Result<()> {
    let Some(node) = node else { return Ok(()) };
    let part = part()?;
    cotangents[node] = Some(match cotangents[node].take() {
        None => part,
        Some(sum) => sum.add(&part)?,
    });
    Ok(())
}
