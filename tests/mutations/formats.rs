//! What is read: good files of every kind, and how each is read.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use flatness::Result;
use flatness::checkpoint::{AdamState, Checkpoint, TensorFile};
use flatness::data::{DataSpec, LabelNoise, RowRange, Split};
use flatness::experiment::Experiment;
use flatness::formats::Architecture;
use flatness::objective::{Execution, Objective, ObjectiveOptions};
use flatness::program::Loss;
use flatness::vocabulary::Scope;
use image::{DynamicImage, ImageFormat};
use polars_core::prelude::{Column, DataFrame, IntoColumn, NamedFrom, Series, StructChunked};
use polars_io::prelude::ParquetWriter;

use super::mutate::zip;

/// A kind of file.
pub struct Format {
    pub name: &'static str,
    /// Where a file of the kind lies in the folder.
    pub file: &'static str,
    /// Files to damage; the first `good` ones are whole, others broke the program once.
    pub seeds: Vec<Vec<u8>>,
    pub good: usize,
    /// Files that lie beside it.
    pub beside: Vec<(&'static str, Vec<u8>)>,
    /// Reads the folder, as a command would.
    pub read: fn(&Path) -> Result<()>,
}

impl Format {
    fn new(name: &'static str, file: &'static str, seeds: Vec<Vec<u8>>, read: fn(&Path) -> Result<()>) -> Self {
        assert!(!seeds.is_empty());
        Self { name, file, good: seeds.len(), seeds, beside: Vec::new(), read }
    }

    /// With files that once broke the program, where they are there.
    fn once(mut self, names: &[&str]) -> Self {
        let folder = root().join("../shared/hostile");
        self.seeds.extend(names.iter().filter_map(|name| std::fs::read(folder.join(name)).ok()));
        self
    }

    fn beside(mut self, name: &'static str, bytes: Vec<u8>) -> Self {
        self.beside.push((name, bytes));
        self
    }

    /// A new folder with what lies beside.
    pub fn folder(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in self.beside.iter().map(|(name, _)| *name).chain([self.file]) {
            std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        }
        self.beside.iter().for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes).unwrap());
        folder
    }
}

/// The repository, also from within `fuzz`.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if here.ends_with("fuzz") { here.join("..") } else { here.into() }
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

fn fixtures(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| std::fs::read(fixture(name)).unwrap()).collect()
}

/// Two rows of a source.
fn load(source: &str, folder: &Path, change: impl Fn(&mut DataSpec)) -> Result<()> {
    let mut spec = DataSpec::new(format!("{source}:{}", folder.display()).parse()?);
    spec.rows = Some(RowRange::new(0, 2)?);
    change(&mut spec);
    let data = spec.load()?;
    // Images are decoded when they are asked for.
    data.batch(&(0..data.len().min(2)).collect::<Vec<_>>(), DType::F32, &Device::Cpu)?;
    Ok(())
}

/// A gradient of the network on the rows.
fn differentiate(checkpoint: &Checkpoint, data: &Path) -> Result<()> {
    let data = DataSpec::new(format!("tensors:{}", data.display()).parse()?).load()?;
    let loss = checkpoint.network.about.loss.clone().unwrap_or(Loss::Mse {});
    let execution = Execution { threads: 1, memory_bytes: 256 << 20 };
    let options = ObjectiveOptions { execution, ..ObjectiveOptions::new(loss) };
    let objective = Objective::new(&checkpoint.network, &data, options)?;
    objective.gradient(&objective.place(&checkpoint.theta)?, &mut ())?;
    Ok(())
}

/// All formats.
pub fn formats() -> Vec<Format> {
    [weights(), networks(), data(), settings()].into_iter().flatten().collect()
}

pub fn weights() -> Vec<Format> {
    let every = |folder: &Path| {
        TensorFile::read(&folder.join("weights"))?.into_tensors()?;
        Ok(())
    };
    let torch = ["zip", "legacy", "protocol4", "strided", "dtypes", "training", "module"];
    let torch: Vec<String> = torch.iter().map(|name| format!("tensors/{name}.pth")).collect();
    let mut torch = fixtures(&torch.iter().map(String::as_str).collect::<Vec<_>>());
    torch.extend(fixtures(&["tensors/numpy2.pkl", "tensors/numpy4.pkl", "tensors/numpy5.pkl"]));
    let index = br#"{"metadata": {"total_size": 8}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}"#;
    let shard = |name: &str| {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &1f32.to_le_bytes()].concat()
    };
    let state: fn(&Path) -> Result<()> = |folder| {
        let architecture = Architecture::read(&root().join("tests/fixtures/mlp-tanh-ce/model.json"))?;
        let checkpoint =
            Checkpoint::read(&root().join("tests/fixtures/mlp-tanh-ce/weights.safetensors"), Some(architecture))?;
        let state = AdamState::read(Some(&folder.join("optimizer.pth")), &checkpoint)?;
        state.preconditioner(checkpoint.network.space(), &Scope::All)?;
        Ok(())
    };
    vec![
        Format::new("optimizer", "optimizer.pth", fixtures(&["adam/training.pth", "adam/named.pth"]), state),
        Format::new("torch", "weights", torch, every).once(&["laughs.pth", "huge.pth", "emptyargs.pth"]),
        Format::new("safetensors", "weights", fixtures(&["mlp-tanh-ce/weights.safetensors"]), every).once(&[
            "escape.safetensors",
            "scalar-vectors.safetensors",
            "nan-vectors.safetensors",
        ]),
        Format::new("index", "model.safetensors.index.json", vec![index.to_vec()], |folder| {
            TensorFile::read(folder)?.into_tensors()?;
            Ok(())
        })
        .beside("a.safetensors", shard("a"))
        .beside("b.safetensors", shard("b")),
    ]
}

pub fn networks() -> Vec<Format> {
    let read: fn(&Path) -> Result<()> = |folder| {
        let checkpoint = Checkpoint::read(&folder.join("net.pt2"), None)?;
        differentiate(&checkpoint, &folder.join("data.safetensors"))
    };
    let mut formats = vec![Format::new(
        "old-export",
        "net.pt2",
        fixtures(&["tensors/export-2.5.pt2", "tensors/export-2.8.pt2"]),
        |folder| {
            Checkpoint::read(&folder.join("net.pt2"), None)?;
            Ok(())
        },
    )];
    for (name, folder) in
        [("export-indices", "indices"), ("export-images", "images"), ("export-sequences", "sequences")]
    {
        let seed = fixtures(&[&format!("programs/{folder}/net.pt2")]);
        let data = fixtures(&[&format!("programs/{folder}/data.safetensors")]).remove(0);
        formats.push(Format::new(name, "net.pt2", seed, read).beside("data.safetensors", data));
    }
    for (name, folder) in [("layers-mlp", "mlp-tanh-ce"), ("layers-cnn", "cnn-bn-relu-ce"), ("layers-vit", "vit-tiny")]
    {
        let [weights, data] =
            ["weights", "data"].map(|file| fixtures(&[&format!("{folder}/{file}.safetensors")]).remove(0));
        let read: fn(&Path) -> Result<()> = |folder| {
            let architecture = Architecture::read(&folder.join("model.json"))?;
            let checkpoint = Checkpoint::read(&folder.join("weights.safetensors"), Some(architecture))?;
            differentiate(&checkpoint, &folder.join("data.safetensors"))
        };
        let format = Format::new(name, "model.json", fixtures(&[&format!("{folder}/model.json")]), read);
        formats.push(
            format.once(&["stride/m.json"]).beside("weights.safetensors", weights).beside("data.safetensors", data),
        );
    }
    formats
}

/// A picture in every format that is read.
fn pictures() -> Vec<Vec<u8>> {
    use ImageFormat::*;
    let picture =
        DynamicImage::ImageRgb8(image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 7, y as u8, 9])));
    let written = [Png, Jpeg, WebP, Bmp, Tiff, Gif].into_iter().map(|format| {
        let mut file = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut file, format).unwrap();
        file.into_inner()
    });
    written.collect()
}

fn parquet(columns: Vec<Column>) -> Vec<u8> {
    let mut frame = DataFrame::new(columns[0].len(), columns).unwrap();
    let mut file = std::io::Cursor::new(Vec::new());
    ParquetWriter::new(&mut file).finish(&mut frame).unwrap();
    file.into_inner()
}

/// Idx files of two 28 x 28 images and their labels, plain or packed.
fn idx(packed: bool) -> [Vec<u8>; 2] {
    use std::io::Write;
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28][..], &[7; 2 * 784]].concat();
    let labels = vec![0, 0, 8, 1, 0, 0, 0, 2, 3, 4];
    [images, labels].map(|bytes| {
        if !packed {
            return bytes;
        }
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(&bytes).unwrap();
        out.finish().unwrap()
    })
}

/// An array of NumPy: `[2, 3]` floats, or two classes.
fn npy(classes: bool) -> Vec<u8> {
    let (dtype, shape, numbers) = if classes { ("<i8", "(2,)", vec![0; 16]) } else { ("<f4", "(2, 3)", vec![0; 24]) };
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &numbers].concat()
}

pub fn data() -> Vec<Format> {
    let [images, labels] = idx(false);
    let [packed, packed_labels] = idx(true);
    let mnist: fn(&Path) -> Result<()> = |folder| load("mnist", folder, |_| {});
    let images_folder: fn(&Path) -> Result<()> = |folder| load("images", folder, |spec| spec.image_size = Some(32));
    let skipping: fn(&Path) -> Result<()> =
        |folder| load("images", folder, |spec| (spec.image_size, spec.skip_broken) = (Some(32), true));
    let bytes = Series::new("bytes".into(), [&pictures()[0][..], &pictures()[0]].as_slice());
    let names = Series::new("path".into(), ["a.png", "b.png"]);
    let img = StructChunked::from_series("img".into(), 2, [bytes, names].iter()).unwrap().into_column();
    let rows = parquet(vec![img, Column::new("label".into(), [3i64, 9])]);
    let human = parquet(vec![Column::new("clean".into(), [3i64, 9]), Column::new("worse".into(), [3i64, 1])]);
    let records: Vec<u8> = [3, 9].into_iter().flat_map(|label| [vec![label], vec![7; 3072]].concat()).collect();
    let cifar: fn(&Path) -> Result<()> = |folder| load("cifar10", folder, |_| {});
    let tensors: fn(&Path) -> Result<()> = |folder| load("tensors", &folder.join("data.safetensors"), |_| {});
    let noisy: fn(&Path) -> Result<()> = |folder| {
        load("tensors", &folder.join("data.safetensors"), |spec| {
            spec.noise = "instance:0.2".parse::<LabelNoise>().ok();
        })
    };
    let archive = zip(&[("x.npy".into(), npy(false)), ("y.npy".into(), npy(true))]);
    vec![
        Format::new("idx-images", "train-images-idx3-ubyte", vec![images.clone()], mnist)
            .beside("train-labels-idx1-ubyte", labels.clone()),
        Format::new("idx-labels", "train-labels-idx1-ubyte", vec![labels], mnist)
            .beside("train-images-idx3-ubyte", images),
        Format::new("gzip", "train-images-idx3-ubyte.gz", vec![packed], mnist)
            .beside("train-labels-idx1-ubyte.gz", packed_labels),
        Format::new("picture", "train/a/a.png", pictures(), images_folder)
            .once(&["jpeg-hang/train/a/x.jpg", "png-palette/train/a/x.png"])
            .beside("train/b/b.png", pictures().remove(0)),
        Format::new("picture-skipped", "train/a/a.png", pictures(), skipping)
            .once(&["jpeg-hang/train/a/x.jpg", "png-palette/train/a/x.png"])
            .beside("train/b/b.png", pictures().remove(0))
            .beside("train/b/c.png", pictures().remove(1)),
        Format::new("parquet", "train-0.parquet", vec![rows], cifar).once(&["parquet-page/train-0.parquet"]),
        Format::new("records", "data_batch_1.bin", vec![records.clone()], cifar),
        Format::new("labels-parquet", "cifar10n.parquet", vec![human], |folder| {
            load("cifar10", folder, |spec| spec.labels = "cifar10n:worse".parse().ok())
        })
        .once(&["labels-page/l.parquet"])
        .beside("data_batch_1.bin", records),
        Format::new("tensors", "data.safetensors", fixtures(&["mlp-tanh-ce/data.safetensors"]), tensors),
        Format::new("noisy-tensors", "data.safetensors", fixtures(&["mlp-tanh-ce/data.safetensors"]), noisy)
            .once(&["instance-noise.safetensors"]),
        Format::new("npz", "data.npz", vec![archive], |folder| load("tensors", &folder.join("data.npz"), |_| {})),
        Format::new("npy", "x.npy", vec![npy(false)], |folder| load("tensors", folder, |_| {}))
            .beside("y.npy", npy(true)),
        Format::new("tokens", "tokens.npy", vec![npy(true)], |folder| {
            let source = format!("tokens:{},context=1", folder.join("tokens.npy").display());
            DataSpec { split: Split::Train, ..DataSpec::new(source.parse()?) }.load()?;
            Ok(())
        }),
    ]
}

pub fn settings() -> Vec<Format> {
    let folder = root().join("experiments");
    let files = ["noisy-labels.toml", "coupling.toml", "wasserstein.toml"];
    let experiments: Vec<Vec<u8>> = files.iter().map(|name| std::fs::read(folder.join(name)).unwrap()).collect();
    vec![
        Format::new("experiment", "e.toml", experiments, |folder| {
            let experiment = Experiment::read(&folder.join("e.toml"), None)?;
            let _ = experiment.cells();
            Ok(())
        })
        .once(&["grid.toml"]),
    ]
}
