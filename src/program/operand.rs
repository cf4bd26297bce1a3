//! What operations are applied to, and where they come from.

use serde::{Deserialize, Serialize};

use super::json::number;

/// An operand of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "OperandForm", into = "OperandForm")]
pub enum Operand {
    /// A value by name: an input, a parameter, a buffer, a constant or an earlier node's result.
    Name(String),
    /// A number.
    Number(f64),
    /// Left out, such as the bias of a convolution without one.
    None,
}

impl Operand {
    /// The name, where it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Number(_) | Self::None => None,
        }
    }
}

/// [`Operand`]: a name, `{"number": …}`, or `{}` where it is left out, since TOML has no null.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum OperandForm {
    Name(String),
    Number {
        #[serde(with = "number")]
        number: f64,
    },
    None {},
}

impl From<OperandForm> for Operand {
    fn from(form: OperandForm) -> Self {
        match form {
            OperandForm::Name(name) => Self::Name(name),
            OperandForm::Number { number } => Self::Number(number),
            OperandForm::None {} => Self::None,
        }
    }
}

impl From<Operand> for OperandForm {
    fn from(operand: Operand) -> Self {
        match operand {
            Operand::Name(name) => Self::Name(name),
            Operand::Number(number) => Self::Number { number },
            Operand::None => Self::None {},
        }
    }
}

/// Where a node comes from in the description that people wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The module or the layer's place, such as `layers[3].main[0]`.
    pub module: String,
    /// The kind of module or layer, such as `conv2d`.
    pub kind: String,
}
