//! Rows from tensors by name: the inputs, and the targets `y`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};

use super::arrays::with_tensors;
use super::kind::{Kind, is_a_path};
use super::npy::{self, Array};
use super::request::Request;
use super::table::Table;
use crate::data::{Column, DataError, DataResult, Inputs, Targets, files};

/// Tensors by name, inputs and `y`: a `.safetensors` or `.npz` file, or a folder of `.npy` files.
///
/// The inputs are f32 or f64 (f16 and bf16 are widened), u8 (image bytes, meaning `b / 255`) or other whole numbers
/// (tokens), of shape `[N, …]`; `y` has classes `[N]`, several for each row `[N, …]`, or real targets `[N, …]`; truth
/// values are 0 and 1. There are as many classes as the largest label plus 1. `x` is the first input; without it, the
/// first by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensors(pub PathBuf);

impl Kind for Tensors {
    fn about() -> &'static str {
        "a .safetensors or .npz file, or a folder of .npy files, with the inputs and `y`"
    }

    is_a_path!();

    fn has_test_split(&self) -> bool {
        false
    }

    fn open(&self, request: &Request) -> DataResult<Table> {
        with_tensors(&self.0, |tensors| match tensors.contains_key("y") || !request.unlabelled {
            true => table(&self.0, &tensors),
            false => unlabelled(&self.0, &tensors),
        })
    }
}

pub(in crate::data) fn table(path: &Path, tensors: &BTreeMap<String, TensorView<'_>>) -> DataResult<Table> {
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).filter(|name| *name != "y").collect();
    names.sort_unstable_by_key(|name| (*name != "x", *name));
    let x = Named::find(path, tensors, names.first().copied().unwrap_or("x"))?;
    let y = Named::find(path, tensors, "y")?;
    let inputs = x.inputs()?;
    let targets = y.targets()?;
    let mut more = Vec::new();
    for name in names.iter().skip(1) {
        let column = Named::find(path, tensors, name)?;
        // Tensors without a row for each target may serve another purpose.
        if column.view.shape().first() == Some(&targets.len()) && column.view.shape().len() > 1 {
            let sample_shape = column.view.shape()[1..].to_vec();
            more.push(Column { name: (*name).into(), sample_shape, inputs: column.inputs()? });
        }
    }
    let num_inputs = x.view.shape()[0];
    if num_inputs != targets.len() {
        let path = path.to_path_buf();
        return Err(DataError::LengthMismatch { path, inputs: num_inputs, targets: targets.len() });
    }
    let sample_shape = x.view.shape()[1..].to_vec();
    let table = Table::in_memory(sample_shape, targets, inputs);
    Ok(Table { input_name: Some(x.name.into()), more, ..table })
}

/// The first inputs alone, with a label that stands for none.
fn unlabelled(path: &Path, tensors: &BTreeMap<String, TensorView<'_>>) -> DataResult<Table> {
    let first = tensors.keys().map(String::as_str).min_by_key(|name| (*name != "x", *name));
    let x = Named::find(path, tensors, first.unwrap_or("x"))?;
    let (inputs, shape) = (x.inputs()?, x.view.shape());
    let targets = Targets::Classes { labels: vec![0; shape[0]], num_classes: 1 };
    Ok(Table { input_name: Some(x.name.into()), ..Table::in_memory(shape[1..].to_vec(), targets, inputs) })
}

/// The numbers of a one-dimensional `.npy` file, such as weights of classes.
///
/// # Errors
/// A file that is missing or damaged, or does not hold a list of finite floats or whole numbers.
pub(crate) fn read_weights(path: &Path) -> crate::Result<Vec<f64>> {
    let bytes = files::read(path, "a .npy file, or numbers with | between")?;
    let array = Array::parse(&bytes).map_err(|reason| npy::corrupt(path, reason))?;
    let view = array.view().map_err(|reason| npy::corrupt(path, reason))?;
    let tensor = Named { path, name: "weights", view };
    let wrong = || tensor.wrong("numbers of shape [classes]");
    let values = tensor.reals().filter(|_| tensor.view.shape().len() == 1).ok_or_else(wrong)?;
    Ok(tensor.finite(values)?)
}

/// A tensor of the file, with what an error needs to name it.
struct Named<'a> {
    path: &'a Path,
    name: &'a str,
    view: TensorView<'a>,
}

impl<'a> Named<'a> {
    fn find(path: &'a Path, tensors: &'a BTreeMap<String, TensorView<'a>>, name: &'a str) -> DataResult<Self> {
        let view = tensors.get(name).cloned().ok_or_else(|| {
            let names: Vec<_> = tensors.keys().map(|name| format!("`{name}`")).collect();
            let found = if names.is_empty() { "none".to_string() } else { names.join(", ") };
            DataError::NoTensor { path: path.to_path_buf(), name: name.into(), found }
        })?;
        Ok(Self { path, name, view })
    }

    fn inputs(&self) -> DataResult<Inputs> {
        let expected = "f32, f64, f16, bf16 or u8 of shape [N, ...] without empty axes";
        if self.view.shape().len() < 2 || self.view.shape()[1..].contains(&0) {
            return Err(self.wrong(expected));
        }
        match self.view.dtype() {
            Dtype::U8 => Ok(Inputs::Bytes(self.view.data().to_vec())),
            Dtype::F64 => Ok(Inputs::Float64(self.finite(self.numbers(f64::from_le_bytes))?)),
            _ if self.is_whole() => Ok(Inputs::Whole(self.whole()?)),
            _ => Ok(Inputs::Float32(self.finite(self.floats().ok_or_else(|| self.wrong(expected))?)?)),
        }
    }

    fn targets(&self) -> DataResult<Targets> {
        let expected = "whole numbers, truth values or floats of shape [N, ...] without empty axes";
        let [_, sample_shape @ ..] = self.view.shape() else { return Err(self.wrong(expected)) };
        if sample_shape.contains(&0) {
            return Err(self.wrong(expected));
        }
        if self.is_whole() {
            let labels = self.whole()?;
            return Ok(if sample_shape.is_empty() { classes(labels) } else { tokens(labels, sample_shape) });
        }
        let values = self.reals().ok_or_else(|| self.wrong(expected))?;
        Ok(Targets::Values { values: self.finite(values)?, sample_shape: sample_shape.to_vec() })
    }

    /// Entries of a tensor of floats or whole numbers.
    fn reals(&self) -> Option<Vec<f64>> {
        match self.view.dtype() {
            Dtype::F64 => Some(self.numbers(f64::from_le_bytes)),
            _ if self.is_whole() => Some(self.whole().ok()?.into_iter().map(|value| value as f64).collect()),
            _ => Some(self.floats()?.into_iter().map(f64::from).collect()),
        }
    }

    /// All entries, read with `convert` from their little-endian bytes.
    fn numbers<T, const WIDTH: usize>(&self, convert: impl Fn([u8; WIDTH]) -> T) -> Vec<T> {
        self.view.data().as_chunks().0.iter().map(|&bytes| convert(bytes)).collect()
    }

    fn is_whole(&self) -> bool {
        use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
        [BOOL, U8, I8, U16, I16, U32, I32, U64, I64].contains(&self.view.dtype())
    }

    /// Whole numbers that fit 64 bits.
    fn whole(&self) -> DataResult<Vec<i64>> {
        let too_large = || self.wrong("whole numbers below 2^63");
        Ok(match self.view.dtype() {
            Dtype::U8 | Dtype::BOOL => self.numbers(|bytes| u8::from_le_bytes(bytes).into()),
            Dtype::I8 => self.numbers(|bytes| i8::from_le_bytes(bytes).into()),
            Dtype::U16 => self.numbers(|bytes| u16::from_le_bytes(bytes).into()),
            Dtype::I16 => self.numbers(|bytes| i16::from_le_bytes(bytes).into()),
            Dtype::U32 => self.numbers(|bytes| u32::from_le_bytes(bytes).into()),
            Dtype::I32 => self.numbers(|bytes| i32::from_le_bytes(bytes).into()),
            Dtype::I64 => self.numbers(i64::from_le_bytes),
            _ => {
                let entries = self.view.data().as_chunks().0.iter();
                let fits = |&bytes: &[u8; 8]| i64::try_from(u64::from_le_bytes(bytes)).map_err(|_| too_large());
                entries.map(fits).collect::<DataResult<_>>()?
            }
        })
    }

    /// Entries of a float tensor of at most 32 bits.
    fn floats(&self) -> Option<Vec<f32>> {
        let half = |dtype| {
            let tensor = Tensor::from_raw_buffer(self.view.data(), dtype, self.view.shape(), &Device::Cpu).ok()?;
            tensor.to_dtype(DType::F32).ok()?.flatten_all().ok()?.to_vec1().ok()
        };
        match self.view.dtype() {
            Dtype::F32 => Some(self.numbers(f32::from_le_bytes)),
            Dtype::F16 => half(DType::F16),
            Dtype::BF16 => half(DType::BF16),
            _ => None,
        }
    }

    fn finite<T: Copy + Into<f64>>(&self, values: Vec<T>) -> DataResult<Vec<T>> {
        let width: usize = self.view.shape()[1..].iter().product();
        match values.iter().position(|&value| !value.into().is_finite()) {
            Some(place) => Err(DataError::NonFinite {
                path: self.path.to_path_buf(),
                name: self.name.into(),
                row: place / width.max(1),
                value: values[place].into(),
            }),
            None => Ok(values),
        }
    }

    fn wrong(&self, expected: &'static str) -> DataError {
        DataError::WrongTensor {
            path: self.path.to_path_buf(),
            name: self.name.into(),
            dtype: format!("{:?}", self.view.dtype()).to_lowercase(),
            shape: self.view.shape().to_vec(),
            expected,
        }
    }
}

/// Several labels for each row, or labels of which some are not classes.
fn tokens(labels: Vec<i64>, sample_shape: &[usize]) -> Targets {
    let num_classes = labels.iter().max().map_or(0, |&largest| largest.max(-1).saturating_add(1) as usize);
    Targets::Tokens { labels, sample_shape: sample_shape.to_vec(), num_classes }
}

fn classes(labels: Vec<i64>) -> Targets {
    match labels.iter().map(|&label| u32::try_from(label)).collect::<Result<Vec<_>, _>>() {
        Ok(labels) => {
            let num_classes = labels.iter().max().map_or(0, |&largest| largest as usize + 1);
            Targets::Classes { labels, num_classes }
        }
        Err(_) => tokens(labels, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::npy::tests::npy;
    use super::*;
    use crate::data::testing::damaged;
    use crate::data::{DataSpec, Dataset, Split};
    use std::collections::HashMap;

    fn write(path: &Path, x: &Tensor, y: &Tensor) {
        let tensors = HashMap::from([("x".to_string(), x.clone()), ("y".to_string(), y.clone())]);
        candle_core::safetensors::save(&tensors, path).unwrap();
    }

    fn load(x: &Tensor, y: &Tensor) -> crate::Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toy.safetensors");
        write(&path, x, y);
        DataSpec::new(Tensors(path).into()).load()
    }

    fn tensor<T: candle_core::WithDType>(values: &[T], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn every_width_of_float_and_integer_is_read() {
        let x = tensor(&[0.5f64, -1.0, 2.0, 0.0, 1.5, 3.0], &[3, 2]);
        let y = tensor(&[2i64, 0, 4], &[3]);
        let expected = load(&x, &y).unwrap();
        assert_eq!((expected.sample_shape.as_slice(), expected.num_classes()), (&[2][..], Some(5)));
        for x_dtype in [DType::F16, DType::BF16, DType::F32] {
            for y_dtype in [DType::U8, DType::U32, DType::I32, DType::I16] {
                let data = load(&x.to_dtype(x_dtype).unwrap(), &y.to_dtype(y_dtype).unwrap()).unwrap();
                assert_eq!((&data.sha256, &data.targets), (&expected.sha256, &expected.targets));
            }
        }
        let bytes = load(&tensor(&[0u8, 1, 2, 3, 4, 5], &[3, 2]), &y).unwrap();
        assert_eq!(bytes.inputs, Inputs::Bytes(vec![0, 1, 2, 3, 4, 5]));
        let real = load(&x, &tensor(&[0.5f32, 1.0, 2.0], &[3, 1])).unwrap();
        assert_eq!(real.targets, Targets::Values { values: vec![0.5, 1.0, 2.0], sample_shape: vec![1] });
        let flat = load(&x, &tensor(&[0.5f32, 1.0, 2.0], &[3])).unwrap();
        assert_eq!(flat.targets, Targets::Values { values: vec![0.5, 1.0, 2.0], sample_shape: vec![] });
        // Which label stands for none is the loss's to say.
        let some = load(&x, &tensor(&[0i64, -1, 2], &[3])).unwrap();
        assert_eq!(some.targets, Targets::Tokens { labels: vec![0, -1, 2], sample_shape: vec![], num_classes: 3 });
    }

    #[test]
    fn unusable_values_are_named_with_their_row() {
        let x = tensor(&[0.5f32, -1.0, 2.0, 0.0], &[2, 2]);
        let y = tensor(&[1i64, 0], &[2]);
        let text = |x: &Tensor, y: &Tensor| load(x, y).unwrap_err().to_string();
        assert!(text(&tensor(&[0.0f32, 0.0, 0.0, f32::NAN], &[2, 2]), &y).ends_with("`x` has the value NaN in row 1"));
        assert!(text(&x, &tensor(&[0.0, f64::INFINITY], &[2, 1])).ends_with("`y` has the value inf in row 1"));
        assert!(text(&x, &tensor(&[0i64, 1, 2], &[3])).contains("2 inputs but 3 targets"));
        let scalar = text(&x, &tensor(&[1i64], &[]));
        assert!(scalar.contains("`y` is i64 of shape [], but must be whole numbers"), "{scalar}");
        assert!(text(&tensor(&[0.0f32, 1.0], &[2]), &y).contains("`x` is f32 of shape [2]"));
    }

    #[test]
    fn tokens_and_several_inputs_are_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toy.safetensors");
        let tensors = HashMap::from([
            ("mask", tensor(&[1i64, 1, 1, 0], &[2, 2])),
            ("ids", tensor(&[5i64, 6, 7, 8], &[2, 2])),
            ("y", tensor(&[6i64, -100, 1, 2], &[2, 2])),
            // No row of it belongs to a row of the data.
            ("other", tensor(&[1.0f32], &[1])),
        ]);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let data = DataSpec::new(Tensors(path).into()).load().unwrap();
        assert_eq!((data.input_name.as_str(), &data.inputs), ("ids", &Inputs::Whole(vec![5, 6, 7, 8])));
        let mask = Column { name: "mask".into(), sample_shape: vec![2], inputs: Inputs::Whole(vec![1, 1, 1, 0]) };
        assert_eq!(data.columns, [mask]);
        assert_eq!(
            data.targets,
            Targets::Tokens { labels: vec![6, -100, 1, 2], sample_shape: vec![2], num_classes: 7 }
        );
        let second = data.select(&[1]).unwrap();
        assert_eq!(second.columns[0].inputs, Inputs::Whole(vec![1, 0]));
        assert_eq!(second.targets, Targets::Tokens { labels: vec![1, 2], sample_shape: vec![2], num_classes: 7 });
        assert_ne!(second.sha256, data.sha256);
    }

    #[test]
    fn missing_tensors_and_splits_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toy.safetensors");
        let save = |name: &str| {
            candle_core::safetensors::save(&HashMap::from([(name, tensor(&[0u8], &[1]))]), &path).unwrap();
        };
        let mut spec = DataSpec::new(Tensors(path.clone()).into());
        save("inputs");
        assert!(spec.load().unwrap_err().to_string().ends_with("has no tensor `y`; it has `inputs`"));
        save("y");
        assert!(spec.load().unwrap_err().to_string().ends_with("has no tensor `x`; it has `y`"));
        spec.split = Split::Test;
        assert!(spec.load().unwrap_err().to_string().ends_with("has no test split"));
    }

    #[test]
    fn damaged_files_never_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toy.safetensors");
        write(&path, &tensor(&[0.5f32, -1.0, 2.0, 0.0], &[2, 2]), &tensor(&[1i64, 0], &[2]));
        for bytes in damaged(&std::fs::read(&path).unwrap()) {
            std::fs::write(&path, bytes).unwrap();
            let _ = DataSpec::new(Tensors(path.clone()).into()).load();
        }
    }

    #[test]
    fn weights_are_a_list_of_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.npy");
        let save = |bytes: Vec<u8>| std::fs::write(&path, bytes).unwrap();
        save(npy("<f8", "False", "(2,)", &[0.5f64, 2.0].map(f64::to_le_bytes).concat()));
        assert_eq!(read_weights(&path).unwrap(), [0.5, 2.0]);
        save(npy("<i4", "False", "(2,)", &[3i32, 1].map(i32::to_le_bytes).concat()));
        assert_eq!(read_weights(&path).unwrap(), [3.0, 1.0]);
        save(npy("<f4", "False", "(1, 1)", &[0; 4]));
        assert!(read_weights(&path).unwrap_err().to_string().contains("of shape [1, 1]"));
    }
}
