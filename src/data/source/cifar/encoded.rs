//! Images in Parquet files as Hugging Face stores them: `img` with the bytes of an image file, and a label.

use std::path::{Path, PathBuf};

use image::{ColorType, ImageDecoder};
use polars_core::prelude::{BinaryChunked, DataFrame, PolarsResult};
use rayon::prelude::*;

use super::super::table::Table;
use super::layout::{IMAGE_LEN, Layout, SHAPE, check_label};
use crate::data::images::{contained, decoder};
use crate::data::parquet::{image_error, integers, no_column, read};
use crate::data::{DataResult, Inputs, Targets};

/// The most memory that decoding an image of 32x32 pixels may take.
const MOST_BYTES: usize = 1 << 20;

/// Image files of several shards, decoded when asked for.
struct EncodedImages {
    shards: Vec<Shard>,
}

struct Shard {
    path: PathBuf,
    /// Image files, one per row.
    images: BinaryChunked,
}

/// Reads labels and encoded images of all shards, in the given order; they unpack to at most `memory_bytes`.
pub(super) fn open(layout: &Layout, paths: &[PathBuf], memory_bytes: usize) -> DataResult<Table> {
    let (mut labels, mut shards) = (Vec::new(), Vec::new());
    let mut left = memory_bytes;
    for path in paths {
        let frame = read(path, left)?;
        left = left.saturating_sub(frame.estimated_size());
        for (row, label) in integers(path, &frame, layout.label)?.into_iter().enumerate() {
            labels.push(check_label(path, row, label, layout.num_classes)?);
        }
        shards.push(Shard { path: path.clone(), images: image_bytes(path, &frame)? });
    }
    let (targets, images) = (Targets::Classes { labels, num_classes: layout.num_classes }, EncodedImages { shards });
    Ok(Table::new(SHAPE.to_vec(), targets, move |rows| Ok(Inputs::Bytes(images.decode(rows)?))))
}

fn image_bytes(path: &Path, frame: &DataFrame) -> DataResult<BinaryChunked> {
    let bytes = || -> PolarsResult<BinaryChunked> {
        Ok(frame.column("img")?.struct_()?.field_by_name("bytes")?.binary()?.clone())
    };
    bytes().map_err(|_| no_column(path, frame, "img: struct with bytes: binary".into()))
}

impl EncodedImages {
    /// Bytes of the given rows, `[rows, 3, 32, 32]`, decoded in parallel. The rows must exist.
    ///
    /// # Errors
    /// [`DataError::Image`](crate::data::DataError::Image) for the first of `rows` that is not a 32x32 RGB image.
    fn decode(&self, rows: &[usize]) -> DataResult<Vec<u8>> {
        let mut pixels = vec![0; rows.len() * IMAGE_LEN];
        let failure = pixels.par_chunks_mut(IMAGE_LEN).zip(rows).map(|(image, &row)| self.decode_row(row, image).err());
        match failure.find_map_first(|error| error) {
            Some(error) => Err(error),
            None => Ok(pixels),
        }
    }

    fn decode_row(&self, mut row: usize, out: &mut [u8]) -> DataResult<()> {
        for shard in &self.shards {
            if row < shard.images.len() {
                let file = shard.images.get(row).ok_or_else(|| "there is no image".to_string());
                return file
                    .and_then(|file| contained(|| decode_image(file, out)))
                    .map_err(|reason| image_error(&shard.path, row, reason));
            }
            row -= shard.images.len();
        }
        Ok(())
    }
}

/// Decodes a 32x32 RGB image file into `[3, 32, 32]`; the error says what is wrong.
fn decode_image(file: &[u8], out: &mut [u8]) -> Result<(), String> {
    let format = image::guess_format(file).map_err(|error| error.to_string())?;
    let decoder = decoder(file, format, MOST_BYTES)?;
    let (size, colour) = (decoder.dimensions(), decoder.color_type());
    // Before decoding, so that a small file cannot ask for a huge image.
    if size != (SHAPE[2] as u32, SHAPE[1] as u32) || colour != ColorType::Rgb8 {
        return Err(format!("the image is {}x{} of type {colour:?}, not 32x32 of type Rgb8", size.0, size.1));
    }
    let mut interleaved = [0; IMAGE_LEN];
    decoder.read_image(&mut interleaved).map_err(|error| error.to_string())?;
    let plane = IMAGE_LEN / 3;
    for (place, pixel) in interleaved.chunks_exact(3).enumerate() {
        for (channel, &value) in pixel.iter().enumerate() {
            out[channel * plane + place] = value;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::layout::CIFAR10;
    use super::*;
    use crate::data::testing::{MEMORY, damaged, shared_data};
    use crate::data::{DataSpec, Dataset, RowRange, Source, Split};
    use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
    use polars_core::prelude::{Column, IntoColumn, NamedFrom, Series, StructChunked};
    use polars_io::prelude::ParquetWriter;
    use std::fs::File;

    fn png(side: u32, seed: u8) -> Vec<u8> {
        let pixels: Vec<u8> = (0..side * side * 3).map(|i| (i as u8).wrapping_mul(seed)).collect();
        let mut file = Vec::new();
        PngEncoder::new(&mut file).write_image(&pixels, side, side, ExtendedColorType::Rgb8).unwrap();
        file
    }

    fn write(path: &Path, images: &[Vec<u8>], labels: &[i64]) {
        write_labels(path, images, vec![Column::new("label".into(), labels)]);
    }

    fn write_labels(path: &Path, images: &[Vec<u8>], labels: Vec<Column>) {
        let bytes = Series::new("bytes".into(), images.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let names = Series::new("path".into(), vec!["a.png"; images.len()]);
        let img = StructChunked::from_series("img".into(), images.len(), [bytes, names].iter()).unwrap();
        let columns = [vec![img.into_column()], labels].concat();
        let mut frame = DataFrame::new(images.len(), columns).unwrap();
        ParquetWriter::new(File::create(path).unwrap()).finish(&mut frame).unwrap();
    }

    #[test]
    fn shards_are_joined_and_rows_decoded_alone() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("train-00000-of-00002.parquet"), &[png(32, 1), png(16, 1)], &[3, 9]);
        write(&folder.path().join("train-00001-of-00002.parquet"), &[png(32, 7), b"no image".to_vec()], &[0, 1]);
        let source: Source = format!("cifar10:{}", folder.path().display()).parse().unwrap();
        let open = || DataSpec::new(source.clone()).open(MEMORY).unwrap();
        assert_eq!(*open().targets(), Targets::Classes { labels: vec![3, 9, 0, 1], num_classes: 10 });
        let Inputs::Bytes(pixels) = open().read(&[2, 0]).unwrap().0 else { panic!("no bytes") };
        // Byte i of channel c is byte 3 i + c of the interleaved image.
        assert_eq!((pixels[5], pixels[1024 + 5]), (15 * 7, 16 * 7));
        assert_eq!(pixels[IMAGE_LEN + 2048 + 5], 17);
        let text = |rows: &[usize]| open().read(rows).unwrap_err().to_string();
        assert!(text(&[0, 1, 3]).ends_with("row 1: the image is 16x16 of type Rgb8, not 32x32 of type Rgb8"));
        assert!(text(&[3]).contains("train-00001-of-00002.parquet, row 1: "));
    }

    #[test]
    fn wrong_columns_and_labels_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test-0.parquet");
        write(&path, &[png(32, 1)], &[-1]);
        let text = || open(&CIFAR10, std::slice::from_ref(&path), MEMORY).err().unwrap().to_string();
        assert!(text().ends_with("row 0: label -1 is not a class (0 to 9)"));
        let mut frame = DataFrame::new(1, vec![Column::new("image".into(), [1i64])]).unwrap();
        ParquetWriter::new(File::create(&path).unwrap()).finish(&mut frame).unwrap();
        assert!(text().ends_with("has no column `label: integer`; its columns are `image`: i64"), "{}", text());
    }

    #[test]
    fn fine_labels_of_cifar100_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("cifar100")).unwrap();
        let path = folder.path().join("cifar100/train-00000-of-00001.parquet");
        let labels = vec![Column::new("fine_label".into(), [99i64]), Column::new("coarse_label".into(), [13i64])];
        write_labels(&path, &[png(32, 1)], labels);
        let source: Source = format!("cifar100:{}", folder.path().display()).parse().unwrap();
        let table = DataSpec::new(source).open(MEMORY).unwrap();
        assert_eq!(*table.targets(), Targets::Classes { labels: vec![99], num_classes: 100 });
        let text = open(&CIFAR10, std::slice::from_ref(&path), MEMORY).err().unwrap();
        assert!(text.to_string().contains("has no column `label: integer`; its columns are `img`: struct"), "{text}");
        assert!(text.hint().unwrap().contains("`fine_label`"));
    }

    #[test]
    fn damaged_files_never_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test-0.parquet");
        write(&path, &[png(32, 1), png(32, 2)], &[3, 4]);
        for bytes in damaged(&std::fs::read(&path).unwrap()) {
            std::fs::write(&path, bytes).unwrap();
            if let Ok(table) = open(&CIFAR10, std::slice::from_ref(&path), MEMORY) {
                let rows: Vec<usize> = (0..table.len()).collect();
                let _ = table.read(&rows);
            }
        }
        for file in damaged(&png(32, 3)) {
            let _ = contained(|| decode_image(&file, &mut [0; IMAGE_LEN]));
        }
    }

    fn load(folder: &str, split: Split, rows: Option<(usize, usize)>) -> Option<Dataset> {
        let mut spec = DataSpec::new(format!("cifar10:{}", shared_data(folder)?.display()).parse().unwrap());
        (spec.split, spec.rows) = (split, rows.map(|(start, end)| RowRange::new(start, end).unwrap()));
        Some(spec.load().unwrap())
    }

    fn bytes(data: &Dataset) -> &[u8] {
        let Inputs::Bytes(bytes) = &data.inputs else { panic!("no bytes") };
        bytes
    }

    /// Which are what Pillow made of the same files.
    #[test]
    fn jpeg_rows_are_the_binary_records() {
        for (split, count) in [(Split::Train, 2000), (Split::Test, 1000)] {
            let Some(parquet) = load("cifar10", split, Some((0, count))) else { return };
            let Some(binary) = load("cifar10-small-bin", split, None) else { return };
            assert_eq!(parquet.targets, binary.targets);
            assert!(bytes(&parquet) == bytes(&binary), "{split}");
        }
    }

    #[test]
    fn cifar10_has_its_known_sizes_and_statistics() {
        let Some(train) = load("cifar10", Split::Train, None) else { return };
        let Some(test) = load("cifar10", Split::Test, None) else { return };
        assert_eq!((train.len(), test.len(), train.sample_shape.as_slice()), (50_000, 10_000, &SHAPE[..]));
        let expected = [(0.49125, 0.24523), (0.48209, 0.24278), (0.44652, 0.26063)];
        for (channel, (mean, std)) in expected.into_iter().enumerate() {
            let values = || bytes(&train).chunks(1024).skip(channel).step_by(3).flatten().map(|&byte| f64::from(byte));
            let count = 50_000.0 * 1024.0;
            let found = values().sum::<f64>() / count;
            let found_std = (values().map(|v| v * v).sum::<f64>() / count - found * found).sqrt();
            // The figures have five digits.
            let tolerance = 0.5e-5 + 1e-9;
            assert!((found / 255.0 - mean).abs() < tolerance && (found_std / 255.0 - std).abs() < tolerance);
        }
    }
}
