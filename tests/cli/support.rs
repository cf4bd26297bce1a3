//! Runs a command line and looks at what it left.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock, Mutex};

use candle_core::{DType, Device, Tensor};
use flatness::cli::{Ui, run};
use tempfile::TempDir;

/// What a command said and how it ended.
pub struct Outcome {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// A writer whose text can be read afterwards.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs `flatness` with the arguments in `line`, which spaces separate.
pub fn flatness(line: &str) -> Outcome {
    with_flag(line, Arc::default())
}

/// The same; setting the flag is Ctrl-C.
pub fn with_flag(line: &str, flag: Arc<AtomicBool>) -> Outcome {
    let (out, err) = (Sink::default(), Sink::default());
    let mut ui = Ui::captured(Box::new(out.clone()), Box::new(err.clone()), flag);
    let arguments = std::iter::once("flatness").chain(line.split_whitespace());
    let code = run(arguments.map(Into::into), &mut ui);
    Outcome { code, out: out.text(), err: err.text() }
}

/// [`flatness`], which must succeed.
pub fn succeed(line: &str) -> Outcome {
    let outcome = flatness(line);
    assert_eq!(outcome.code, 0, "{line}\n{}{}", outcome.out, outcome.err);
    outcome
}

/// Exit code 2, one error that names `named`, and the hint (where one is expected) with `hint` in it.
pub fn assert_refused(line: &str, named: &str, hint: &str) {
    let Outcome { code, out, err } = flatness(line);
    assert_eq!(code, 2, "{line}\n{out}{err}");
    let errors: Vec<&str> = err.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "{line}\n{err}");
    assert!(err.contains(named), "{line}\nno `{named}` in\n{err}");
    let hints: Vec<&str> = err.lines().filter(|line| line.starts_with("hint:")).collect();
    if hint.is_empty() {
        assert!(hints.is_empty(), "{line}\nunexpected {hints:?}");
    } else {
        assert!(hints.len() == 1 && hints[0].contains(hint), "{line}\nno `{hint}` in\n{err}");
    }
    assert!(!err.contains("panicked") && !err.contains('\r') && out.is_empty(), "{line}\n{out}{err}");
}

/// Paths of all files under `folder`, hidden and temporary ones included.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

pub fn fixture(case: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(case).join(file)
}

/// Checkpoint, architecture and data of a fixture, as arguments.
pub fn fixture_arguments(case: &str) -> String {
    let path = |file| fixture(case, file).display().to_string();
    let (weights, model, data) = (path("weights.safetensors"), path("model.json"), path("data.safetensors"));
    format!("{weights} --arch {model} --data tensors:{data}")
}

/// Cheap settings of `analyze`.
pub const CHEAP: &str = "--probes 2 --steps 4 --plane-points 0 --slice-points 3 --threads 2";

/// `mlp:16` after one epoch on 32 glyphs.
pub fn checkpoint() -> &'static Path {
    static TRAINED: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small/checkpoint.safetensors");
        succeed(&format!("train {TRAINING} --out {}", path.parent().unwrap().display()));
        (folder, path)
    });
    &TRAINED.1
}

/// Arguments of a training that takes milliseconds.
pub const TRAINING: &str = "--model mlp:16 --data glyphs --rows 0..32 --epochs 1 --batch-size 16 --threads 2";

/// Writes a safetensors file.
pub fn write(path: &Path, tensors: &[(&str, &Tensor)]) {
    let tensors: HashMap<&str, Tensor> = tensors.iter().map(|(name, tensor)| (*name, (*tensor).clone())).collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

/// Entries 0, 1, 2, … of the given shape, in f64.
pub fn counting(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::arange(0.0, count as f64, &Device::Cpu).unwrap().reshape(shape).unwrap()
}

pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}
