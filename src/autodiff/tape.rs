//! The tape: records operations forwards, plays their adjoints backwards.

use candle_core::{Result, Tensor};

use super::node::Node;
use super::{Composite, Kept, Pattern, Value};
use crate::kernels::{Bilinear, Linear, Pointwise, PoolGeometry, max_pool_indices};

/// What a tape keeps of the operands that its adjoints need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Nothing: forward evaluation only.
    Nothing,
    /// Primals: the transposed Jacobian at fixed operands, as a Gauss-Newton product needs it.
    Primals,
    /// Everything: the adjoint of the whole computation, tangents included.
    Everything,
}

/// A value on a tape. Values that depend on no leaf have no node and cost nothing backwards.
#[derive(Debug, Clone)]
pub struct Var<V> {
    value: V,
    node: Option<usize>,
}

impl<V: Value> Var<V> {
    /// The value.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// Whether it depends on a leaf.
    pub(crate) fn is_recorded(&self) -> bool {
        self.node.is_some()
    }

    /// Shape of the primal.
    ///
    /// # Errors
    /// For a value without primal, which no forward computation makes.
    pub fn dims(&self) -> Result<&[usize]> {
        match self.value.primal() {
            Some(primal) => Ok(primal.dims()),
            None => candle_core::bail!("a forward value without primal"),
        }
    }
}

/// Records the operations on its variables.
pub struct Tape<V> {
    nodes: Vec<Node<V>>,
    saved: Saved,
    /// Pieces of ReLU and max pooling.
    pub pattern: Pattern,
    /// Primal results of the last pass at the same parameters and rows, and room for those of this one.
    pub(crate) kept: Option<Kept>,
}

/// Cotangents of the leaves, by order of creation; `None` where nothing flowed.
pub type Gradients<V> = Vec<Option<V>>;

impl<V: Value> Tape<V> {
    /// An empty tape.
    pub fn new(saved: Saved) -> Self {
        Self { nodes: Vec::new(), saved, pattern: Pattern::Free, kept: None }
    }

    /// A variable to differentiate by.
    pub fn leaf(&mut self, value: V) -> Var<V> {
        self.push(value, Node::Leaf)
    }

    /// A leaf to hold fixed, tangents and all: it keeps its place among the leaves, but no cotangent flows to it, and
    /// what depends on fixed values alone is not recorded.
    pub(crate) fn fixed_leaf(&mut self, value: V) -> Var<V> {
        let Var { value, .. } = self.leaf(value.without_tangents());
        Var { value, node: None }
    }

    /// Operations recorded, without the leaves: a backward pass plays at most as many adjoints.
    pub fn num_operations(&self) -> usize {
        self.nodes.iter().filter(|node| !matches!(node, Node::Leaf)).count()
    }

    /// A value to hold fixed.
    pub fn constant(&self, value: Tensor) -> Var<V> {
        Var { value: V::constant(value), node: None }
    }

    /// `L x`.
    pub fn linear(&mut self, map: Linear, x: &Var<V>) -> Result<Var<V>> {
        let value = x.value.linear(&map)?;
        Ok(match x.node {
            Some(x) => self.push(value, Node::Linear { x, map }),
            None => Var { value, node: None },
        })
    }

    /// `B(a, b)`.
    pub fn bilinear(&mut self, map: Bilinear, a: &Var<V>, b: &Var<V>) -> Result<Var<V>> {
        let value = V::bilinear_with(&map, &a.value, &b.value, self.kept.as_ref())?;
        if a.node.is_none() && b.node.is_none() {
            return Ok(Var { value, node: None });
        }
        let (a_node, b_node) = (a.node, b.node);
        let (a, b) = (self.keep(&a.value), self.keep(&b.value));
        Ok(self.push(value, Node::Bilinear { map, a, b, a_node, b_node }))
    }

    /// `f(x)`, elementwise.
    pub fn pointwise(&mut self, f: Pointwise, x: &Var<V>) -> Result<Var<V>> {
        let value = x.value.pointwise(f)?;
        Ok(match x.node {
            Some(node) => {
                let kept = self.keep(&x.value);
                self.push(value, Node::Pointwise { x: node, f, value: kept })
            }
            None => Var { value, node: None },
        })
    }

    /// Whether a function with kinks may be one kernel on `x`: no pattern is recorded or replayed, and there is such a kernel.
    pub(crate) fn may_choose_within(&self, x: &Var<V>) -> bool {
        matches!(self.pattern, Pattern::Free) && x.value.primal().is_some_and(|primal| primal.device().is_cpu())
    }

    /// Records an operation with a kernel of its own: its result, its operands (`None` where one is absent), and how it
    /// gives cotangents back, for which it keeps what [`Tape::keep`] gives.
    pub(crate) fn composite<'a>(
        &mut self,
        value: V,
        operands: impl IntoIterator<Item = Option<&'a Var<V>>>,
        operation: Box<dyn Composite<V>>,
    ) -> Var<V>
    where
        V: 'a,
    {
        let operands: Vec<Option<usize>> = operands.into_iter().map(|var| var.and_then(|var| var.node)).collect();
        if operands.iter().all(Option::is_none) {
            return Var { value, node: None };
        }
        self.push(value, Node::Composite { operation, operands })
    }

    /// `a + b`, equal shapes.
    pub fn add(&mut self, a: &Var<V>, b: &Var<V>) -> Result<Var<V>> {
        let value = a.value.add(&b.value)?;
        if a.node.is_none() && b.node.is_none() {
            return Ok(Var { value, node: None });
        }
        Ok(self.push(value, Node::Add { a: a.node, b: b.node }))
    }

    /// `max(x, 0)`; its derivative at 0 is 0, as in PyTorch.
    pub fn relu(&mut self, x: &Var<V>) -> Result<Var<V>> {
        let Some(primal) = x.value.primal() else { candle_core::bail!("relu of a value without primal") };
        let gate = self.pattern.choose(primal.clone())?;
        self.linear(Linear::Gate { gate }, x)
    }

    /// The maximum of each window; the first one where several are equal.
    pub(crate) fn max_pool(&mut self, geometry: &PoolGeometry, x: &Var<V>) -> Result<Var<V>> {
        let Some(primal) = x.value.primal() else { candle_core::bail!("max pooling of a value without primal") };
        let from = primal.dims().to_vec();
        let indices = self.pattern.choose(max_pool_indices(geometry, primal)?)?;
        self.linear(Linear::Gather { indices, from }, x)
    }

    /// Plays the adjoints backwards from `output` with the given cotangent, and gives the leaves' cotangents.
    ///
    /// # Errors
    /// Where the tape was made with [`Saved::Nothing`].
    pub fn backward(mut self, output: &Var<V>, cotangent: V) -> Result<Gradients<V>> {
        if self.saved == Saved::Nothing {
            candle_core::bail!("backward on a tape that saved nothing");
        }
        let mut cotangents: Vec<Option<V>> = vec![None; self.nodes.len()];
        let Some(last) = output.node else { return Ok(Vec::new()) };
        cotangents[last] = Some(cotangent);
        let mut leaves = Vec::new();
        // Nodes are dropped on the way, and with them the operands they saved.
        while let Some(node) = self.nodes.pop() {
            let cotangent = cotangents[self.nodes.len()].take();
            match (node, cotangent) {
                (Node::Leaf, cotangent) => leaves.push(cotangent),
                (_, None) => {}
                (node, Some(cotangent)) => node.play(cotangent, &self, &mut cotangents)?,
            }
        }
        leaves.reverse();
        Ok(leaves)
    }

    /// A value as an adjoint needs it: with its tangents or without, see [`Saved`].
    pub fn keep(&self, value: &V) -> V {
        match self.saved {
            Saved::Everything => value.clone(),
            // A forward tape keeps handles only until it is dropped after the pass.
            Saved::Primals | Saved::Nothing => value.without_tangents(),
        }
    }

    /// Whether a recorded node is a leaf.
    pub(super) fn is_leaf(&self, node: usize) -> bool {
        matches!(self.nodes[node], Node::Leaf)
    }

    fn push(&mut self, value: V, node: Node<V>) -> Var<V> {
        if self.saved == Saved::Nothing {
            return Var { value, node: None };
        }
        self.nodes.push(node);
        Var { value, node: Some(self.nodes.len() - 1) }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::autodiff::Dual;

    fn tensor(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    fn product() -> Bilinear {
        Bilinear::Product { full: vec![2], small: vec![2] }
    }

    /// `x² y` with `x` used three times, and a leaf that nothing depends on.
    fn cubic<V: Value>(tape: &mut Tape<V>, x: V, y: V, idle: V) -> (Var<V>, [Var<V>; 3]) {
        let leaves = [tape.leaf(x), tape.leaf(idle), tape.leaf(y)];
        let square = tape.bilinear(product(), &leaves[0], &leaves[0]).unwrap();
        let twice = tape.add(&square, &square).unwrap();
        let half = tape.linear(Linear::Scale { factor: 0.5 }, &twice).unwrap();
        (tape.bilinear(product(), &half, &leaves[2]).unwrap(), leaves)
    }

    #[test]
    fn cotangents_add_up_over_all_uses() {
        let mut tape = Tape::<Tensor>::new(Saved::Everything);
        let (output, _) = cubic(&mut tape, tensor(&[3.0, -1.0]), tensor(&[2.0, 5.0]), tensor(&[1.0, 1.0]));
        assert_eq!(output.value().to_vec1::<f64>().unwrap(), [18.0, 5.0]);
        let gradients = tape.backward(&output, tensor(&[1.0, 10.0])).unwrap();
        assert_eq!(gradients.len(), 3);
        assert_eq!(gradients[0].as_ref().unwrap().to_vec1::<f64>().unwrap(), [12.0, -100.0]); // 2xy
        assert!(gradients[1].is_none());
        assert_eq!(gradients[2].as_ref().unwrap().to_vec1::<f64>().unwrap(), [9.0, 10.0]); // x²
    }

    #[test]
    fn tangents_of_the_gradient_are_the_second_derivative() {
        // Two directions: along x alone, and along y alone.
        let along = |first: [f64; 2], second: [f64; 2]| Some(Tensor::new(&[first, second], &Device::Cpu).unwrap());
        let x = Dual::new(Some(tensor(&[3.0, -1.0])), along([1.0, 1.0], [0.0, 0.0]));
        let y = Dual::new(Some(tensor(&[2.0, 5.0])), along([0.0, 0.0], [1.0, 1.0]));
        let idle = Dual::new(Some(tensor(&[1.0, 1.0])), None);
        let mut tape = Tape::<Dual>::new(Saved::Everything);
        let (output, _) = cubic(&mut tape, x, y, idle);
        let gradients = tape.backward(&output, Dual::constant(tensor(&[1.0, 1.0]))).unwrap();
        let tangents = |leaf: usize| gradients[leaf].as_ref().unwrap().tangents().unwrap().to_vec2::<f64>().unwrap();
        assert_eq!(tangents(0), [[4.0, 10.0], [6.0, -2.0]]); // 2y, 2x
        assert_eq!(tangents(2), [[6.0, -2.0], [0.0, 0.0]]); // 2x, 0
    }

    #[test]
    fn a_tape_that_saved_nothing_cannot_go_back() {
        let mut tape = Tape::<Tensor>::new(Saved::Nothing);
        let (output, _) = cubic(&mut tape, tensor(&[3.0, -1.0]), tensor(&[2.0, 5.0]), tensor(&[1.0, 1.0]));
        assert!(tape.backward(&output, tensor(&[1.0, 1.0])).is_err());
    }

    #[test]
    fn a_fixed_leaf_keeps_its_place_and_nothing_below_it_is_recorded() {
        let mut tape = Tape::<Tensor>::new(Saved::Everything);
        let leaves = [tape.fixed_leaf(tensor(&[3.0, -1.0])), tape.leaf(tensor(&[2.0, 5.0]))];
        let square = tape.bilinear(product(), &leaves[0], &leaves[0]).unwrap();
        assert_eq!(tape.num_operations(), 0);
        let output = tape.bilinear(product(), &square, &leaves[1]).unwrap();
        assert_eq!(tape.num_operations(), 1);
        let gradients = tape.backward(&output, tensor(&[1.0, 10.0])).unwrap();
        assert!(gradients[0].is_none());
        assert_eq!(gradients[1].as_ref().unwrap().to_vec1::<f64>().unwrap(), [9.0, 10.0]); // x²
    }

    #[test]
    fn what_depends_on_no_leaf_has_no_gradient() {
        let mut tape = Tape::<Tensor>::new(Saved::Everything);
        tape.leaf(tensor(&[1.0]));
        let x = tape.constant(tensor(&[-1.0, 2.0]));
        let y = tape.relu(&x).unwrap();
        let z = tape.pointwise(Pointwise::Exp, &y).unwrap();
        assert!(tape.nodes.len() == 1 && z.node.is_none());
        let gradients = tape.backward(&z, tensor(&[1.0, 1.0])).unwrap();
        assert!(gradients.into_iter().flatten().next().is_none());
    }
}
