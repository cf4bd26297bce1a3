//! The parts of a program's JSON form that serde cannot derive.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fact::{Kind, MAX_ELEMENTS, element_count};
use crate::autodiff::{ParamSpace, ParamTensor};
use crate::vocabulary::ParamKind;

/// A float that may be infinite, which JSON has no number for.
pub(crate) mod number {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(f64),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match number.is_finite() {
            true => serializer.serialize_f64(*number),
            false => serializer.collect_str(number),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Number(number) => Ok(number),
            Form::Text(text) => text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not a number"))),
        }
    }
}

/// The space of the parameters: name, shape and kind of each.
pub(super) mod parameters {
    use serde::de::Error as _;

    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        name: String,
        shape: Vec<usize>,
        kind: ParamKind,
    }

    pub(in crate::program) fn serialize<S: Serializer>(space: &ParamSpace, serializer: S) -> Result<S::Ok, S::Error> {
        let form = |tensor: &ParamTensor| {
            let ParamTensor { name, shape, kind, .. } = tensor.clone();
            Form { name, shape, kind }
        };
        serializer.collect_seq(space.tensors().iter().map(form))
    }

    pub(in crate::program) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ParamSpace, D::Error> {
        let forms = Vec::<Form>::deserialize(deserializer)?;
        let mut total = 0;
        for Form { name, shape, .. } in &forms {
            total += element_count(shape).unwrap_or(MAX_ELEMENTS + 1);
            if total > MAX_ELEMENTS {
                let reason = format!("parameter `{name}` of shape {shape:?} makes the program too large");
                return Err(D::Error::custom(reason));
            }
        }
        Ok(ParamSpace::new(forms.into_iter().map(|Form { name, shape, kind }| (name, shape, kind))))
    }
}

/// Named tensors, their numbers as little-endian bytes in base64: f64, i64 for whole numbers, u8 for truth values.
pub(super) mod constants {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::ser::Error as _;

    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        name: String,
        dtype: Kind,
        shape: Vec<usize>,
        data: String,
    }

    pub(in crate::program) fn serialize<S: Serializer>(
        constants: &[(String, Tensor)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form = |(name, tensor): &(String, Tensor)| -> candle_core::Result<Form> {
            let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
            let (dtype, bytes) = match flat.dtype() {
                DType::U8 => (Kind::Truth, flat.to_vec1::<u8>()?),
                dtype if dtype.is_float() => {
                    let numbers = flat.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                    (Kind::Float, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
                }
                _ => {
                    let numbers = flat.to_dtype(DType::I64)?.to_vec1::<i64>()?;
                    (Kind::Whole, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
                }
            };
            Ok(Form { name: name.clone(), dtype, shape: tensor.dims().to_vec(), data: STANDARD.encode(bytes) })
        };
        let forms: candle_core::Result<Vec<Form>> = constants.iter().map(form).collect();
        forms.map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(in crate::program) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(String, Tensor)>, D::Error> {
        let read = |Form { name, dtype, shape, data }: Form| {
            let wrong = |reason: String| format!("constant `{name}`: {reason}");
            let bytes = STANDARD.decode(data).map_err(|error| wrong(error.to_string()))?;
            let width = if dtype == Kind::Truth { 1 } else { 8 };
            if element_count(&shape).and_then(|count| count.checked_mul(width)) != Some(bytes.len()) {
                return Err(wrong(format!("{} bytes do not make the shape {shape:?}", bytes.len())));
            }
            let numbers = bytes.as_chunks::<8>().0.iter();
            let tensor = match dtype {
                Kind::Float => Tensor::from_vec(numbers.map(|b| f64::from_le_bytes(*b)).collect(), shape, &Device::Cpu),
                Kind::Whole => Tensor::from_vec(numbers.map(|b| i64::from_le_bytes(*b)).collect(), shape, &Device::Cpu),
                Kind::Truth => Tensor::from_vec(bytes, shape, &Device::Cpu),
            };
            let tensor = tensor.map_err(|error| wrong(error.to_string()))?;
            Ok((name, tensor))
        };
        let forms = Vec::<Form>::deserialize(deserializer)?;
        forms.into_iter().map(read).collect::<Result<_, String>>().map_err(D::Error::custom)
    }
}
