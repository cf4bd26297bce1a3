//! Arrays of NumPy's `.npy` format (NEP 1), of numbers and truth values. Files are not trusted: the
//! header is checked against the bytes that follow it, and pickled objects are refused.

use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, TensorView};

use crate::data::stored::{StoredFile, StoredRows};
use crate::data::{DataError, DataResult};

const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest header that NumPy itself reads.
const LONGEST_HEADER: usize = 10_000;

/// What a file says about its array.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Whether the first axis is the fastest.
    pub(super) fortran_order: bool,
    big_endian: bool,
    /// Place of the first byte of the array.
    start: usize,
    /// Bytes of the array.
    len: usize,
}

/// An array, row-major and little-endian.
#[derive(Debug)]
pub(super) struct Array {
    header: Header,
    bytes: Vec<u8>,
}

impl Header {
    /// Reads the start of a file, and checks that the array follows.
    ///
    /// # Errors
    /// [`DataError::Corrupt`]; a file that cannot be read.
    pub(super) fn read(file: &StoredFile) -> DataResult<Self> {
        let corrupt = |reason| corrupt(file.path(), reason);
        let header = Self::parse(&file.read(0..LONGEST_HEADER as u64 + 12)?).map_err(corrupt)?;
        header.check((file.len() as usize).saturating_sub(header.start)).map_err(corrupt)?;
        Ok(header)
    }

    /// The rows of an array of the file whose header it is.
    pub(super) fn rows(self, file: Arc<StoredFile>, name: String) -> StoredRows {
        StoredRows::new(file, name, self.dtype, self.shape, self.start as u64).big_endian(self.big_endian)
    }

    fn check(&self, following: usize) -> Result<(), String> {
        match following == self.len {
            true => Ok(()),
            false => {
                Err(format!("{following} bytes follow its header, but its shape {:?} needs {}", self.shape, self.len))
            }
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let version = bytes.strip_prefix(MAGIC).ok_or("it does not begin like one")?;
        let (len, first) = match *version {
            [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 10),
            [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 12),
            _ => return Err("its version is unknown".into()),
        };
        if len > LONGEST_HEADER {
            return Err(format!("its header of {len} bytes is too long"));
        }
        let start = first + len;
        let text = bytes.get(first..start).ok_or("its header is cut short")?;
        let text = std::str::from_utf8(text).map_err(|_| "its header is not text")?;
        let field = |name: &str| {
            let place =
                [format!("'{name}'"), format!("\"{name}\"")].iter().find_map(|key| Some(text.find(key)? + key.len()));
            let rest = place.and_then(|place| text[place..].trim_start().strip_prefix(':'));
            rest.map(str::trim_start).ok_or_else(|| format!("its header lacks `{name}`"))
        };
        let descr = field("descr")?;
        let (order, kind) = descr
            .strip_prefix(['\'', '"'])
            .and_then(|rest| rest.split(['\'', '"']).next())
            .and_then(|kind| kind.split_at_checked(1))
            .ok_or("its entries are not plain numbers")?;
        let dtype = match kind {
            "b1" => Dtype::BOOL,
            "u1" => Dtype::U8,
            "i1" => Dtype::I8,
            "u2" => Dtype::U16,
            "i2" => Dtype::I16,
            "u4" => Dtype::U32,
            "i4" => Dtype::I32,
            "u8" => Dtype::U64,
            "i8" => Dtype::I64,
            "f2" => Dtype::F16,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            _ if kind.starts_with('O') => return Err("its entries are pickled Python objects".into()),
            _ => return Err(format!("its entries are of the type `{order}{kind}`, which is not read")),
        };
        let fortran_order = field("fortran_order")?.starts_with("True");
        let sizes = field("shape")?.strip_prefix('(').and_then(|rest| rest.split(')').next());
        let sizes = sizes.ok_or("its header lacks a shape")?.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape: Vec<usize> =
            sizes.map(|size| size.parse().map_err(|_| format!("`{size}` is not a size"))).collect::<Result<_, _>>()?;
        let size = dtype.bitsize() / 8;
        let len = shape.iter().try_fold(size, |len, &size| len.checked_mul(size)).ok_or("its shape is too large")?;
        Ok(Self { dtype, shape, fortran_order, big_endian: order == ">", start, len })
    }
}

impl Array {
    /// Reads a whole file.
    ///
    /// # Errors
    /// In words, what is wrong.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let header = Header::parse(bytes)?;
        let body = bytes.get(header.start..).unwrap_or_default();
        header.check(body.len())?;
        let size = header.dtype.bitsize() / 8;
        let mut bytes = if header.fortran_order { row_major(body, &header.shape, size) } else { body.to_vec() };
        if header.big_endian {
            bytes.chunks_mut(size).for_each(<[u8]>::reverse);
        }
        Ok(Self { header, bytes })
    }

    /// As a tensor of a safetensors file.
    ///
    /// # Errors
    /// None for an array that was read whole.
    pub(super) fn view(&self) -> Result<TensorView<'_>, String> {
        TensorView::new(self.header.dtype, self.header.shape.clone(), &self.bytes).map_err(|error| error.to_string())
    }
}

/// Entries of `size` bytes whose first axis is the fastest, with the last axis the fastest.
fn row_major(body: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut index = vec![0usize; shape.len()];
    for _ in 0..body.len() / size {
        let place = index.iter().zip(shape).rev().fold(0, |place, (index, axis)| place * axis + index);
        out.extend_from_slice(&body[place * size..(place + 1) * size]);
        for (index, axis) in index.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < *axis {
                break;
            }
            *index = 0;
        }
    }
    out
}

pub(super) fn corrupt(path: &Path, reason: String) -> DataError {
    DataError::Corrupt { path: path.to_path_buf(), kind: "a .npy file", reason }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::testing::damaged;

    /// A file as `numpy.save` writes it.
    pub(in super::super) fn npy(descr: &str, fortran_order: &str, shape: &str, body: &[u8]) -> Vec<u8> {
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': {shape}, }}");
        while (text.len() + 11) % 64 != 0 {
            text.push(' ');
        }
        text.push('\n');
        [MAGIC, &[1, 0], &(text.len() as u16).to_le_bytes(), text.as_bytes(), body].concat()
    }

    #[test]
    fn orders_of_axes_and_bytes_are_honoured() {
        let rows: Vec<u8> = (0..6u16).flat_map(u16::to_le_bytes).collect();
        let array = Array::parse(&npy("<u2", "False", "(2, 3)", &rows)).unwrap();
        assert_eq!((array.view().unwrap().shape(), &array.bytes), (&[2, 3][..], &rows));
        let columns: Vec<u8> = [0u16, 3, 1, 4, 2, 5].into_iter().flat_map(u16::to_le_bytes).collect();
        assert_eq!(Array::parse(&npy("<u2", "True", "(2, 3)", &columns)).unwrap().bytes, rows);
        let big: Vec<u8> = (0..6u16).flat_map(u16::to_be_bytes).collect();
        assert_eq!(Array::parse(&npy(">u2", "False", "(2, 3)", &big)).unwrap().bytes, rows);
        let scalar = Array::parse(&npy("|b1", "False", "()", &[1])).unwrap();
        assert_eq!(scalar.view().unwrap().dtype(), Dtype::BOOL);
    }

    #[test]
    fn what_does_not_fit_is_said_and_damage_never_panics() {
        let file = npy("<f8", "False", "(2,)", &[0; 16]);
        for (bytes, part) in [
            (npy("|O", "False", "(2,)", &[0; 16]), "pickled"),
            (npy("<c16", "False", "(1,)", &[0; 16]), "`<c16`"),
            (npy("<f8", "False", "(3,)", &[0; 16]), "16 bytes follow its header, but its shape [3] needs 24"),
            (npy("<f8", "False", "(4611686018427387904, 8)", &[0; 16]), "too large"),
            (npy("<f8", "False", "(-1,)", &[0; 16]), "`-1` is not a size"),
            (b"PK".to_vec(), "does not begin"),
            (file[..20].to_vec(), "cut short"),
        ] {
            let error = Array::parse(&bytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        for bytes in damaged(&file) {
            let _ = Array::parse(&bytes);
        }
    }
}
