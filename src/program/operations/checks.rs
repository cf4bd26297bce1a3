//! Assertions: operations that pass their input on, or report what was expected.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::Value;
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Fact, Start};

/// What a description says of the shape that arrives at one of its layers: a size for each axis, or the shape of another
/// value. Its result is its input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// One for each axis; none where the shapes are to be equal.
    pub sizes: Vec<Expected>,
    /// What is wrong otherwise; `{}` stands for the shape, `{like}` for that of the other value, `{1}` for the size of
    /// axis 1.
    pub otherwise: String,
}

/// What is expected of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Any size.
    Any,
    /// This size.
    Size(usize),
    /// A multiple of this size.
    MultipleOf(usize),
    /// More than this size.
    Above(usize),
    /// Any sizes of this axis and all that follow; last in the list.
    Rest,
}

impl Expected {
    fn holds(self, size: usize) -> bool {
        match self {
            Self::Any | Self::Rest => true,
            Self::Size(expected) => size == expected,
            Self::MultipleOf(factor) => factor != 0 && size.is_multiple_of(factor),
            Self::Above(bound) => size > bound,
        }
    }
}

impl Operation for Expect {
    columns! {
        name: "_assert_tensor_metadata",
        operands: &["a", "like"],
        cost: Cost::of_view,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        let like = operands.get(1).copied().flatten();
        let fits = match like {
            Some(like) => like.shape == x.shape,
            None => {
                let mut sizes = self.sizes.iter().zip(&x.shape);
                let ranks = match self.sizes.split_last() {
                    Some((Expected::Rest, fixed)) => x.shape.len() >= fixed.len(),
                    _ => x.shape.len() == self.sizes.len(),
                };
                ranks && sizes.all(|(expected, &size)| expected.holds(size))
            }
        };
        if fits {
            return Ok(Fact { rows: None, ..x.clone() });
        }
        let mut reason = self.otherwise.replace("{}", &format!("{:?}", x.shape));
        if let Some(like) = like {
            reason = reason.replace("{like}", &format!("{:?}", like.shape));
        }
        for (axis, size) in x.shape.iter().enumerate() {
            reason = reason.replace(&format!("{{{axis}}}"), &size.to_string());
        }
        Err(reason)
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        rows::elementwise(&operands[..1], result.shape.len())
    }

    fn forward<V: Value>(&self, _run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        Ok(operands.first().cloned().unwrap_or(Slot::None))
    }
}
