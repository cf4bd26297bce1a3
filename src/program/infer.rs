//! Shapes, costs and rows of every value of a program, without computing it.

use std::collections::HashMap;

use super::cost::Cost;
use super::fact::{Fact, Kind, RowAxis};
use super::operand::{Operand, Place};
use super::{Program, ProgramError};

/// What is known of a program for a batch of a certain size.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// Shape of the output.
    pub output: Vec<usize>,
    /// What a forward pass costs.
    pub cost: Cost,
    /// Elements of the largest value or table, views included, and where it is made.
    pub largest: (usize, Place),
    /// The first operation that mixes rows, and how; `None` where the rows do not touch one another.
    pub mixing: Option<(Place, String)>,
}

impl Program {
    /// Follows a batch of inputs of these shapes through the program, in training mode or not.
    ///
    /// # Errors
    /// [`ProgramError::Shape`] at the first operation whose operands do not fit; names that do not exist.
    pub(crate) fn infer(&self, inputs: &[Vec<usize>], in_training: bool) -> Result<Inferred, ProgramError> {
        let rows = inputs.first().and_then(|shape| shape.first()).copied().unwrap_or(1);
        let mut facts = self.given(inputs)?;
        let (mut cost, mut mixing, mut largest) = (Cost::default(), None, (0, Place::default()));
        for node in &self.nodes {
            let misfit = |reason: String| ProgramError::misfit(&node.place, reason);
            let (scalar, whole) = (Fact::float(&[]), Fact { kind: Kind::Whole, ..Fact::default() });
            let mut operands: Vec<Option<&Fact>> = node
                .operands
                .iter()
                .map(|operand| match operand {
                    Operand::Name(name) => facts
                        .get(name.as_str())
                        .map(Some)
                        .ok_or_else(|| ProgramError::UnknownValue { node: node.name.clone(), name: name.clone() }),
                    Operand::Number(number) => Ok(Some(if number.fract() == 0.0 { &whole } else { &scalar })),
                    Operand::None => Ok(None),
                })
                .collect::<Result<_, _>>()?;
            // Operands that are left out at the end are as good as `None`.
            operands.resize(operands.len().max(node.operation.operands().len()), None);
            let mut result = node.operation.result(&operands, rows).map_err(misfit)?;
            if super::fact::element_count(&result.shape).is_none() {
                return Err(misfit(format!("an output of shape {:?} is too large", result.shape)));
            }
            match node.operation.rows(&operands, &result, in_training) {
                Ok(tracked) => result.rows = tracked,
                Err(how) => {
                    mixing.get_or_insert((node.place.clone(), how));
                }
            }
            let own = node.operation.cost(&operands, &result);
            let size = result.len().max(own.scratch);
            if size > largest.0 {
                largest = (size, node.place.clone());
            }
            cost = cost.and(own);
            if facts.insert(&node.name, result).is_some() {
                return Err(ProgramError::DuplicateName { name: node.name.clone() });
            }
        }
        for name in [Some(&self.output), self.loss.as_ref()].into_iter().flatten() {
            let Some(fact) = facts.get(name.as_str()) else {
                return Err(ProgramError::UnknownValue { node: "the output".into(), name: name.clone() });
            };
            if fact.rows.is_some_and(|rows| rows != RowAxis::FIRST) {
                let how = format!("the rows of `{name}` are not its first axis");
                mixing.get_or_insert((Place::default(), how));
            }
        }
        if let Some(fact) = self.loss.as_ref().and_then(|name| facts.get(name.as_str()))
            && fact.shape != [rows]
        {
            let place = Place { module: "loss".into(), kind: "output".into() };
            let reason = format!("has shape {:?}, but one number per row is needed, [{rows}]", fact.shape);
            return Err(ProgramError::misfit(&place, reason));
        }
        let output = facts.remove(self.output.as_str()).unwrap_or_default().shape;
        Ok(Inferred { output, cost, largest, mixing })
    }

    /// Inputs, parameters, buffers and constants by name.
    fn given(&self, inputs: &[Vec<usize>]) -> Result<HashMap<&str, Fact>, ProgramError> {
        let rows = Some(RowAxis::FIRST);
        let inputs = self.inputs.iter().zip(inputs);
        let inputs = inputs.map(|(input, shape)| (&input.name, Fact { kind: input.kind, shape: shape.clone(), rows }));
        let parameters = self.parameters.tensors().iter().map(|tensor| (&tensor.name, Fact::float(&tensor.shape)));
        let buffers = self.buffers.iter().map(|(name, shape)| (name, Fact::float(shape)));
        let constants = self.constants.iter().map(|(name, tensor)| {
            let kind = match tensor.dtype() {
                candle_core::DType::I64 => Kind::Whole,
                candle_core::DType::U8 => Kind::Truth,
                _ => Kind::Float,
            };
            (name, Fact { kind, ..Fact::float(tensor.dims()) })
        });
        let mut facts = HashMap::new();
        for (name, fact) in inputs.chain(parameters).chain(buffers).chain(constants) {
            if facts.insert(name.as_str(), fact).is_some() {
                return Err(ProgramError::DuplicateName { name: name.clone() });
            }
        }
        Ok(facts)
    }
}
