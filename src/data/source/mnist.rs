//! MNIST's idx files: a big-endian header of magic number and sizes, then bytes; plain or gzipped.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::kind::{Kind, is_a_path};
use super::request::Request;
use super::table::Table;
use crate::data::{DataError, DataResult, Inputs, Normalisation, Split, Targets, files};

const NUM_CLASSES: usize = 10;
const EXPECTED: &str = "MNIST's files, such as `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz`, \
                        `t10k-images-idx3-ubyte.gz`, `t10k-labels-idx1-ubyte.gz`, gzipped or not";

/// A folder with MNIST's four idx files, gzipped or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mnist(pub PathBuf);

impl Kind for Mnist {
    fn about() -> &'static str {
        "the folder of MNIST's four idx files, gzipped or not"
    }

    is_a_path!();

    fn caption(&self) -> String {
        "MNIST".into()
    }

    fn default_normalisation(&self) -> Option<Normalisation> {
        Some(Normalisation { mean: vec![0.1307], std: vec![0.3081] })
    }

    fn open(&self, request: &Request) -> DataResult<Table> {
        open(&self.0, request.split, request.memory_bytes)
    }
}

/// Opens `train-images-idx3-ubyte[.gz]` and its labels (`t10k-…` for the test split) in `folder`; the spelling
/// `train-images.idx3-ubyte` is read too. A plain file wins over a gzipped one, which unpacks to at most
/// `memory_bytes`.
fn open(folder: &Path, split: Split, memory_bytes: usize) -> DataResult<Table> {
    let names = files::names(folder, EXPECTED)?;
    let prefix = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let images_path = find(folder, &names, prefix, "images", 3)?;
    let labels_path = find(folder, &names, prefix, "labels", 1)?;
    let (sizes, pixels) = read::<3>(&images_path, memory_bytes)?;
    let ([num_labels], labels) = read::<1>(&labels_path, memory_bytes)?;
    let [num_images, height, width] = sizes;
    if num_images != num_labels {
        return Err(DataError::LengthMismatch { path: folder.to_path_buf(), inputs: num_images, targets: num_labels });
    }
    if height == 0 || width == 0 {
        return Err(corrupt::<3>(&images_path, format!("images of {height}x{width} pixels")));
    }
    if let Some(row) = labels.iter().position(|&label| usize::from(label) >= NUM_CLASSES) {
        let label = i128::from(labels[row]);
        return Err(DataError::Label { path: labels_path, row, label, num_classes: NUM_CLASSES as u64 });
    }
    let targets = Targets::Classes { labels: labels.into_iter().map(u32::from).collect(), num_classes: NUM_CLASSES };
    Ok(Table::of_inputs(vec![1, height, width], targets, Inputs::Bytes(pixels)))
}

fn find(folder: &Path, names: &[String], prefix: &str, kind: &str, dims: usize) -> DataResult<PathBuf> {
    let spelling = |joint: char| format!("{prefix}-{kind}{joint}idx{dims}-ubyte");
    [spelling('-'), spelling('.'), spelling('-') + ".gz", spelling('.') + ".gz"]
        .into_iter()
        .find(|name| names.contains(name))
        .map(|name| folder.join(name))
        .ok_or_else(|| DataError::NoFiles {
            folder: folder.to_path_buf(),
            what: spelling('-'),
            expected: EXPECTED.to_string(),
        })
}

/// Sizes and bytes of a file of `DIMS` dimensions, which must hold all of them and nothing more.
fn read<const DIMS: usize>(path: &Path, memory_bytes: usize) -> DataResult<([usize; DIMS], Vec<u8>)> {
    let file = files::read(path, EXPECTED)?;
    // The first two bytes show whether a file is gzipped; its name may be wrong.
    if file.starts_with(&[0x1f, 0x8b]) {
        parse(path, MultiGzDecoder::new(file.as_slice()), memory_bytes)
    } else {
        parse(path, file.as_slice(), usize::MAX)
    }
}

/// The content behind `reader`, of at most `memory_bytes`.
fn parse<const DIMS: usize>(
    path: &Path,
    mut reader: impl Read,
    memory_bytes: usize,
) -> DataResult<([usize; DIMS], Vec<u8>)> {
    let unreadable = |error: std::io::Error| corrupt::<DIMS>(path, error.to_string());
    let mut word = || -> DataResult<u32> {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(u32::from_be_bytes(bytes))
    };
    let (magic, wanted) = (word()?, 0x0800 + DIMS as u32);
    if magic != wanted {
        return Err(corrupt::<DIMS>(path, format!("magic number is {magic:#010x}, not {wanted:#010x}")));
    }
    let mut sizes = [0; DIMS];
    for size in &mut sizes {
        *size = word()? as usize;
    }
    let header = 4 + 4 * DIMS as u64;
    let announced = sizes
        .iter()
        .try_fold(1u64, |product, &size| product.checked_mul(size as u64))
        .and_then(|length| length.checked_add(header + 1))
        .ok_or_else(|| corrupt::<DIMS>(path, format!("its sizes {sizes:?} are beyond any file")))?
        - 1;
    if announced > memory_bytes as u64 {
        let path = path.to_path_buf();
        return Err(DataError::Memory { path, what: "what its header announces", memory_bytes });
    }
    // Asking for one byte more shows whether there is more; the buffer grows only with what is really there.
    let mut bytes = Vec::new();
    reader.take(announced - header + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let found = header + bytes.len() as u64;
    if found != announced {
        return Err(DataError::WrongSize { path: path.to_path_buf(), found, announced });
    }
    Ok((sizes, bytes))
}

fn corrupt<const DIMS: usize>(path: &Path, reason: String) -> DataError {
    let kind = if DIMS == 3 { "an idx file of images" } else { "an idx file of labels" };
    DataError::Corrupt { path: path.to_path_buf(), kind, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataSpec;
    use crate::data::testing::{damaged, shared_data};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn images(count: u32) -> Vec<u8> {
        let header = [0x0803, count, 2, 3].into_iter().flat_map(u32::to_be_bytes);
        header.chain((0..count * 6).map(|pixel| pixel as u8)).collect()
    }

    fn labels(count: u32) -> Vec<u8> {
        [0x0801, count].into_iter().flat_map(u32::to_be_bytes).chain((0..count).map(|row| (row % 10) as u8)).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn open_with(images: &[u8], labels: &[u8]) -> DataResult<Table> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train-images-idx3-ubyte"), images).unwrap();
        std::fs::write(folder.path().join("train-labels.idx1-ubyte.gz"), labels).unwrap();
        open(folder.path(), Split::Train, 1 << 16)
    }

    #[test]
    fn plain_and_gzipped_files_are_read() {
        let table = open_with(&gzip(&images(5)), &labels(5)).unwrap();
        assert_eq!(table.sample_shape, [1, 2, 3]);
        assert_eq!(*table.targets(), Targets::Classes { labels: vec![0, 1, 2, 3, 4], num_classes: 10 });
        assert_eq!(table.read(&[4]).unwrap().0, Inputs::Bytes(vec![24, 25, 26, 27, 28, 29]));
        assert!(open_with(&images(5), &gzip(&labels(5))).is_ok());
    }

    #[test]
    fn wrong_sizes_are_named() {
        let text = |images: &[u8], labels: &[u8]| open_with(images, labels).err().unwrap().to_string();
        let (images, labels) = (images(5), labels(5));
        assert!(text(&images[..45], &labels).ends_with("holds 45 bytes, not the 46 that its header announces"));
        assert!(text(&[&images[..], b"x"].concat(), &labels).contains("holds more than 46 bytes"));
        assert!(text(&gzip(&images)[..30], &labels).contains("train-images-idx3-ubyte is damaged"));
        assert!(text(&labels, &labels).contains("magic number is 0x00000801, not 0x00000803"));
        assert!(text(&images, &super::tests::labels(4)).contains("5 inputs but 4 targets"));
        assert!(text(&images, b"").contains("train-labels.idx1-ubyte.gz is damaged"));
        let huge = [0x0803, u32::MAX, u32::MAX, u32::MAX].into_iter().flat_map(u32::to_be_bytes).collect::<Vec<_>>();
        assert!(text(&huge, &labels).contains("beyond any file"));
        let large = gzip(&[0x0803, 1 << 16, 2, 3].into_iter().flat_map(u32::to_be_bytes).collect::<Vec<_>>());
        assert!(text(&large, &labels).ends_with("what its header announces would take more than 0 MiB"));
        let wrong_label = [&labels[..12], &[11]].concat();
        assert!(text(&images, &wrong_label).ends_with("row 4: label 11 is not a class (0 to 9)"));
        let nothing = open(tempfile::tempdir().unwrap().path(), Split::Test, 1 << 16).err().unwrap();
        assert!(nothing.to_string().starts_with("data: no t10k-images-idx3-ubyte in "));
    }

    #[test]
    fn damaged_files_never_panic() {
        let (images, labels) = (images(5), labels(5));
        for bytes in damaged(&images).chain(damaged(&gzip(&images))) {
            let _ = open_with(&bytes, &labels);
        }
        for bytes in damaged(&labels).chain(damaged(&gzip(&labels))) {
            let _ = open_with(&images, &bytes);
        }
    }

    #[test]
    fn mnist_has_its_known_sizes_and_statistics() {
        let Some(folder) = shared_data("mnist") else { return };
        let mut spec = DataSpec::new(Mnist(folder).into());
        let train = spec.load().unwrap();
        assert_eq!((train.len(), train.sample_shape.as_slice()), (60_000, &[1, 28, 28][..]));
        let Inputs::Bytes(bytes) = &train.inputs else { panic!("no bytes") };
        let count = bytes.len() as f64;
        let mean = bytes.iter().map(|&byte| f64::from(byte)).sum::<f64>() / count / 255.0;
        let mean_sq = bytes.iter().map(|&byte| f64::from(byte).powi(2)).sum::<f64>() / count / 255.0f64.powi(2);
        // The customary constants have four digits.
        assert!((mean - 0.1307).abs() < 5e-5 && ((mean_sq - mean * mean).sqrt() - 0.3081).abs() < 5e-5);
        spec.split = Split::Test;
        let test = spec.load().unwrap();
        assert_eq!(test.len(), 10_000);
        // The first labels of the test set, as printed in many tutorials.
        assert_eq!(test.targets.take(&[0, 1, 2, 3]), Targets::Classes { labels: vec![7, 2, 1, 0], num_classes: 10 });
    }
}
