//! NumPy's arrays as they are pickled.

use candle_core::Tensor;

use crate::container::{Element, Id, Pickle, Stored, Value};

/// What of an array is known: its shape, type and bytes, and whether the first axis is the fastest.
struct Parts {
    shape: Id,
    dtype: Id,
    column_major: bool,
    bytes: Id,
}

/// The array that a value describes; `None` where it describes none. `left` bytes may be made of text in all, so that a short
/// pickle cannot fill the memory.
pub(super) fn array(pickle: &Pickle<'_>, id: Id, left: &mut usize) -> Option<Result<Tensor, String>> {
    let Value::Object(object) = pickle.get(id) else { return None };
    let (class, arguments) = pickle.call(id)?;
    let parts = match (class, arguments) {
        // The state is version, shape, dtype, order and bytes.
        (("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"), _) => {
            let &[_, shape, dtype, order, bytes] = pickle.items(object.state?)? else { return None };
            Parts { shape, dtype, column_major: *pickle.get(order) == Value::Bool(true), bytes }
        }
        (("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer"), &[bytes, dtype, shape, order]) => {
            Parts { shape, dtype, column_major: pickle.text(order) == Some("F"), bytes }
        }
        _ => return None,
    };
    Some(parts.read(pickle, left))
}

impl Parts {
    fn read(&self, pickle: &Pickle<'_>, left: &mut usize) -> Result<Tensor, String> {
        let element = element(pickle, self.dtype)?;
        let sizes = pickle.items(self.shape).unwrap_or_default().iter();
        let shape: Option<Vec<usize>> = sizes.map(|&size| pickle.int(size)?.try_into().ok()).collect();
        let shape = shape.ok_or("its shape is damaged")?;
        let decoded: Vec<u8>;
        let bytes = match (pickle.get(self.bytes), pickle.call(self.bytes)) {
            (Value::Bytes(bytes), _) => *bytes,
            // A text of ASCII that was pickled as bytes.
            (Value::Text(text), _) => text.as_bytes(),
            (_, Some((("_codecs", "encode"), arguments))) => {
                let text = arguments.first().and_then(|&text| pickle.text(text)).ok_or("its numbers are damaged")?;
                let latin: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(letter).ok()).collect();
                decoded = latin.ok_or("its numbers are damaged")?;
                &decoded
            }
            // Protocol 0 to 2 call `bytes` where there are none.
            _ => &[],
        };
        *left = left.checked_sub(bytes.len()).ok_or("it repeats its arrays")?;
        let stored = match self.column_major {
            false => Stored::contiguous(element, shape, 0..bytes.len())?,
            true => {
                let strides = shape.iter().scan(1i64, |stride, &size| {
                    let own = *stride;
                    *stride = stride.saturating_mul(size as i64);
                    Some(own)
                });
                let strides: Vec<i64> = strides.collect();
                Stored::strided(element, 0..bytes.len(), shape, &strides, 0)?
            }
        };
        stored.read(bytes)
    }
}

/// The type that a pickled dtype describes: a call with its name, and a state whose second item is the order of bytes.
fn element(pickle: &Pickle<'_>, dtype: Id) -> Result<Element, String> {
    let Value::Object(object) = pickle.get(dtype) else { return Err("its type is missing".into()) };
    let name = match pickle.call(dtype) {
        Some((("numpy", "dtype"), &[name, ..])) => pickle.text(name),
        _ => None,
    };
    let name = name.ok_or("its type is missing")?;
    let order = object.state.and_then(|state| pickle.text(*pickle.items(state)?.get(1)?));
    if order == Some(">") || name.starts_with('>') {
        return Err("its numbers are big-endian".into());
    }
    Ok(match name.trim_start_matches(['<', '|', '=']) {
        "b1" => Element::Bool,
        "u1" => Element::U8,
        "i1" => Element::I8,
        "u2" => Element::U16,
        "i2" => Element::I16,
        "u4" => Element::U32,
        "i4" => Element::I32,
        "u8" => Element::U64,
        "i8" => Element::I64,
        "f2" => Element::F16,
        "f4" => Element::F32,
        "f8" => Element::F64,
        other => return Err(format!("its type `{other}` is not supported")),
    })
}
