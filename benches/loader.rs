//! Images per second: reading a folder of JPEG files and Parquet files, and preparing augmented batches.
//!
//! `cargo bench --bench loader [-- THREADS] [cifar10:DIR]`; the folder is written to a temporary place, Parquet files are
//! those of the source that is named.

use std::path::Path;
use std::time::Instant;

use candle_core::DType;
use flatness::data::{DataSpec, Dataset, EpochPlan, Images, with_batches};
use flatness::kernels::KeepingAllocator;
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};

#[global_allocator]
static ALLOCATOR: KeepingAllocator = KeepingAllocator::new();

/// Files of the folder, of the usual size of a photograph in ImageNet.
const FILES: usize = 256;
const SIZE: (u32, u32) = (500, 375);

fn main() -> flatness::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let threads = arguments.iter().find_map(|argument| argument.parse().ok());
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let folder = tempfile::tempdir().map_err(|source| io(Path::new("temporary folder"), source))?;
    write_images(folder.path())?;
    let data = DataSpec::new(Images(folder.path().to_path_buf()).into()).load()?;
    measure("image folder, 500x375 to 224x224", &data, "random_resized_crop:224,flip", threads)?;
    if let Some(source) = arguments.iter().find(|argument| argument.parse::<usize>().is_err()) {
        let start = Instant::now();
        let data = DataSpec::new(source.parse()?).load()?;
        let rate = data.len() as f64 / start.elapsed().as_secs_f64();
        println!("{source}: {rate:.0} images/s read (all threads of the machine)");
        measure(source, &data, "crop:4,flip,cutout:8", threads)?;
    }
    Ok(())
}

/// One epoch as it is and one augmented.
fn measure(name: &str, data: &Dataset, augmentation: &str, threads: usize) -> flatness::Result<()> {
    for augmentation in [None, Some(augmentation)] {
        let plan = EpochPlan {
            order: (0..data.len()).collect(),
            batch_size: 128,
            dtype: DType::F32,
            augmentation: augmentation.map(str::parse).transpose()?,
            seed: 0,
            epoch: 0,
            threads,
        };
        let start = Instant::now();
        let rows = with_batches(data, &plan, |batches| {
            batches.try_fold(0, |rows, batch| flatness::Result::Ok(rows + batch?.rows.len()))
        })?;
        let rate = rows as f64 / start.elapsed().as_secs_f64();
        println!("{name}, {}: {rate:.0} images/s, {threads} threads", augmentation.unwrap_or("no augmentation"));
    }
    Ok(())
}

/// Smooth colours with some grain, so that the files have the size of photographs.
fn write_images(folder: &Path) -> flatness::Result<()> {
    let class = folder.join("train/waves");
    std::fs::create_dir_all(&class).map_err(|source| io(&class, source))?;
    for index in 0..FILES as u32 {
        let value = |i: u32| {
            let (pixel, channel) = (i / 3, i % 3);
            let (x, y) = ((pixel % SIZE.0) as f32, (pixel / SIZE.0) as f32);
            let wave = (x / 31.0 + index as f32).sin() + (y / 17.0 - channel as f32).cos();
            let grain = (i.wrapping_mul(2_654_435_761).wrapping_add(index) >> 27) as f32;
            (110.0 + 50.0 * wave + grain) as u8
        };
        let pixels: Vec<u8> = (0..SIZE.0 * SIZE.1 * 3).map(value).collect();
        let mut file = Vec::new();
        let encoded =
            JpegEncoder::new_with_quality(&mut file, 90).write_image(&pixels, SIZE.0, SIZE.1, ExtendedColorType::Rgb8);
        let path = class.join(format!("{index:04}.jpg"));
        encoded.map_err(|error| io(&path, std::io::Error::other(error)))?;
        std::fs::write(&path, file).map_err(|source| io(&path, source))?;
    }
    Ok(())
}

fn io(path: &Path, source: std::io::Error) -> flatness::Error {
    flatness::Error::Io { path: path.to_path_buf(), source }
}
