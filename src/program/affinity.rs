//! Whether the outputs are piecewise affine in each single parameter, from sets of parameters.

use std::collections::{BTreeSet, HashMap};

use super::{Affinity, Program};

/// On which parameters a value depends, and in which of them it is not piecewise affine; by their places in the space.
#[derive(Debug, Clone, Default)]
struct Dependence {
    touched: BTreeSet<usize>,
    bent: BTreeSet<usize>,
}

impl Program {
    /// The parameter tensors in which some output is not piecewise affine, the other parameters held fixed: those that
    /// pass a smooth function, or reach both factors of a product. Read off the operations, so that a tensor may be
    /// named whose dependence happens to cancel.
    ///
    /// Where there is none, the Hessian and the Gauss-Newton matrix of any loss on the outputs have equal diagonals almost
    /// everywhere: `∂²y/∂p² = 0` for each single parameter `p`.
    pub fn bent_parameters(&self, in_training: bool) -> Vec<&str> {
        let tensors = self.parameters.tensors();
        let mut values: HashMap<&str, Dependence> = HashMap::new();
        for (place, tensor) in tensors.iter().enumerate() {
            values.insert(&tensor.name, Dependence { touched: BTreeSet::from([place]), bent: BTreeSet::new() });
        }
        let nothing = Dependence::default();
        for node in &self.nodes {
            let operands: Vec<&Dependence> = (node.operands.iter())
                .map(|operand| operand.name().and_then(|name| values.get(name)).unwrap_or(&nothing))
                .collect();
            let result = combined(&operands, node.operation.affinity(in_training));
            values.insert(&node.name, result);
        }
        let bent = values.remove(self.output.as_str()).unwrap_or_default().bent;
        bent.into_iter().filter_map(|place| tensors.get(place)).map(|tensor| tensor.name.as_str()).collect()
    }
}

fn combined(operands: &[&Dependence], affinity: Affinity) -> Dependence {
    let at = |place: usize| operands.get(place).map_or(Vec::new(), |operand| operand.touched.iter().copied().collect());
    let mut result = Dependence::default();
    for operand in operands {
        result.touched.extend(&operand.touched);
        result.bent.extend(&operand.bent);
    }
    for &(a, b) in affinity.products {
        let other: BTreeSet<usize> = at(b).into_iter().collect();
        result.bent.extend(at(a).into_iter().filter(|parameter| other.contains(parameter)));
    }
    affinity.smooth.iter().for_each(|&place| result.bent.extend(at(place)));
    result
}
