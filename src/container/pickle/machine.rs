//! The stack machine.

use std::collections::HashMap;

use super::opcodes as op;
use super::values::{Id, Object, Pickle, Value};

/// Values of one pickle: room for the optimiser states of any network that fits into memory.
const MAX_VALUES: usize = 1 << 21;
/// The newest protocol.
const MAX_PROTOCOL: u8 = 5;

type Outcome<T> = Result<T, String>;

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

/// Values that are written once, however often a pickle names them, so that a byte of it cannot cost a value.
const SINGLES: [Value<'static>; 4] = [Value::None, Value::Bool(false), Value::Bool(true), Value::Tuple(Vec::new())];
const NONE: Id = 0;
const FALSE: Id = 1;
const TRUE: Id = 2;
const UNIT: Id = 3;

/// Reads the pickle at the start of `bytes`.
pub(super) fn run(bytes: &[u8]) -> Outcome<Pickle<'_>> {
    let (stack, marks, memo) = (Vec::new(), Vec::new(), HashMap::new());
    let mut machine = Machine { bytes, position: 0, values: SINGLES.to_vec(), stack, marks, memo };
    loop {
        let start = machine.position;
        let at = |reason: String| format!("{reason} (byte {start} of its pickle)");
        let [opcode] = machine.take().map_err(at)?;
        if opcode == op::STOP {
            let root = machine.pop().map_err(at)?;
            return Ok(Pickle { values: machine.values, root, end: machine.position });
        }
        machine.step(opcode).map_err(at)?;
        if machine.values.len() > MAX_VALUES {
            return Err(at(format!("it has more than {MAX_VALUES} values")));
        }
    }
}

impl<'a> Machine<'a> {
    #[allow(clippy::too_many_lines)] // one arm an opcode
    fn step(&mut self, opcode: u8) -> Outcome<()> {
        match opcode {
            op::PROTO => match self.take()? {
                [protocol] if protocol <= MAX_PROTOCOL => {}
                [protocol] => return Err(format!("it uses protocol {protocol}, newer than {MAX_PROTOCOL}")),
            },
            op::FRAME => _ = self.take::<8>()?,
            op::MARK => self.marks.push(self.stack.len()),
            op::POP => match self.marks.last() {
                // What is popped may be a mark.
                Some(&mark) if mark == self.stack.len() => _ = self.marks.pop(),
                _ => _ = self.pop()?,
            },
            op::POP_MARK => _ = self.pop_marked()?,
            op::DUP => self.stack.push(self.top()?),
            op::NONE => self.stack.push(NONE),
            op::NEWTRUE => self.stack.push(TRUE),
            op::NEWFALSE => self.stack.push(FALSE),
            op::EMPTY_TUPLE => self.stack.push(UNIT),
            op::INT | op::LONG | op::FLOAT => self.number(opcode)?,
            op::BININT => {
                let value = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()));
            }
            op::BININT1 => {
                let [value] = self.take()?;
                self.push(Value::Int(value.into()));
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()));
            }
            op::LONG1 | op::LONG4 => {
                let len = if opcode == op::LONG1 { self.length::<1>()? } else { self.length::<4>()? };
                let bytes = self.slice(len)?;
                self.push(whole(bytes));
            }
            op::BINFLOAT => {
                let value = f64::from_be_bytes(self.take()?);
                self.push(Value::Float(value));
            }
            op::SHORT_BINSTRING | op::SHORT_BINUNICODE => self.text::<1>()?,
            op::BINSTRING | op::BINUNICODE => self.text::<4>()?,
            op::BINUNICODE8 => self.text::<8>()?,
            op::STRING | op::UNICODE => {
                let line = self.line()?;
                let quoted = |quote| line.strip_prefix(quote)?.strip_suffix(quote);
                let text = quoted(&b"'"[..]).or_else(|| quoted(&b"\""[..])).unwrap_or(line);
                self.push(text_or_bytes(text));
            }
            op::SHORT_BINBYTES => self.raw::<1>()?,
            op::BINBYTES => self.raw::<4>()?,
            op::BINBYTES8 | op::BYTEARRAY8 => self.raw::<8>()?,
            op::EMPTY_LIST => self.push(Value::List(Vec::new())),
            op::EMPTY_DICT => self.push(Value::Dict(Vec::new())),
            op::EMPTY_SET => self.push(Value::Set(Vec::new())),
            op::TUPLE | op::LIST | op::FROZENSET => {
                let items = self.pop_marked()?;
                self.push(match opcode {
                    op::TUPLE => Value::Tuple(items),
                    op::LIST => Value::List(items),
                    _ => Value::Set(items),
                });
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let count = usize::from(opcode - op::TUPLE1) + 1;
                let start = self.stack.len().checked_sub(count).ok_or("the stack is empty")?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(items));
            }
            op::DICT => {
                let items = self.pop_marked()?;
                self.push(Value::Dict(pairs(&items)?));
            }
            op::APPEND => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            op::APPENDS | op::ADDITEMS => {
                let items = self.pop_marked()?;
                self.append(&items)?;
            }
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.enter(&[key, value])?;
            }
            op::SETITEMS => {
                let items = self.pop_marked()?;
                self.enter(&items)?;
            }
            op::PUT | op::GET => {
                let key = std::str::from_utf8(self.line()?).ok().and_then(|line| line.parse().ok());
                self.memo(key.ok_or("it does not say where to store a value")?, opcode == op::PUT)?;
            }
            op::BINPUT | op::BINGET => {
                let key = self.length::<1>()?;
                self.memo(key as u64, opcode == op::BINPUT)?;
            }
            op::LONG_BINPUT | op::LONG_BINGET => {
                let key = self.length::<4>()?;
                self.memo(key as u64, opcode == op::LONG_BINPUT)?;
            }
            op::MEMOIZE => self.memo(self.memo.len() as u64, true)?,
            op::GLOBAL => {
                let class = self.class()?;
                self.push(class);
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.push(Value::Class { module, name });
            }
            op::REDUCE | op::NEWOBJ => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments);
            }
            op::NEWOBJ_EX => {
                let (_, arguments, callable) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(callable, arguments);
            }
            op::INST | op::OBJ => {
                let class = if opcode == op::INST { Some(self.class()?) } else { None };
                let mut items = self.pop_marked()?;
                match class {
                    Some(class) => self.push(class),
                    None if items.is_empty() => return Err("a call does not name a function".into()),
                    None => self.stack.push(items.remove(0)),
                }
                let callable = self.pop()?;
                self.push(Value::Tuple(items));
                let arguments = self.pop()?;
                self.call(callable, arguments);
            }
            op::BUILD => {
                let state = self.pop()?;
                let object = self.top()? as usize;
                if let Some(Value::Object(object)) = self.values.get_mut(object) {
                    object.state = Some(state);
                }
            }
            op::PERSID => {
                let name = self.line()?;
                self.push(text_or_bytes(name));
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            op::BINPERSID => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            _ => return Err(format!("its opcode {opcode:#04x} is unknown or needs a running Python")),
        }
        Ok(())
    }

    /// A call that is described, not made.
    fn call(&mut self, callable: Id, arguments: Id) {
        let object = Object { callable, arguments, state: None, items: Vec::new(), entries: Vec::new() };
        self.push(Value::Object(Box::new(object)));
    }

    fn append(&mut self, items: &[Id]) -> Outcome<()> {
        let top = self.top()? as usize;
        match self.values.get_mut(top) {
            Some(Value::List(list) | Value::Set(list)) => list.extend(items),
            Some(Value::Object(object)) => object.items.extend(items),
            _ => return Err("items are added to something that is not a list".into()),
        }
        Ok(())
    }

    fn enter(&mut self, items: &[Id]) -> Outcome<()> {
        let pairs = pairs(items)?;
        let top = self.top()? as usize;
        match self.values.get_mut(top) {
            Some(Value::Dict(entries)) => entries.extend(pairs),
            Some(Value::Object(object)) => object.entries.extend(pairs),
            _ => return Err("entries are added to something that is not a dictionary".into()),
        }
        Ok(())
    }

    /// Keeps the topmost value under a key, or recalls one.
    fn memo(&mut self, key: u64, keep: bool) -> Outcome<()> {
        if keep {
            self.memo.insert(key, self.top()?);
        } else {
            self.stack.push(*self.memo.get(&key).ok_or("it recalls a value that was never stored")?);
        }
        Ok(())
    }

    /// A number written in digits.
    fn number(&mut self, opcode: u8) -> Outcome<()> {
        let line = self.line()?;
        let text = std::str::from_utf8(line).unwrap_or_default().trim();
        let value = match (opcode, text) {
            (op::INT, "00") => Value::Bool(false),
            (op::INT, "01") => Value::Bool(true),
            (op::FLOAT, _) => Value::Float(text.parse().map_err(|_| "a number is damaged")?),
            // Longer ones stay as they are.
            _ => text.trim_end_matches('L').parse().map_or(Value::Bytes(line), Value::Int),
        };
        self.push(value);
        Ok(())
    }

    /// Module and name of a class, a line each.
    fn class(&mut self) -> Outcome<Value<'a>> {
        let mut line = || std::str::from_utf8(self.line()?).map_err(|_| "the name of a class is not UTF-8".to_owned());
        Ok(Value::Class { module: line()?, name: line()? })
    }

    /// Text behind its length of `BYTES` bytes.
    fn text<const BYTES: usize>(&mut self) -> Outcome<()> {
        let len = self.length::<BYTES>()?;
        let text = self.slice(len)?;
        self.push(text_or_bytes(text));
        Ok(())
    }

    fn raw<const BYTES: usize>(&mut self) -> Outcome<()> {
        let len = self.length::<BYTES>()?;
        let bytes = self.slice(len)?;
        self.push(Value::Bytes(bytes));
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) {
        // Their number is checked after each opcode, far below 32 bits.
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
    }

    fn top(&self) -> Outcome<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    fn pop(&mut self) -> Outcome<Id> {
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_text(&mut self) -> Outcome<&'a str> {
        let id = self.pop()?;
        match self.values.get(id as usize) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err("the name of a class is not text".into()),
        }
    }

    /// Everything above the last mark.
    fn pop_marked(&mut self) -> Outcome<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err("a mark is missing".into()),
        }
    }

    fn take<const LEN: usize>(&mut self) -> Outcome<[u8; LEN]> {
        let bytes = self.slice(LEN)?;
        bytes.first_chunk().copied().ok_or_else(|| "it ends too early".into())
    }

    /// A little-endian length of `BYTES` bytes, at most eight.
    fn length<const BYTES: usize>(&mut self) -> Outcome<usize> {
        let mut wide = [0; 8];
        wide[..BYTES].copy_from_slice(&self.take::<BYTES>()?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "a length is too large".into())
    }

    fn slice(&mut self, len: usize) -> Outcome<&'a [u8]> {
        let bytes = self.bytes.get(self.position..).and_then(|rest| rest.get(..len)).ok_or("it ends too early")?;
        self.position += len;
        Ok(bytes)
    }

    fn line(&mut self) -> Outcome<&'a [u8]> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or("it ends too early")?;
        let line = self.slice(len)?;
        self.position += 1;
        Ok(line)
    }
}

fn pairs(items: &[Id]) -> Outcome<Vec<(Id, Id)>> {
    match items.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a key has no value".into()),
    }
}

fn text_or_bytes(bytes: &[u8]) -> Value<'_> {
    std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text)
}

/// A little-endian whole number in two's complement.
fn whole(bytes: &[u8]) -> Value<'_> {
    let mut wide = [if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 }; 8];
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(wide))
        }
        None => Value::Bytes(bytes),
    }
}
