//! Rows from tensors by name: the inputs, and the targets `y`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;

use super::arrays::{Entry, with_tensors};
use super::kind::{Kind, is_a_path};
use super::npy::{self, Array};
use super::request::Request;
use super::table::Table;
use crate::data::numbers::Numbers;
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

pub(in crate::data) fn table(path: &Path, tensors: &BTreeMap<String, Entry<'_>>) -> DataResult<Table> {
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).filter(|name| *name != "y").collect();
    names.sort_unstable_by_key(|name| (*name != "x", *name));
    let x = Named::find(path, tensors, names.first().copied().unwrap_or("x"))?;
    let y = Named::find(path, tensors, "y")?;
    let (inputs, targets) = (x.inputs()?, y.targets()?);
    let mut more = Vec::new();
    for name in names.iter().skip(1) {
        let column = Named::find(path, tensors, name)?;
        let shape = column.shape();
        // Tensors without a row for each target may serve another purpose.
        if shape.first() == Some(&targets.len()) && shape.len() > 1 {
            more.push(Column { name: (*name).into(), sample_shape: shape[1..].to_vec(), inputs: column.inputs()? });
        }
    }
    let num_inputs = x.shape()[0];
    if num_inputs != targets.len() {
        let path = path.to_path_buf();
        return Err(DataError::LengthMismatch { path, inputs: num_inputs, targets: targets.len() });
    }
    let table = Table::of_inputs(x.shape()[1..].to_vec(), targets, inputs);
    Ok(Table { input_name: Some(x.name.into()), more, ..table })
}

/// The first inputs alone, with a label that stands for none.
fn unlabelled(path: &Path, tensors: &BTreeMap<String, Entry<'_>>) -> DataResult<Table> {
    let first = tensors.keys().map(String::as_str).min_by_key(|name| (*name != "x", *name));
    let x = Named::find(path, tensors, first.unwrap_or("x"))?;
    let (inputs, shape) = (x.inputs()?, x.shape());
    let targets = Targets::Classes { labels: vec![0; shape[0]], num_classes: 1 };
    Ok(Table { input_name: Some(x.name.into()), ..Table::of_inputs(shape[1..].to_vec(), targets, inputs) })
}

/// The numbers of a one-dimensional `.npy` file, such as weights of classes.
///
/// # Errors
/// A file that is missing or damaged, or does not hold a list of finite floats or whole numbers.
pub(crate) fn read_weights(path: &Path) -> crate::Result<Vec<f64>> {
    let bytes = files::read(path, "a .npy file, or numbers with | between")?;
    let array = Array::parse(&bytes).map_err(|reason| npy::corrupt(path, reason))?;
    let view = array.view().map_err(|reason| npy::corrupt(path, reason))?;
    Ok(numbers(path, "weights", &view).list()?)
}

fn numbers<'a>(path: &'a Path, name: &'a str, view: &'a TensorView<'_>) -> Numbers<'a> {
    Numbers { path, name, dtype: view.dtype(), shape: view.shape(), bytes: view.data() }
}

/// A tensor of the file, with what an error needs to name it.
struct Named<'a> {
    path: &'a Path,
    name: &'a str,
    entry: &'a Entry<'a>,
}

impl<'a> Named<'a> {
    fn find(path: &'a Path, tensors: &'a BTreeMap<String, Entry<'_>>, name: &'a str) -> DataResult<Self> {
        let entry = tensors.get(name).ok_or_else(|| {
            let names: Vec<_> = tensors.keys().map(|name| format!("`{name}`")).collect();
            let found = if names.is_empty() { "none".to_string() } else { names.join(", ") };
            DataError::NoTensor { path: path.to_path_buf(), name: name.into(), found }
        })?;
        Ok(Self { path, name, entry })
    }

    fn shape(&self) -> &'a [usize] {
        match self.entry {
            Entry::Read(view) => view.shape(),
            Entry::Stored(rows) => rows.shape(),
        }
    }

    /// Rows of a file stay there.
    fn inputs(&self) -> DataResult<Inputs> {
        match self.entry {
            Entry::Read(view) => numbers(self.path, self.name, view).inputs(),
            Entry::Stored(rows) => rows.check_inputs().map(|()| Inputs::Stored(rows.clone())),
        }
    }

    fn targets(&self) -> DataResult<Targets> {
        match self.entry {
            Entry::Read(view) => numbers(self.path, self.name, view).targets(),
            Entry::Stored(rows) => rows.targets(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::npy::tests::npy;
    use super::*;
    use candle_core::{DType, Device, Tensor};

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
