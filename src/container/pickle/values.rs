//! What a pickle holds.

/// The place of a value in its pickle.
pub(crate) type Id = u32;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    /// Also text that is not UTF-8, and whole numbers of more than 64 bits, as they are stored.
    Bytes(&'a [u8]),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or a function by name.
    Class {
        module: &'a str,
        name: &'a str,
    },
    Object(Box<Object>),
    /// What lies outside of the pickle, as its writer calls it.
    Persistent(Id),
}

/// What a call of a class or a function would make.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    /// What is called.
    pub(crate) callable: Id,
    /// A tuple.
    pub(crate) arguments: Id,
    /// What it is given afterwards, its attributes as a rule.
    pub(crate) state: Option<Id>,
    /// What is appended to it.
    pub(crate) items: Vec<Id>,
    /// What is entered into it under keys.
    pub(crate) entries: Vec<(Id, Id)>,
}

/// The values of one pickle.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    pub(super) values: Vec<Value<'a>>,
    pub(super) root: Id,
    /// Where the pickle ends in the bytes that it was read from.
    pub(crate) end: usize,
}

impl<'a> Pickle<'a> {
    /// The value that the pickle is of.
    pub(crate) fn root(&self) -> Id {
        self.root
    }

    /// All values, in the order in which they are made.
    pub(crate) fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// The value at a place.
    pub(crate) fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    /// A whole number.
    pub(crate) fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A text.
    pub(crate) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a tuple or a list.
    pub(crate) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Keys and values of a dictionary, or of an object that is filled like one, such as an `OrderedDict`.
    pub(crate) fn entries(&self, id: Id) -> &[(Id, Id)] {
        match self.get(id) {
            Value::Dict(entries) => entries,
            Value::Object(object) => &object.entries,
            _ => &[],
        }
    }

    /// Module and name of a class or a function.
    pub(crate) fn class(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match self.get(id) {
            Value::Class { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// Module and name of what an object is a call of, and the arguments.
    pub(crate) fn call(&self, id: Id) -> Option<((&'a str, &'a str), &[Id])> {
        match self.get(id) {
            Value::Object(object) => Some((self.class(object.callable)?, self.items(object.arguments)?)),
            _ => None,
        }
    }
}
