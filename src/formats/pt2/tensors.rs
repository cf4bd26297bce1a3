//! The tensors of an archive: raw numbers with sizes, strides and offsets, all checked against the file.

use candle_core::{DType, Device, Tensor};

use super::schema::{Config, Payload, TensorMeta, int};
use crate::archive::Archive;
use crate::program::{Kind, element_count};

/// Numbers that a tensor may have beyond those of its storage, by repeating them.
const MAX_REPEATED: usize = 1 << 24;

/// One tensor, in the order of its axes.
pub(super) struct Stored {
    /// f64 for floats, i64 for whole numbers, u8 for truth values.
    pub(super) tensor: Tensor,
    /// The type of floats in the file.
    pub(super) dtype: DType,
    pub(super) requires_grad: bool,
    /// Entry, offset and strides: two names of one place are one tensor.
    pub(super) storage: (String, i64, Vec<i64>),
}

/// The weights or the constants of an archive.
pub(super) struct Tensors<'a> {
    archive: &'a Archive<'a>,
    folder: String,
    config: Config,
}

impl<'a> Tensors<'a> {
    /// `kind` is `weights` or `constants`; an archive without any has none.
    pub(super) fn open(archive: &'a Archive<'a>, top: &str, kind: &str) -> Result<Self, String> {
        let folder = format!("{top}/data/{kind}");
        let name = format!("{folder}/model_{kind}_config.json");
        if !archive.names().any(|entry| entry == name) {
            let pickled = archive.names().any(|entry| entry.starts_with(&folder));
            return match pickled {
                true => Err(format!("its {kind} are pickled, as PyTorch before 2.9 wrote them")),
                false => Ok(Self { archive, folder, config: Config::default() }),
            };
        }
        let config = serde_json::from_slice(archive.entry(&name)?).map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { archive, folder, config })
    }

    /// A tensor by its name; `None` where there is none.
    pub(super) fn get(&self, name: &str) -> Result<Option<Stored>, String> {
        let Some(payload) = self.config.config.get(name) else { return Ok(None) };
        self.read(payload).map(Some).map_err(|reason| format!("tensor `{name}`: {reason}"))
    }

    fn read(&self, payload: &Payload) -> Result<Stored, String> {
        let meta = payload.tensor_meta.as_ref().filter(|_| !payload.use_pickle).ok_or("it is pickled")?;
        let bytes = self.archive.entry(&format!("{}/{}", self.folder, payload.path_name))?;
        let sizes = sizes(meta)?;
        let strides: Vec<i64> = meta.strides.iter().map(int).collect::<Result<_, _>>()?;
        let offset = int(&meta.storage_offset)?;
        let (dtype, width) = dtype(meta.dtype)?;
        let places = places(&sizes, &strides, offset, bytes.len() / width)?;
        let at = |place: usize| &bytes[place * width..(place + 1) * width];
        let device = Device::Cpu;
        let made = match (meta.kind()?, dtype) {
            (Kind::Truth, _) => {
                Tensor::from_vec(places.iter().map(|&p| u8::from(at(p)[0] != 0)).collect::<Vec<_>>(), sizes, &device)
            }
            (Kind::Whole, None) => {
                let signed = meta.dtype != 1;
                let ints: Vec<i64> = places.iter().map(|&place| whole(at(place), signed)).collect();
                Tensor::from_vec(ints, sizes, &device)
            }
            (_, Some(dtype)) => {
                let raw: Vec<u8> = places.iter().flat_map(|&place| at(place)).copied().collect();
                Tensor::from_raw_buffer(&raw, dtype, &sizes, &device).and_then(|tensor| tensor.to_dtype(DType::F64))
            }
            (Kind::Float, None) => return Err("its type is not supported".into()),
        };
        let storage = (payload.path_name.clone(), offset, strides);
        let tensor = made.map_err(|error| error.to_string())?;
        Ok(Stored { tensor, dtype: dtype.unwrap_or(DType::F32), requires_grad: meta.requires_grad, storage })
    }
}

/// Sizes that do not depend on the rows.
pub(super) fn sizes(meta: &TensorMeta) -> Result<Vec<usize>, String> {
    let size = |value| usize::try_from(int(value)?).map_err(|_| "a size is negative".to_owned());
    let sizes: Vec<usize> = meta.sizes.iter().map(size).collect::<Result<_, _>>()?;
    match element_count(&sizes) {
        Some(_) => Ok(sizes),
        None => Err(format!("its shape {sizes:?} is too large")),
    }
}

/// Candle's type of floats, and the bytes of a number.
fn dtype(code: u64) -> Result<(Option<DType>, usize), String> {
    match code {
        1 | 2 | 12 => Ok((None, 1)),
        3 => Ok((None, 2)),
        4 => Ok((None, 4)),
        5 => Ok((None, 8)),
        6 => Ok((Some(DType::F16), 2)),
        7 => Ok((Some(DType::F32), 4)),
        8 => Ok((Some(DType::F64), 8)),
        13 => Ok((Some(DType::BF16), 2)),
        _ => Err(format!("numbers of type {code} are not supported")),
    }
}

/// A little-endian whole number of up to 8 bytes.
fn whole(bytes: &[u8], signed: bool) -> i64 {
    let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}

/// Where each number lies among the `stored` ones, in the order of the axes.
fn places(sizes: &[usize], strides: &[i64], offset: i64, stored: usize) -> Result<Vec<usize>, String> {
    let outside = || "it reaches past the numbers in the file".to_owned();
    let offset = usize::try_from(offset).map_err(|_| outside())?;
    let strides: Vec<usize> =
        strides.iter().map(|&stride| usize::try_from(stride).ok()).collect::<Option<_>>().ok_or_else(outside)?;
    if sizes.len() != strides.len() {
        return Err("it has more or fewer strides than sizes".into());
    }
    let count = element_count(sizes).ok_or_else(outside)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let reach = sizes
        .iter()
        .zip(&strides)
        .try_fold(offset, |reach, (size, stride)| reach.checked_add((size - 1).checked_mul(*stride)?));
    if reach.is_none_or(|reach| reach >= stored) || count > stored.saturating_add(MAX_REPEATED) {
        return Err(outside());
    }
    let mut places = vec![offset];
    for (&size, &stride) in sizes.iter().zip(&strides) {
        places = places.iter().flat_map(|place| (0..size).map(move |entry| place + entry * stride)).collect();
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_followed_and_stay_inside() {
        assert_eq!(places(&[2, 3], &[1, 2], 0, 6).unwrap(), [0, 2, 4, 1, 3, 5]);
        assert_eq!(places(&[2, 2], &[0, 1], 4, 6).unwrap(), [4, 5, 4, 5]);
        assert_eq!(places(&[], &[], 5, 6).unwrap(), [5]);
        assert!(places(&[0, 7], &[9, 9], 9, 0).unwrap().is_empty());
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
            assert!(places(&sizes, &strides, offset, 6).is_err(), "{sizes:?} {strides:?}");
        }
    }

    #[test]
    fn whole_numbers_keep_their_sign() {
        assert_eq!(whole(&[0xff], true), -1);
        assert_eq!(whole(&[0xff], false), 255);
        assert_eq!(whole(&(-300i16).to_le_bytes(), true), -300);
        assert_eq!(whole(&i64::MIN.to_le_bytes(), true), i64::MIN);
    }
}
