//! Raw numbers in a file, placed by sizes, strides and an offset.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

/// Numbers that a tensor may have beyond those of its storage, by repeating them.
const MAX_REPEATED: usize = 1 << 24;

/// The type of a stored number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[rustfmt::skip]
pub(crate) enum Element { Bool, U8, I8, U16, I16, U32, I32, U64, I64, F8E4M3, F8E5M2, F16, BF16, F32, F64 }

/// A tensor in the bytes of a file, not read yet. Little-endian.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    /// The type of its numbers.
    pub(crate) element: Element,
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Numbers between neighbours along each axis.
    strides: Vec<usize>,
    /// The first number, counted from the start of the storage.
    offset: usize,
    /// Bytes of the storage, which other tensors may share.
    storage: Range<usize>,
}

impl Element {
    /// Bytes of one number.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 | Self::F8E4M3 | Self::F8E5M2 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// PyTorch's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F8E4M3 => "float8_e4m3fn",
            Self::F8E5M2 => "float8_e5m2",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// The type by PyTorch's name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        use Element::*;
        let all = [Bool, U8, I8, U16, I16, U32, I32, U64, I64, F8E4M3, F8E5M2, F16, BF16, F32, F64];
        all.into_iter().find(|element| element.name() == name)
    }

    /// The type of the tensor that [`Stored::read`] makes of such numbers.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::Bool | Self::U8 => DType::U8,
            Self::U32 => DType::U32,
            Self::I8 | Self::U16 | Self::I16 | Self::I32 | Self::U64 | Self::I64 => DType::I64,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::F8E4M3 | Self::F8E5M2 | Self::F32 => DType::F32,
            Self::F64 => DType::F64,
        }
    }
}

impl Stored {
    /// A tensor whose numbers fill `storage`, in the order of its axes.
    ///
    /// # Errors
    /// In words: another number of them.
    pub(crate) fn contiguous(element: Element, shape: Vec<usize>, storage: Range<usize>) -> Result<Self, String> {
        if count(&shape).and_then(|count| count.checked_mul(element.width())) != Some(storage.len()) {
            return Err(format!("its {} bytes do not match the shape {shape:?}", storage.len()));
        }
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = shape[axis].saturating_mul(strides[axis]);
        }
        Ok(Self { element, shape, strides, offset: 0, storage })
    }

    /// A view of `storage`; offset and strides count numbers.
    ///
    /// # Errors
    /// In words: it reaches past the storage, or repeats its numbers too often.
    pub(crate) fn strided(
        element: Element,
        storage: Range<usize>,
        shape: Vec<usize>,
        strides: &[i64],
        offset: i64,
    ) -> Result<Self, String> {
        let outside = || "it reaches past the numbers in the file".to_owned();
        let offset = usize::try_from(offset).map_err(|_| outside())?;
        let strides: Vec<usize> =
            strides.iter().map(|&stride| usize::try_from(stride).ok()).collect::<Option<_>>().ok_or_else(outside)?;
        if shape.len() != strides.len() {
            return Err("it has more or fewer strides than sizes".into());
        }
        let count = count(&shape).ok_or_else(|| format!("its shape {shape:?} is too large"))?;
        let stored = storage.len() / element.width();
        let mut axes = shape.iter().zip(&strides);
        let reach = axes
            .try_fold(offset, |reach, (size, stride)| reach.checked_add(size.saturating_sub(1).checked_mul(*stride)?));
        if count > 0 && (reach.is_none_or(|reach| reach >= stored) || count > stored.saturating_add(MAX_REPEATED)) {
            return Err(outside());
        }
        Ok(Self { element, shape, strides, offset, storage })
    }

    /// Number of its elements.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether both are the same numbers in the same place. Tensors without numbers are never the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.len() > 0 && self == other
    }

    /// Its numbers out of `file`, in the order of its axes and in [`Element::dtype`].
    ///
    /// # Errors
    /// In words: a file that ends before them; whole numbers beyond 63 bits.
    pub(crate) fn read(&self, file: &[u8]) -> Result<Tensor, String> {
        let storage = file.get(self.storage.clone()).ok_or("the file ends before its numbers")?;
        let raw = self.gather(storage);
        let device = Device::Cpu;
        let made = match self.element {
            Element::Bool => {
                Tensor::from_vec(raw.iter().map(|&byte| u8::from(byte != 0)).collect(), &*self.shape, &device)
            }
            Element::I8 | Element::U16 | Element::I16 | Element::I32 | Element::U64 => {
                let wide: Option<Vec<i64>> =
                    raw.chunks_exact(self.element.width()).map(|raw| self.whole(raw)).collect();
                Tensor::from_vec(wide.ok_or("a whole number is too large")?, &*self.shape, &device)
            }
            Element::F8E4M3 | Element::F8E5M2 => {
                Tensor::from_vec(raw.iter().map(|&byte| self.small(byte)).collect(), &*self.shape, &device)
            }
            element => Tensor::from_raw_buffer(&raw, element.dtype(), &self.shape, &device),
        };
        made.map_err(|error| error.to_string())
    }

    /// The bytes of all numbers in the order of the axes.
    fn gather(&self, storage: &[u8]) -> Vec<u8> {
        let (width, count) = (self.element.width(), self.len());
        let mut raw = Vec::with_capacity(count * width);
        let mut index = vec![0; self.shape.len()];
        let mut place = self.offset;
        for _ in 0..count {
            raw.extend_from_slice(&storage[place * width..(place + 1) * width]);
            for axis in (0..index.len()).rev() {
                (index[axis], place) = (index[axis] + 1, place + self.strides[axis]);
                if index[axis] < self.shape[axis] {
                    break;
                }
                (index[axis], place) = (0, place - self.shape[axis] * self.strides[axis]);
            }
        }
        raw
    }

    /// A little-endian whole number of up to 8 bytes.
    fn whole(&self, raw: &[u8]) -> Option<i64> {
        let signed = matches!(self.element, Element::I8 | Element::I16 | Element::I32);
        let negative = signed && raw.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..raw.len()].copy_from_slice(raw);
        let value = i64::from_le_bytes(wide);
        (signed || value >= 0).then_some(value)
    }

    /// A float of 8 bits: sign, exponent and mantissa (Micikevicius et al. 2022).
    fn small(&self, byte: u8) -> f32 {
        let (bits, bias) = if self.element == Element::F8E4M3 { (3, 7) } else { (2, 15) };
        let (exponent, mantissa) = (i32::from(byte & 0x7f) >> bits, byte & ((1 << bits) - 1));
        let fraction = f32::from(mantissa) / (1 << bits) as f32;
        let size = match (self.element, exponent, mantissa) {
            (Element::F8E4M3, 15, 7) => f32::NAN,
            (Element::F8E5M2, 31, 0) => f32::INFINITY,
            (Element::F8E5M2, 31, _) => f32::NAN,
            (_, 0, _) => fraction * 2f32.powi(1 - bias),
            _ => (1.0 + fraction) * 2f32.powi(exponent - bias),
        };
        if byte & 0x80 == 0 { size } else { -size }
    }
}

fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[usize], strides: &[i64], offset: i64) -> Result<Vec<u8>, String> {
        let stored = Stored::strided(Element::U8, 1..7, shape.to_vec(), strides, offset)?;
        Ok(stored.read(&[9, 0, 1, 2, 3, 4, 5, 9])?.flatten_all().unwrap().to_vec1().unwrap())
    }

    #[test]
    fn strides_are_followed_and_stay_inside() {
        assert_eq!(view(&[2, 3], &[1, 2], 0).unwrap(), [0, 2, 4, 1, 3, 5]);
        assert_eq!(view(&[2, 2], &[0, 1], 4).unwrap(), [4, 5, 4, 5]);
        assert_eq!(view(&[], &[], 5).unwrap(), [5]);
        assert!(view(&[0, 7], &[9, 9], 9).unwrap().is_empty());
        let huge = usize::MAX / 2;
        for (sizes, strides, offset) in [
            (vec![2, 3], vec![3, 2], 0),
            (vec![2], vec![1], 5),
            (vec![2], vec![-1], 3),
            (vec![1], vec![1], -1),
            (vec![1 << 30, 1 << 30], vec![0, 0], 0),
            (vec![1 << 30], vec![0], 0),
            (vec![huge, 3], vec![i64::MAX, i64::MAX], i64::MAX),
            (vec![2, 3], vec![1], 0),
        ] {
            assert!(view(&sizes, &strides, offset).is_err(), "{sizes:?} {strides:?}");
        }
    }

    #[test]
    fn what_fills_its_storage_needs_no_strides() {
        let stored = Stored::contiguous(Element::F32, vec![2, 1], 0..8).unwrap();
        let bytes = [1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat();
        assert_eq!(stored.read(&bytes).unwrap().to_vec2::<f32>().unwrap(), [[1.5], [-2.0]]);
        assert!(stored.read(&bytes[..7]).is_err());
        assert!(Stored::contiguous(Element::F32, vec![2, 1], 0..9).is_err());
        assert!(Stored::contiguous(Element::F32, vec![usize::MAX, 2], 0..8).is_err());
    }

    #[test]
    fn whole_numbers_keep_their_sign() {
        let read = |element: Element, bytes: &[u8]| {
            let tensor = Stored::contiguous(element, vec![1], 0..bytes.len())?.read(bytes)?;
            Ok::<i64, String>(tensor.to_dtype(DType::I64).unwrap().to_vec1().unwrap()[0])
        };
        assert_eq!(read(Element::I8, &[0xff]).unwrap(), -1);
        assert_eq!(read(Element::U8, &[0xff]).unwrap(), 255);
        assert_eq!(read(Element::I16, &(-300i16).to_le_bytes()).unwrap(), -300);
        assert_eq!(read(Element::U16, &65_000u16.to_le_bytes()).unwrap(), 65_000);
        assert_eq!(read(Element::I64, &i64::MIN.to_le_bytes()).unwrap(), i64::MIN);
        assert_eq!(read(Element::Bool, &[7]).unwrap(), 1);
        assert_eq!(read(Element::U64, &u64::MAX.to_le_bytes()).unwrap_err(), "a whole number is too large");
    }

    /// The tables of the paper.
    #[test]
    fn floats_of_eight_bits() {
        let read = |element, byte| {
            let tensor = Stored::contiguous(element, vec![1], 0..1).unwrap().read(&[byte]).unwrap();
            tensor.to_vec1::<f32>().unwrap()[0]
        };
        let expected = [(0x7e, 448.0), (0x08, 2f32.powi(-6)), (0x01, 2f32.powi(-9)), (0xb8, -1.0), (0x80, 0.0)];
        expected.iter().for_each(|&(byte, value)| assert_eq!(read(Element::F8E4M3, byte), value, "{byte:#x}"));
        let expected = [(0x7b, 57_344.0), (0x04, 2f32.powi(-14)), (0x01, 2f32.powi(-16)), (0xfc, f32::NEG_INFINITY)];
        expected.iter().for_each(|&(byte, value)| assert_eq!(read(Element::F8E5M2, byte), value, "{byte:#x}"));
        assert!(read(Element::F8E4M3, 0xff).is_nan() && read(Element::F8E5M2, 0x7d).is_nan());
    }
}
