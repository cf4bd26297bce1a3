//! The operations that a tape records, and their adjoints.

use candle_core::Result;

use super::{Composite, Cotangent, Tape, Value};
use crate::kernels::{Bilinear, Linear, Pointwise};

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
    /// An operation with a kernel of its own, and its operands' nodes.
    Composite {
        operation: Box<dyn Composite<V>>,
        operands: Vec<Option<usize>>,
    },
    Add {
        a: Option<usize>,
        b: Option<usize>,
    },
}

impl<V: Value> Node<V> {
    /// Adds the cotangents of the operands.
    pub fn play(self, cotangent: V, tape: &Tape<V>, cotangents: &mut [Option<V>]) -> Result<()> {
        match self {
            Self::Leaf => Ok(()),
            Self::Linear { x, map } => accumulate(cotangents, Some(x), || cotangent.linear(&map.transpose())),
            Self::Bilinear { map, a, b, a_node, b_node } => {
                let whole = |map: &Bilinear, a: &V, b: &V| V::bilinear_with(map, a, b, tape.kept.as_ref());
                accumulate(cotangents, a_node, || map.adjoint_a().apply(whole, &cotangent, &b))?;
                accumulate(cotangents, b_node, || match b_node.is_some_and(|node| tape.is_leaf(node)) {
                    true => map.adjoint_b().apply(V::bilinear_for_leaf, &cotangent, &a),
                    false => map.adjoint_b().apply(whole, &cotangent, &a),
                })
            }
            Self::Pointwise { x, f, value } => {
                accumulate(cotangents, Some(x), || value.pointwise_adjoint(f, &cotangent))
            }
            Self::Composite { operation, operands } => {
                // Two operands may be one node: then the second adds to what the first has.
                let first = |place: usize| operands[..place].iter().all(|other| *other != operands[place]);
                let mut slots: Vec<Cotangent<V>> = (0..operands.len())
                    .map(|place| Cotangent {
                        wanted: operands[place].is_some(),
                        sum: operands[place].filter(|_| first(place)).and_then(|node| cotangents[node].take()),
                    })
                    .collect();
                operation.adjoint(cotangent, &mut slots)?;
                for (slot, node) in slots.into_iter().zip(operands) {
                    if let Some(sum) = slot.sum {
                        accumulate(cotangents, node, || Ok(sum))?;
                    }
                }
                Ok(())
            }
            Self::Add { a, b } => {
                accumulate(cotangents, a, || Ok(cotangent.clone()))?;
                accumulate(cotangents, b, || Ok(cotangent.clone()))
            }
        }
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
