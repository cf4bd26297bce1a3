//! One operation of a program, with its operands.

use serde::{Deserialize, Serialize};

use super::op::Op;
use super::operand::{Operand, Place};

/// One operation on named values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name of the result.
    pub name: String,
    /// What is computed.
    pub operation: Op,
    /// What it is computed from, in the order of [`super::Operation::operands`].
    pub operands: Vec<Operand>,
    /// Where it comes from, for messages and listings.
    pub place: Place,
}

impl Node {
    /// The call in PyTorch's syntax, as listings print it.
    pub fn call(&self) -> String {
        let operand = |operand: &Operand| match operand {
            Operand::Name(name) => name.clone(),
            Operand::Number(number) => number.to_string(),
            Operand::None => "None".into(),
        };
        let mut arguments: Vec<String> = self.operands.iter().map(operand).collect();
        // Trailing `None`s are PyTorch's defaults.
        while arguments.last().is_some_and(|last| last == "None") {
            arguments.pop();
        }
        let setting = |(name, value): (String, serde_json::Value)| format!("{name}={}", plain(&value));
        arguments.extend(self.operation.settings().into_iter().map(setting));
        format!("{}({})", self.operation.name(), arguments.join(", "))
    }
}

/// A setting as listings print it: sizes and words without quotes.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "None".into(),
        serde_json::Value::Bool(flag) => if *flag { "True" } else { "False" }.into(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(values) => format!("[{}]", values.iter().map(plain).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
