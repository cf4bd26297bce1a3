//! Thrift's compact protocol, in which Parquet files describe themselves: a reader, whose values borrow their bytes.

/// Levels of structs and lists within one another; Parquet needs seven.
const MAX_DEPTH: usize = 16;
/// Most values of one reading: a footer has some forty for each column of each row group.
const MAX_VALUES: usize = 1 << 20;

/// A value; the whole numbers of all widths are one kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Flag(bool),
    Number(i64),
    Bytes(&'a [u8]),
    List(Vec<Value<'a>>),
    Struct(Vec<(i16, Value<'a>)>),
    /// Of a type that Parquet does not use; passed over.
    Other,
}

/// Why bytes are not a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// They end too early.
    Short,
    /// Whatever might follow.
    Damaged,
}

impl<'a> Value<'a> {
    /// The struct at the start of `bytes`, and its length there.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, usize), Fault> {
        let mut reader = Reader { bytes, place: 0, values: 0 };
        let value = reader.structure(0)?;
        Ok((value, reader.place))
    }

    /// A field of a struct.
    pub(super) fn field(&self, number: i16) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields.iter().find(|(own, _)| *own == number).map(|(_, value)| value),
            _ => None,
        }
    }

    /// A field that is a whole number, from 0 up.
    pub(super) fn count(&self, number: i16) -> Option<u64> {
        match self.field(number)? {
            Self::Number(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The entries of a field that is a list; none where it is absent.
    pub(super) fn list(&self, number: i16) -> &[Self] {
        match self.field(number) {
            Some(Self::List(values)) => values,
            _ => &[],
        }
    }

    /// A field that is text.
    pub(super) fn text(&self, number: i16) -> Option<&'a str> {
        match self.field(number)? {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    place: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn structure(&mut self, depth: usize) -> Result<Value<'a>, Fault> {
        let mut fields: Vec<(i16, Value<'a>)> = Vec::new();
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(Value::Struct(fields));
            }
            let last = fields.last().map_or(0, |(number, _)| *number);
            let number = match head >> 4 {
                0 => i16::try_from(self.number()?).map_err(|_| Fault::Damaged)?,
                step => last.checked_add(step.into()).ok_or(Fault::Damaged)?,
            };
            // Of a field that comes twice, readers take one or the other.
            if !fields.is_empty() && number <= last {
                return Err(Fault::Damaged);
            }
            let value = match head & 0xf {
                1 => Value::Flag(true),
                2 => Value::Flag(false),
                kind => self.value(kind, depth + 1)?,
            };
            fields.push((number, value));
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<Value<'a>, Fault> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(Fault::Damaged);
        }
        Ok(match kind {
            // Within lists, truth values take a byte.
            1 | 2 => Value::Flag(self.byte()? == 1),
            3 => Value::Number((self.byte()? as i8).into()),
            4..=6 => Value::Number(self.number()?),
            7 => self.take(8).map(|_| Value::Other)?,
            8 => {
                let length = self.length()?;
                Value::Bytes(self.take(length)?)
            }
            9 | 10 => {
                let head = self.byte()?;
                let length = if head >> 4 == 15 { self.length()? } else { usize::from(head >> 4) };
                let values = (0..length).map(|_| self.value(head & 0xf, depth + 1));
                Value::List(values.collect::<Result<_, _>>()?)
            }
            11 => {
                let length = self.length()?;
                let kinds = if length > 0 { self.byte()? } else { 0 };
                for _ in 0..length {
                    self.value(kinds >> 4, depth + 1)?;
                    self.value(kinds & 0xf, depth + 1)?;
                }
                Value::Other
            }
            12 => self.structure(depth)?,
            13 => self.take(16).map(|_| Value::Other)?,
            _ => return Err(Fault::Damaged),
        })
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.place).ok_or(Fault::Short)?;
        self.place += 1;
        Ok(byte)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let bytes = self.bytes.get(self.place..).and_then(|rest| rest.get(..length)).ok_or(Fault::Short)?;
        self.place += length;
        Ok(bytes)
    }

    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.varint()?).map_err(|_| Fault::Damaged)
    }

    /// A number with its sign in the lowest bit.
    fn number(&mut self) -> Result<i64, Fault> {
        let bits = self.varint()?;
        Ok((bits >> 1) as i64 ^ -((bits & 1) as i64))
    }

    /// Seven bits in each byte, the lowest first.
    fn varint(&mut self) -> Result<u64, Fault> {
        let mut bits = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(bits);
            }
        }
        Err(Fault::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_by_hand() {
        // Field 1: 300 (i32); field 3: "ab"; field 4: [true, false]; field 20: {1: true}; then the end.
        let bytes = [0x15, 0xd8, 0x04, 0x28, 2, b'a', b'b', 0x19, 0x21, 1, 0, 0x0c, 40, 0x11, 0, 0, 0xff];
        let (value, length) = Value::read(&bytes).unwrap();
        assert_eq!((value.count(1), value.text(3), length), (Some(300), Some("ab"), 16));
        assert_eq!(value.list(4), [Value::Flag(true), Value::Flag(false)]);
        assert_eq!(value.field(20).unwrap().field(1), Some(&Value::Flag(true)));
        // −1 is not a count.
        assert_eq!(Value::read(&[0x15, 0x01, 0]).unwrap().0.count(1), None);
        for end in 0..16 {
            assert_eq!(Value::read(&bytes[..end]), Err(Fault::Short), "{end}");
        }
    }

    #[test]
    fn hostile_bytes_are_refused() {
        // Structs within structs; a field twice; a number without end; an unknown type; a list longer than any file.
        let endless = [&[0x15][..], &[0xff; 11]].concat();
        let long_list = [&[0x19, 0xf5][..], &[0xff; 9], &[0x01]].concat();
        for bytes in [&[0x1c; 100][..], &[0x15, 2, 0x05, 2, 2, 0], &endless, &[0x1e, 0], &[0x1f, 0]] {
            assert_eq!(Value::read(bytes), Err(Fault::Damaged), "{bytes:?}");
        }
        assert_eq!(Value::read(&long_list), Err(Fault::Short));
        // Two million empty structs in a list.
        let many = [&[0x19, 0xfc, 0x80, 0x89, 0x7a][..], &vec![0; 2_000_000]].concat();
        assert_eq!(Value::read(&many), Err(Fault::Damaged));
    }
}
