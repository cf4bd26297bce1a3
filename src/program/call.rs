//! Calls of PyTorch's operations, as front ends hand them to the families of operations: arguments by PyTorch's names.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::fact::Kind;
use super::node::Node;
use super::op::Op;
use super::operand::{Operand, Place};
use super::size::Size;

/// An argument of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// `None`.
    None,
    /// A truth value.
    Flag(bool),
    /// A whole number, or an expression in the number of rows.
    Size(Size),
    /// A float.
    Number(f64),
    /// Text.
    Text(String),
    /// Several whole numbers.
    Sizes(Vec<Size>),
    /// Several floats.
    Numbers(Vec<f64>),
    /// A value of the program.
    Value(Operand),
    /// Several values.
    Values(Vec<Operand>),
    /// A type of numbers.
    Kind(Kind),
    /// What changes no number, such as a device.
    Idle,
}

/// Nodes under construction: gives names to results.
#[derive(Debug, Default)]
pub struct Lines {
    /// In the order of execution.
    pub nodes: Vec<Node>,
    taken: HashSet<String>,
    in_training: bool,
    known: HashMap<String, (Kind, Vec<Size>)>,
}

impl Lines {
    /// No nodes, beside values of these names; `in_training` for a program that is meant for training alone.
    pub fn new(taken: impl IntoIterator<Item = String>, in_training: bool) -> Self {
        Self { taken: taken.into_iter().collect(), in_training, ..Self::default() }
    }

    /// Whether the program is meant for training alone.
    pub fn in_training(&self) -> bool {
        self.in_training
    }

    /// Notes what a front end says of a value: its kind and its shape.
    pub fn know(&mut self, operand: &Operand, kind: Kind, shape: Vec<Size>) {
        if let Some(name) = operand.name() {
            self.known.insert(name.to_owned(), (kind, shape));
        }
    }

    /// A name that no value has yet: `conv2d`, `conv2d_1`, … as PyTorch's exporter counts.
    pub fn fresh(&mut self, name: &str) -> String {
        let mut fresh = name.to_owned();
        let mut count = 0;
        while !self.taken.insert(fresh.clone()) {
            count += 1;
            fresh = format!("{name}_{count}");
        }
        fresh
    }

    /// Appends an operation and names its result after it.
    pub fn push(&mut self, place: &Place, operation: impl Into<Op>, operands: Vec<Operand>) -> Operand {
        let operation = operation.into();
        let name = self.fresh(operation.name());
        self.nodes.push(Node { name: name.clone(), operation, operands, place: place.clone() });
        Operand::Name(name)
    }
}

/// What a call makes, or in words why it cannot be read.
pub type Results = Result<Vec<Operand>, String>;

/// One call. Its reader takes every argument that it has; those left over are refused, since they change what
/// PyTorch computes.
pub struct Call<'a> {
    /// PyTorch's name without overload, and without the `_` of operations in place.
    pub name: &'a str,
    /// How many values it makes.
    pub count: usize,
    /// Kind and shape of the first of them, where the front end says it.
    pub made: Option<(Kind, Vec<Size>)>,
    arguments: BTreeMap<String, Argument>,
    lines: &'a mut Lines,
    place: Place,
}

/// Arguments that change no number.
const IDLE: [&str; 10] = [
    "device",
    "layout",
    "pin_memory",
    "memory_format",
    "cudnn_enabled",
    "cudnn_enable",
    "non_blocking",
    "copy",
    "scale_grad_by_freq",
    "sparse",
];

impl<'a> Call<'a> {
    /// A call whose nodes go to `lines`.
    pub fn new(
        name: &'a str,
        arguments: BTreeMap<String, Argument>,
        count: usize,
        lines: &'a mut Lines,
        place: Place,
    ) -> Self {
        Self { name, count, made: None, arguments, lines, place }
    }

    /// Whether the program is meant for training alone.
    pub fn in_training(&self) -> bool {
        self.lines.in_training()
    }

    /// Appends an operation.
    pub fn push(&mut self, operation: impl Into<Op>, operands: impl Into<Vec<Operand>>) -> Operand {
        self.lines.push(&self.place, operation, operands.into())
    }

    /// Appends an operation whose result is that of the call.
    pub fn gives(&mut self, operation: impl Into<Op>, operands: impl Into<Vec<Operand>>) -> Results {
        Ok(vec![self.push(operation, operands)])
    }

    /// The shape of an argument; a number has none.
    ///
    /// # Errors
    /// A value of which the front end does not say it.
    pub fn shape(&self, operand: &Operand) -> Result<Vec<Size>, String> {
        match operand.name().map(|name| self.lines.known.get(name)) {
            None => Ok(Vec::new()),
            Some(Some((_, shape))) => Ok(shape.clone()),
            Some(None) => Err("the shape of its operand is not known".into()),
        }
    }

    /// The number of axes of an argument.
    ///
    /// # Errors
    /// A value of which the front end does not say it.
    pub fn rank(&self, operand: &Operand) -> Result<usize, String> {
        self.shape(operand).map(|shape| shape.len())
    }

    /// Whether an argument is known to hold whole numbers or truth values.
    pub fn is_whole(&self, operand: &Operand) -> bool {
        let known = operand.name().and_then(|name| self.lines.known.get(name));
        known.is_some_and(|(kind, _)| *kind != Kind::Float)
    }

    /// Whether an argument is known to hold truth values.
    pub(crate) fn is_truth(&self, operand: &Operand) -> bool {
        let known = operand.name().and_then(|name| self.lines.known.get(name));
        known.is_some_and(|(kind, _)| *kind == Kind::Truth)
    }

    /// Whether there is an argument of this name, and it is not `None`.
    pub fn has(&self, name: &str) -> bool {
        self.arguments.get(name).is_some_and(|argument| *argument != Argument::None)
    }

    /// Whether an argument is a number that is not whole by its type.
    pub(crate) fn is_float(&self, name: &str) -> bool {
        matches!(self.arguments.get(name), Some(Argument::Number(_)))
    }

    /// Of how many whole numbers an argument consists.
    pub fn length(&self, name: &str) -> usize {
        match self.arguments.get(name) {
            Some(Argument::Sizes(sizes)) => sizes.len(),
            Some(Argument::Size(_)) => 1,
            _ => 0,
        }
    }

    /// Whether an argument is text.
    pub(crate) fn is_text(&self, name: &str) -> bool {
        matches!(self.arguments.get(name), Some(Argument::Text(_)))
    }

    /// That every argument was taken.
    ///
    /// # Errors
    /// The first that was not.
    pub fn finish(self) -> Result<(), String> {
        let left = self.arguments.iter().find(|(name, argument)| {
            !IDLE.contains(&name.as_str()) && !matches!(argument, Argument::None | Argument::Idle)
        });
        match left {
            None => Ok(()),
            Some((name, _)) => Err(format!("its argument `{name}` is not supported")),
        }
    }

    /// Takes an argument; `None` where it is absent or PyTorch's `None`.
    fn take(&mut self, name: &str) -> Option<Argument> {
        self.arguments.remove(name).filter(|argument| *argument != Argument::None)
    }

    /// A value or a number, `Operand::None` where it is absent.
    pub fn optional(&mut self, name: &str) -> Result<Operand, String> {
        match self.take(name) {
            None => Ok(Operand::None),
            Some(Argument::Value(operand)) => Ok(operand),
            Some(Argument::Number(number)) => Ok(Operand::Number(number)),
            Some(Argument::Flag(flag)) => Ok(Operand::Number(f64::from(u8::from(flag)))),
            Some(Argument::Size(size)) if size.is_fixed() => Ok(Operand::Number(size.at(0) as f64)),
            Some(_) => Err(format!("its argument `{name}` is not a value of the program")),
        }
    }

    /// A value or a number.
    pub fn operand(&mut self, name: &str) -> Result<Operand, String> {
        match self.optional(name)? {
            Operand::None => Err(format!("its argument `{name}` is missing")),
            operand => Ok(operand),
        }
    }

    /// Several values.
    pub fn operands(&mut self, name: &str) -> Result<Vec<Operand>, String> {
        match self.take(name) {
            Some(Argument::Values(operands)) => Ok(operands),
            _ => Err(format!("its argument `{name}` is not a list of values")),
        }
    }

    /// Whole numbers that may depend on the number of rows; `None` where they are absent.
    pub fn sizes(&mut self, name: &str) -> Result<Option<Vec<Size>>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Argument::Sizes(sizes)) => Ok(Some(sizes)),
            Some(Argument::Size(size)) => Ok(Some(vec![size])),
            Some(_) => Err(format!("its argument `{name}` is not a list of whole numbers")),
        }
    }

    /// One whole number that may depend on the number of rows.
    pub fn size(&mut self, name: &str) -> Result<Size, String> {
        match self.sizes(name)?.as_deref() {
            Some([size]) => Ok(size.clone()),
            _ => Err(format!("its argument `{name}` is not a whole number")),
        }
    }

    /// Whole numbers that do not depend on the number of rows; `None` where they are absent.
    pub(crate) fn ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, String> {
        let Some(sizes) = self.sizes(name)? else { return Ok(None) };
        let fixed = sizes.iter().map(|size| size.is_fixed().then(|| size.at(0)));
        let fixed = fixed.collect::<Option<_>>();
        fixed.map(Some).ok_or_else(|| format!("its argument `{name}` depends on the number of rows"))
    }

    /// A whole number.
    pub(crate) fn int(&mut self, name: &str, default: Option<i64>) -> Result<i64, String> {
        match (self.ints(name)?.as_deref(), default) {
            (Some([int]), _) => Ok(*int),
            (None, Some(default)) => Ok(default),
            _ => Err(format!("its argument `{name}` is not a whole number")),
        }
    }

    /// A whole number that is not negative.
    pub fn count(&mut self, name: &str, default: Option<usize>) -> Result<usize, String> {
        let int = self.int(name, default.and_then(|default| i64::try_from(default).ok()))?;
        usize::try_from(int).map_err(|_| format!("its argument `{name}` is negative"))
    }

    /// `N` whole numbers that are not negative; one serves all.
    pub fn counts<const N: usize>(&mut self, name: &str, default: Option<usize>) -> Result<[usize; N], String> {
        let wrong = || format!("its argument `{name}` is not a list of {N} whole numbers");
        let counts = |ints: &[i64]| ints.iter().map(|&int| usize::try_from(int).ok()).collect::<Option<Vec<_>>>();
        match (self.ints(name)?.as_deref().map(counts), default) {
            (Some(Some(counts)), _) if counts.len() == 1 => Ok([counts[0]; N]),
            (Some(Some(counts)), _) => counts.try_into().map_err(|_| wrong()),
            (None, Some(default)) => Ok([default; N]),
            _ => Err(wrong()),
        }
    }

    /// A truth value.
    pub fn flag(&mut self, name: &str, default: bool) -> Result<bool, String> {
        match self.take(name) {
            None => Ok(default),
            Some(Argument::Flag(flag)) => Ok(flag),
            Some(_) => Err(format!("its argument `{name}` is not a truth value")),
        }
    }

    /// A number; `None` where it is absent.
    pub fn number(&mut self, name: &str) -> Result<Option<f64>, String> {
        match self.optional(name)? {
            Operand::None => Ok(None),
            Operand::Number(number) => Ok(Some(number)),
            Operand::Name(_) => Err(format!("its argument `{name}` is not a number")),
        }
    }

    /// Several numbers; `None` where they are absent.
    pub fn numbers(&mut self, name: &str) -> Result<Option<Vec<f64>>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Argument::Numbers(numbers)) => Ok(Some(numbers)),
            Some(_) => Err(format!("its argument `{name}` is not a list of numbers")),
        }
    }

    /// Text; `None` where it is absent.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Argument::Text(text)) => Ok(Some(text)),
            Some(_) => Err(format!("its argument `{name}` is not text")),
        }
    }

    /// A type of numbers; `None` where it is absent.
    pub fn kind(&mut self, name: &str) -> Result<Option<Kind>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Argument::Kind(kind)) => Ok(Some(kind)),
            Some(_) => Err(format!("its argument `{name}` is not a type")),
        }
    }

    /// That an argument is absent or as given: another value is not supported.
    pub fn only<T: PartialEq>(&self, name: &str, got: T, supported: T) -> Result<(), String> {
        if got == supported { Ok(()) } else { Err(format!("this value of its argument `{name}` is not supported")) }
    }
}
