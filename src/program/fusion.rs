//! Fusion: a pass over programs that joins what one kernel can do.

use std::collections::{HashMap, HashSet};

use super::operations::{First, Flatten, Function, Fused, HARD_GATE, HardGate, Tokens};
use super::{Node, Op, Operand, Program};

/// The program with batch normalisation + sum + ReLU, batch normalisation + ReLU, convolution with bias + ReLU, convolution +
/// tokens, and the parts of a hard sigmoid or hard swish each as one operation, and without assertions, which are for the program as it was written.
///
/// Only what is used nowhere else is joined. The result agrees to rounding, and has every value that both programs name.
pub fn fuse(program: &Program) -> Program {
    let mut fused = program.clone();
    fused.nodes.retain(|node| !matches!(node.operation, Op::Expect(_)));
    let mut uses: HashMap<String, usize> = HashMap::new();
    for name in fused.reads() {
        *uses.entry(name.to_owned()).or_default() += 1;
    }
    let places: HashMap<String, usize> =
        fused.nodes.iter().enumerate().map(|(place, node)| (node.name.clone(), place)).collect();
    let mut joined: HashSet<usize> = HashSet::new();
    for place in 0..fused.nodes.len() {
        let search = Search { nodes: &fused.nodes, uses: &uses, places: &places, joined: &joined };
        if let Some((node, parts)) = search.ending_at(place) {
            fused.nodes[place] = node;
            joined.extend(parts);
        }
    }
    let mut place = 0..;
    fused.nodes.retain(|_| !joined.contains(&place.next().unwrap_or_default()));
    fused
}

/// What fusion looks at.
struct Search<'a> {
    nodes: &'a [Node],
    uses: &'a HashMap<String, usize>,
    places: &'a HashMap<String, usize>,
    joined: &'a HashSet<usize>,
}

impl Search<'_> {
    /// The fused node that may stand at a place, and the places of the nodes that go into it.
    fn ending_at(&self, place: usize) -> Option<(Node, Vec<usize>)> {
        let node = &self.nodes[place];
        match &node.operation {
            Op::Unary(unary) if unary.function == Function::Relu => {
                let before = self.only_for(node.operands.first()?)?;
                match &self.nodes[before].operation {
                    // A sum that was joined before ends in no ReLU yet.
                    Op::Fused(fused) if !fused.relu => {
                        let fused = Fused { relu: true, ..fused.clone() };
                        Some((self.named_as(node, before, fused.into(), None), vec![before]))
                    }
                    _ => {
                        let fused = Fused { first: self.first(before)?, relu: true };
                        Some((self.named_as(node, before, fused.into(), Some(Operand::None)), vec![before]))
                    }
                }
            }
            Op::Add(_) => {
                let [a, b] = node.operands.as_slice() else { return None };
                [(a, b), (b, a)].into_iter().find_map(|(summed, other)| {
                    let before = self.only_for(summed)?;
                    let first @ First::BatchNorm(_) = self.first(before)? else { return None };
                    other.name()?;
                    let fused = Fused { first, relu: false };
                    Some((self.named_as(node, before, fused.into(), Some(other.clone())), vec![before]))
                })
            }
            Op::Permute(permute) if permute.dims == [0, 2, 1] => {
                let flat = self.only_for(node.operands.first()?)?;
                let Op::Flatten(Flatten { start_dim: 2, end_dim: 3 | -1 }) = self.nodes[flat].operation else {
                    return None;
                };
                let before = self.only_for(self.nodes[flat].operands.first()?)?;
                let Op::Conv2d(conv) = &self.nodes[before].operation else { return None };
                Some((self.named_as(node, before, Tokens(conv.clone()).into(), None), vec![before, flat]))
            }
            Op::Mul(_) => {
                let [x, factor] = node.operands.as_slice() else { return None };
                if *factor == Operand::Number(1.0 / 6.0) {
                    let cut = self.only_for(x)?;
                    let Op::Clamp(clamp) = &self.nodes[cut].operation else { return None };
                    let shifted = self.only_for(self.nodes[cut].operands.first()?)?;
                    let is_gate = *clamp == HARD_GATE
                        && matches!(self.nodes[shifted].operation, Op::Add(_))
                        && self.nodes[shifted].operands.get(1) == Some(&Operand::Number(3.0));
                    let gate = || self.named_as_one(node, shifted, HardGate { product: false });
                    return is_gate.then(|| (gate(), vec![cut, shifted]));
                }
                let gate = self.only_for(factor)?;
                let is_gate = matches!(self.nodes[gate].operation, Op::HardGate(HardGate { product: false }))
                    && self.nodes[gate].operands.first() == Some(x);
                is_gate.then(|| (self.named_as_one(node, gate, HardGate { product: true }), vec![gate]))
            }
            _ => None,
        }
    }

    /// The place of the node that makes an operand, where nothing else uses it.
    fn only_for(&self, operand: &Operand) -> Option<usize> {
        let name = operand.name()?;
        let place = *self.places.get(name)?;
        (self.uses.get(name) == Some(&1) && !self.joined.contains(&place)).then_some(place)
    }

    /// The operation at a place, where it ends in an affine map per channel.
    fn first(&self, place: usize) -> Option<First> {
        let node = &self.nodes[place];
        match &node.operation {
            Op::BatchNorm(operation) => Some(First::BatchNorm(operation.clone())),
            Op::Conv2d(operation) if node.operands.get(2).is_some_and(|bias| bias.name().is_some()) => {
                Some(First::Conv2d(operation.clone()))
            }
            _ => None,
        }
    }

    /// A fused operation on the first operand of the node `before`, under the name of the last node.
    fn named_as_one(&self, last: &Node, before: usize, operation: HardGate) -> Node {
        let first = &self.nodes[before];
        let operands = first.operands[..1].to_vec();
        Node { name: last.name.clone(), operation: operation.into(), operands, place: first.place.clone() }
    }

    /// A fused operation on the operands of the node `before` and perhaps one more, under the name of the last node.
    fn named_as(&self, last: &Node, before: usize, operation: Op, other: Option<Operand>) -> Node {
        let first = &self.nodes[before];
        let mut operands = first.operands.clone();
        operands.extend(other);
        Node { name: last.name.clone(), operation, operands, place: first.place.clone() }
    }
}
