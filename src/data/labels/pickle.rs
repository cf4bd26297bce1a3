//! A reader for the one kind of pickle that the CIFAR-N files hold: a dictionary of integer arrays of numpy.
//!
//! A pickle is a program for a stack machine, and Python's own reader runs what it names. This one runs nothing: it
//! knows the opcodes and the four classes that such files need, and refuses the rest by name.

use super::opcodes as op;

/// Why a pickle was not read; positions are bytes of the pickle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It asks for what is not on the list.
    Refused { what: String, position: usize },
    /// It contradicts itself or is cut short.
    Damaged { reason: String, position: usize },
}

type Outcome<T> = Result<T, Failure>;

/// The classes that may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Reconstruct,
    Array,
    Dtype,
    Encode,
}

const CLASSES: [(&str, &str, Class); 4] = [
    ("numpy.core.multiarray", "_reconstruct", Class::Reconstruct),
    ("numpy", "ndarray", Class::Array),
    ("numpy", "dtype", Class::Dtype),
    ("_codecs", "encode", Class::Encode),
];

/// A value; others are named by their index in [`Machine::objects`], because a list, an array or a dtype may be
/// filled after it was memoised.
#[derive(Debug)]
enum Object<'a> {
    None,
    Bool,
    Int(i64),
    Text(&'a str),
    Bytes(Vec<u8>),
    Class(Class),
    Tuple(Vec<usize>),
    List(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    /// 64-bit integers, once its byte order is known to be little-endian.
    Dtype {
        little: bool,
    },
    /// The object with its bytes, once known.
    Array(Option<usize>),
}

struct Machine<'a> {
    pickle: &'a [u8],
    /// Start of the current opcode, for errors.
    start: usize,
    position: usize,
    objects: Vec<Object<'a>>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: [Option<usize>; 256],
    /// Bytes made of text so far; no more than the pickle has, else a short one could fill the memory.
    encoded: usize,
}

/// The arrays under `keys` of the dictionary that `pickle` describes. Time and memory are linear in its length.
pub(super) fn read_arrays<const N: usize>(pickle: &[u8], keys: [&str; N]) -> Outcome<[Vec<i64>; N]> {
    let mut machine = Machine {
        pickle,
        start: 0,
        position: 0,
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: [None; 256],
        encoded: 0,
    };
    while machine.step()? {}
    let top = machine.pop()?;
    let mut arrays = std::array::from_fn(|_| Vec::new());
    for (array, key) in arrays.iter_mut().zip(keys) {
        *array = machine.array(top, key)?;
    }
    Ok(arrays)
}

impl<'a> Machine<'a> {
    /// Reads one opcode; `false` at the end.
    fn step(&mut self) -> Outcome<bool> {
        self.start = self.position;
        let [opcode] = self.take()?;
        match opcode {
            op::STOP => return Ok(false),
            op::PROTO => match self.take()? {
                [2] => {}
                [other] => return Err(self.refused(format!("protocol {other} (only 2 is read)"))),
            },
            op::MARK => self.marks.push(self.stack.len()),
            op::NONE => self.push(Object::None),
            op::NEWTRUE | op::NEWFALSE => self.push(Object::Bool),
            op::BININT => {
                let value = i32::from_le_bytes(self.take()?);
                self.push(Object::Int(value.into()));
            }
            op::BININT1 => {
                let [value] = self.take()?;
                self.push(Object::Int(value.into()));
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.take()?);
                self.push(Object::Int(value.into()));
            }
            op::BINUNICODE => {
                let len = u32::from_le_bytes(self.take()?) as usize;
                let text = self.text(len)?;
                self.push(Object::Text(text));
            }
            op::EMPTY_LIST => self.push(Object::List(Vec::new())),
            op::EMPTY_DICT => self.push(Object::Dict(Vec::new())),
            op::TUPLE => {
                let items = self.pop_marked()?;
                self.push(Object::Tuple(items));
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let mut items = (0..=opcode - op::TUPLE1).map(|_| self.pop()).collect::<Outcome<Vec<_>>>()?;
                items.reverse();
                self.push(Object::Tuple(items));
            }
            op::BINPUT => {
                let [key] = self.take()?;
                let top = self.stack.last().copied().ok_or_else(|| self.damaged("the stack is empty"))?;
                self.memo[usize::from(key)] = Some(top);
            }
            op::BINGET => {
                let [key] = self.take()?;
                let object = self.memo[usize::from(key)].ok_or_else(|| self.damaged("it recalls what it never had"))?;
                self.stack.push(object);
            }
            op::APPENDS | op::SETITEMS => self.fill(opcode)?,
            op::GLOBAL => self.global()?,
            op::REDUCE => self.reduce()?,
            op::BUILD => self.build()?,
            _ => return Err(self.refused(format!("opcode {opcode:#04x} ({})", op::name(opcode)))),
        }
        Ok(true)
    }

    /// Adds the marked objects to the list or dictionary below them.
    fn fill(&mut self, opcode: u8) -> Outcome<()> {
        let items = self.pop_marked()?;
        let fits = match self.stack.last().and_then(|&below| self.objects.get_mut(below)) {
            Some(Object::List(list)) if opcode == op::APPENDS => {
                list.extend(items);
                true
            }
            Some(Object::Dict(entries)) if opcode == op::SETITEMS && items.len() % 2 == 0 => {
                entries.extend(items.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value)));
                true
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(self.damaged("items are added to no list or dictionary")) }
    }

    fn global(&mut self) -> Outcome<()> {
        let (module, name) = (self.line()?, self.line()?);
        match CLASSES.iter().find(|known| (known.0, known.1) == (module, name)) {
            Some(&(_, _, class)) => self.push(Object::Class(class)),
            None => return Err(self.refused(format!("class `{module} {name}`"))),
        }
        Ok(())
    }

    /// The few calls that make an array; nothing is called.
    fn reduce(&mut self) -> Outcome<()> {
        let (arguments, class) = (self.pop()?, self.pop()?);
        let Some(Object::Class(class)) = self.objects.get(class) else {
            return Err(self.damaged("it calls what is no class"));
        };
        let class = *class;
        let object = match (class, self.tuple(arguments)?.as_slice()) {
            (Class::Encode, [Object::Text(text), Object::Text("latin1")]) => {
                let bytes: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(letter).ok()).collect();
                bytes.map(Object::Bytes)
            }
            (Class::Dtype, [Object::Text("i8"), ..]) => Some(Object::Dtype { little: false }),
            (Class::Reconstruct, [Object::Class(Class::Array), ..]) => Some(Object::Array(None)),
            _ => None,
        };
        let object = object.ok_or_else(|| self.damaged("a call does not make an array of 64-bit integers"))?;
        if let Object::Bytes(bytes) = &object {
            self.encoded += bytes.len();
            if self.encoded > self.pickle.len() {
                return Err(self.damaged("it repeats its texts"));
            }
        }
        self.push(object);
        Ok(())
    }

    /// Fills a dtype or an array.
    fn build(&mut self) -> Outcome<()> {
        let (state, object) = (self.pop()?, self.pop()?);
        let built = match (self.objects.get(object), self.tuple(state)?.as_slice()) {
            // (version, byte order, …)
            (Some(Object::Dtype { .. }), [Object::Int(_), Object::Text("<"), ..]) => {
                Some(Object::Dtype { little: true })
            }
            // (version, shape, dtype, column-major, bytes)
            (
                Some(Object::Array(_)),
                [
                    Object::Int(_),
                    Object::Tuple(shape),
                    Object::Dtype { little: true },
                    Object::Bool,
                    Object::Bytes(bytes),
                ],
            ) => match shape.as_slice() {
                &[len] => match self.objects.get(len) {
                    Some(&Object::Int(len)) if usize::try_from(len).is_ok_and(|len| len * 8 == bytes.len()) => {
                        let Some(Object::Tuple(parts)) = self.objects.get(state) else { return Ok(()) };
                        Some(Object::Array(parts.last().copied()))
                    }
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        let built = built.ok_or_else(|| self.damaged("an array is not one row of little-endian 64-bit integers"))?;
        if let Some(object) = self.objects.get_mut(object) {
            *object = built;
        }
        // What was built stays on the stack.
        self.stack.push(object);
        Ok(())
    }

    /// The array under `key` of the dictionary `object`; of equal keys the last counts, as in Python.
    fn array(&self, object: usize, key: &str) -> Outcome<Vec<i64>> {
        let Some(Object::Dict(entries)) = self.objects.get(object) else {
            return Err(self.damaged("it holds no dictionary"));
        };
        let named =
            |&&(name, _): &&(usize, usize)| matches!(self.objects.get(name), Some(Object::Text(text)) if *text == key);
        let Some(&(_, value)) = entries.iter().rev().find(named) else {
            return Err(self.damaged(&format!("its dictionary has no `{key}`")));
        };
        let Some(Object::Array(Some(bytes))) = self.objects.get(value) else {
            return Err(self.damaged(&format!("`{key}` is no array")));
        };
        let Some(Object::Bytes(bytes)) = self.objects.get(*bytes) else {
            return Err(self.damaged(&format!("`{key}` has no values")));
        };
        Ok(bytes.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
    }

    /// The items of a tuple, up to six: no call that is known has more than five.
    fn tuple(&self, object: usize) -> Outcome<Vec<&Object<'a>>> {
        match self.objects.get(object) {
            Some(Object::Tuple(items)) => Ok(items.iter().take(6).filter_map(|&item| self.objects.get(item)).collect()),
            _ => Err(self.damaged("a tuple is missing")),
        }
    }

    fn push(&mut self, object: Object<'a>) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    fn pop(&mut self) -> Outcome<usize> {
        self.stack.pop().ok_or_else(|| self.damaged("the stack is empty"))
    }

    /// Everything above the last mark.
    fn pop_marked(&mut self) -> Outcome<Vec<usize>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(self.damaged("a mark is missing")),
        }
    }

    fn take<const LEN: usize>(&mut self) -> Outcome<[u8; LEN]> {
        let bytes = self.pickle.get(self.position..).and_then(|rest| rest.first_chunk::<LEN>());
        let bytes = *bytes.ok_or_else(|| self.damaged("it ends too early"))?;
        self.position += LEN;
        Ok(bytes)
    }

    fn text(&mut self, len: usize) -> Outcome<&'a str> {
        let bytes = self.pickle.get(self.position..).and_then(|rest| rest.get(..len));
        let bytes = bytes.ok_or_else(|| self.damaged("it ends too early"))?;
        self.position += len;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("a text is not UTF-8"))
    }

    fn line(&mut self) -> Outcome<&'a str> {
        let rest = self.pickle.get(self.position..).unwrap_or_default();
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.damaged("it ends too early"))?;
        let line = self.text(len)?;
        self.position += 1;
        Ok(line)
    }

    fn refused(&self, what: String) -> Failure {
        Failure::Refused { what, position: self.start }
    }

    fn damaged(&self, reason: &str) -> Failure {
        Failure::Damaged { reason: reason.into(), position: self.start }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::testing::damaged;

    /// The opcodes that numpy and pickle write for an array; `first` writes the dtype out, later ones recall it.
    fn array(values: &[i64], first: bool) -> Vec<u8> {
        let data: String = values.iter().flat_map(|value| value.to_le_bytes()).map(char::from).collect();
        let mut out = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85c_codecs\nencode\n".to_vec();
        out.extend(b"X\x01\0\0\0bX\x06\0\0\0latin1\x86R\x87R(K\x01M");
        out.extend((values.len() as u16).to_le_bytes());
        out.push(op::TUPLE1);
        match first {
            true => out.extend(b"cnumpy\ndtype\nX\x02\0\0\0i8\x89\x88\x87Rq\x07(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"),
            false => out.extend(b"h\x07"),
        }
        out.extend(b"\x89c_codecs\nencode\nX");
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data.as_bytes());
        out.extend(b"X\x06\0\0\0latin1\x86Rtb");
        out
    }

    /// A pickle in the form of the published files.
    pub(in crate::data::labels) fn dictionary(entries: &[(&str, &[i64])]) -> Vec<u8> {
        let mut out = b"\x80\x02}q\0(".to_vec();
        for (index, (key, values)) in entries.iter().enumerate() {
            out.push(op::BINUNICODE);
            out.extend((key.len() as u32).to_le_bytes());
            out.extend(key.as_bytes());
            out.extend(array(values, index == 0));
        }
        out.extend(b"u.");
        out
    }

    #[test]
    fn arrays_are_read_and_a_shared_dtype_is_recalled() {
        // -2 and 300 have bytes of 128 and more, which are two bytes in UTF-8.
        let pickle = dictionary(&[("a", &[1, -2, 300]), ("b", &[7])]);
        assert_eq!(read_arrays(&pickle, ["b", "a"]).unwrap(), [vec![7], vec![1, -2, 300]]);
        let missing = read_arrays(&pickle, ["c"]).unwrap_err();
        assert!(matches!(missing, Failure::Damaged { reason, .. } if reason == "its dictionary has no `c`"));
    }

    #[test]
    fn everything_else_is_refused_by_name_and_place() {
        let refused = |pickle: &[u8]| match read_arrays(pickle, ["a"]).unwrap_err() {
            Failure::Refused { what, position } => (what, position),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R."), ("class `os system`".into(), 2));
        assert_eq!(refused(b"\x80\x02cnumpy\nfromfile\n."), ("class `numpy fromfile`".into(), 2));
        assert_eq!(refused(b"\x80\x04\x95"), ("protocol 4 (only 2 is read)".into(), 0));
        assert_eq!(refused(b"\x80\x02}\x93."), ("opcode 0x93 (STACK_GLOBAL)".into(), 3));
        assert_eq!(refused(b"\x80\x02Q"), ("opcode 0x51 (BINPERSID)".into(), 2));
        assert_eq!(refused(b"\x80\x02\xfe"), ("opcode 0xfe (unknown to Python)".into(), 2));
    }

    #[test]
    fn damaged_pickles_never_panic() {
        for pickle in damaged(&dictionary(&[("a", &[1, 200, 3]), ("b", &[7])])) {
            let _ = read_arrays(&pickle, ["a", "b"]);
        }
        for pickle in [&b"."[..], b"", b"K\x01(\x85t.", b"(e.", b"NR.", b"NNb.", b"}(Nu."] {
            assert!(matches!(read_arrays(pickle, ["a"]), Err(Failure::Damaged { .. })), "{pickle:?}");
        }
    }

    #[test]
    fn a_short_pickle_cannot_fill_the_memory() {
        let mut pickle = b"\x80\x02X\xe8\x03\0\0".to_vec();
        pickle.extend([b'x'; 1000]);
        pickle.extend(b"q\0");
        pickle.extend(b"c_codecs\nencode\nh\0X\x06\0\0\0latin1\x86R".repeat(100));
        let repeats = read_arrays(&pickle, ["a"]).unwrap_err();
        assert!(matches!(repeats, Failure::Damaged { reason, .. } if reason == "it repeats its texts"));
    }
}
