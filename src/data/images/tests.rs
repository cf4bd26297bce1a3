use std::path::Path;

use super::*;
use crate::data::testing::MEMORY;
use crate::data::{
    Augmentation, DataSpec, Dataset, EpochPlan, Images, Inputs, Split, TargetBatch, Targets, with_batches,
};
use candle_core::{DType, Device};
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};

fn png(height: usize, width: usize, seed: usize) -> Vec<u8> {
    let pixels: Vec<u8> = (0..height * width * 3).map(|i| (i * (seed + 3) % 253) as u8).collect();
    let mut file = Vec::new();
    PngEncoder::new(&mut file).write_image(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8).unwrap();
    file
}

fn jpeg(height: usize, width: usize) -> Vec<u8> {
    let pixels: Vec<u8> = (0..height * width * 3).map(|i| (i % 200) as u8).collect();
    let mut file = Vec::new();
    JpegEncoder::new(&mut file).write_image(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8).unwrap();
    file
}

fn put(folder: &Path, path: &str, bytes: &[u8]) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Two classes: three cats and 40 dogs to train on, a dog to test on.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "train/dog/a.JPEG", &jpeg(40, 30));
    for i in 0..39 {
        put(folder.path(), &format!("train/dog/b{i:02}.png"), &png(20 + i, 50, i));
    }
    for name in ["2.png", "10.jpg", "1.PNG"] {
        put(folder.path(), &format!("train/cat/{name}"), &png(33, 47, name.len()));
    }
    put(folder.path(), "train/cat/notes.txt", b"no image");
    put(folder.path(), "train/cat/.hidden.png", b"");
    put(folder.path(), "val/dog/x.png", &png(9, 9, 1));
    std::fs::create_dir_all(folder.path().join("test")).unwrap();
    folder
}

fn spec(folder: &Path) -> DataSpec {
    DataSpec { image_size: Some(28), ..DataSpec::new(Images(folder.to_path_buf()).into()) }
}

fn labels(data: &Dataset) -> &[u32] {
    let Targets::Classes { labels, .. } = &data.targets else { panic!("no classes") };
    labels
}

#[test]
fn classes_and_rows_are_sorted_and_the_test_split_has_the_same_classes() {
    let folder = folder();
    let data = spec(folder.path()).load().unwrap();
    assert_eq!((data.len(), data.num_classes(), &data.sample_shape[..]), (43, Some(2), &[3, 28, 28][..]));
    assert!(labels(&data)[..3] == [0; 3] && labels(&data)[3..] == [1; 40]);
    let Inputs::Files(files) = &data.inputs else { panic!("no files") };
    let paths: Vec<_> = files.entries(0..files.len()).map(|(path, _)| path).take(5).collect();
    assert_eq!(
        paths,
        ["train/cat/1.PNG", "train/cat/10.jpg", "train/cat/2.png", "train/dog/a.JPEG", "train/dog/b00.png"]
    );
    let test = DataSpec { split: Split::Test, ..spec(folder.path()) }.load().unwrap();
    assert_eq!((labels(&test), test.num_classes()), (&[1][..], Some(2)));
    assert_eq!(spec(folder.path()).num_rows(MEMORY).unwrap(), 43);
}

#[test]
fn batches_are_the_decoded_middles() {
    let folder = folder();
    let data = spec(folder.path()).load().unwrap();
    let (x, targets) = data.batch(&[3, 0], DType::F64, &Device::Cpu).unwrap();
    assert!(matches!(targets, TargetBatch::Classes(labels) if labels == [1, 0]));
    let x: Vec<f64> = x.flatten_all().unwrap().to_vec1().unwrap();
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    for (part, path) in x.chunks(3 * 784).zip(["train/dog/a.JPEG", "train/cat/1.PNG"]) {
        let bytes = std::fs::read(folder.path().join(path)).unwrap();
        let expected = picture::decode(&bytes, MEMORY).unwrap().centre(28).bytes;
        let value = |i: usize| (f64::from(expected[i]) / 255.0 - mean[i / 784]) / std[i / 784];
        assert!(part.iter().enumerate().all(|(i, &x)| x == value(i)));
    }
    // Once more from what was kept, and over a pool.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let again = pool.install(|| data.batch(&[3, 0], DType::F64, &Device::Cpu)).unwrap().0;
    assert_eq!(x, again.flatten_all().unwrap().to_vec1::<f64>().unwrap());
}

#[test]
fn the_hash_is_that_of_paths_sizes_and_labels() {
    let folder = folder();
    let data = spec(folder.path()).load().unwrap();
    assert_eq!(
        data.select(&[1, 4]).unwrap().sha256,
        spec(folder.path()).load().unwrap().select(&[1, 4]).unwrap().sha256
    );
    assert_ne!(data.sha256, DataSpec { image_size: Some(30), ..spec(folder.path()) }.load().unwrap().sha256);
    std::fs::rename(folder.path().join("train/dog/a.JPEG"), folder.path().join("train/dog/aa.JPEG")).unwrap();
    assert_ne!(data.sha256, spec(folder.path()).load().unwrap().sha256);
}

#[test]
fn training_prepares_the_whole_image_and_the_plain_loader_equals_the_batch() {
    let folder = folder();
    let data = spec(folder.path()).load().unwrap();
    let batches = |augmentation: Option<&str>, threads| -> Vec<f32> {
        let augmentation = augmentation.map(|text| text.parse::<Augmentation>().unwrap());
        let order = (0..43).rev().collect();
        let plan = EpochPlan { order, batch_size: 20, dtype: DType::F32, augmentation, seed: 1, epoch: 0, threads };
        let values = with_batches(&data, &plan, |batches| {
            batches.map(|batch| Ok(batch?.x.flatten_all()?.to_vec1::<f32>()?)).collect::<crate::Result<Vec<_>>>()
        });
        values.unwrap().concat()
    };
    let plain = data.batch(&(0..43).rev().collect::<Vec<_>>(), DType::F32, &Device::Cpu).unwrap().0;
    let plain: Vec<f32> = plain.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(plain, batches(None, 3));
    let random = batches(Some("random_resized_crop:28,flip"), 1);
    assert_eq!(random, batches(Some("random_resized_crop:28,flip"), 3));
    assert_ne!(random, plain);
}

#[test]
fn broken_files_are_named_or_left_out() {
    let folder = folder();
    let whole = jpeg(40, 30);
    put(folder.path(), "train/cat/empty.jpg", b"");
    put(folder.path(), "train/dog/text.png", b"some text");
    let error = spec(folder.path()).load().unwrap_err();
    assert!(error.to_string().ends_with("empty.jpg: the file is empty (and 1 more such files)"), "{error}");
    assert!(error.hint().unwrap().contains("--skip-broken"));
    let skipping = DataSpec { skip_broken: true, ..spec(folder.path()) };
    // What starts well is noticed when it is decoded.
    put(folder.path(), "train/cat/short.jpg", &whole[..whole.len() / 2]);
    let data = skipping.load().unwrap();
    assert_eq!((data.len(), skipping.num_rows(MEMORY).unwrap()), (43, 43));
    let others = "files left out because their names are not those of images: 1 .txt, 1 hidden";
    assert_eq!(data.notes, [others, "image files left out because they do not decode: 3"]);
    assert!(data.batch(&(0..43).collect::<Vec<_>>(), DType::F32, &Device::Cpu).is_ok());
    for name in ["cat/empty.jpg", "dog/text.png"] {
        std::fs::remove_file(folder.path().join("train").join(name)).unwrap();
    }
    let data = spec(folder.path()).load().unwrap();
    let error = data.batch(&[3], DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.ends_with("short.jpg: the JPEG file is cut short"), "{error}");
    put(folder.path(), "train/cat/2.png", &png(33, 48, 0));
    let changed = data.batch(&[2], DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(changed.ends_with("2.png: its size has changed since it was listed"), "{changed}");
    put(folder.path(), "train/cat/2.png", &png(33, 47, 5));
    let plan = EpochPlan {
        order: (0..44).collect(),
        batch_size: 3,
        dtype: DType::F32,
        augmentation: None,
        seed: 0,
        epoch: 0,
        threads: 2,
    };
    let fine =
        with_batches(&data, &plan, |batches| Ok(batches.map(|batch| batch.is_ok()).collect::<Vec<_>>())).unwrap();
    assert_eq!(fine.iter().position(|fine| !fine), Some(1));
    assert_eq!(fine.iter().filter(|fine| !**fine).count(), 1);
}

#[test]
fn wrong_layouts_are_explained() {
    let folder = folder();
    let error = |spec: &DataSpec| spec.load().unwrap_err();
    put(folder.path(), "val/bird/x.png", &png(9, 9, 1));
    let unknown = error(&DataSpec { split: Split::Test, ..spec(folder.path()) }).to_string();
    assert!(unknown.contains("bird is of a class that the training split does not have"), "{unknown}");
    assert!(error(&spec(&folder.path().join("train"))).hint().unwrap().contains("train/CLASS"));
    let flat = error(&spec(&folder.path().join("none"))).to_string();
    assert!(flat.ends_with("none does not exist"), "{flat}");
    let size = error(&DataSpec { image_size: Some(0), ..spec(folder.path()) });
    assert_eq!(size.to_string(), "images: an image size of 0 pixels is not possible");
    let noise = Some("instance:0.2".parse().unwrap());
    assert!(error(&DataSpec { noise, ..spec(folder.path()) }).hint().unwrap().contains("symmetric"));
    std::fs::remove_dir_all(folder.path().join("val")).unwrap();
    let missing = error(&DataSpec { split: Split::Test, ..spec(folder.path()) }).to_string();
    assert!(missing.starts_with("data: no folder `test` or `val` with class folders in "), "{missing}");
}
