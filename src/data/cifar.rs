//! CIFAR-10 as Parquet files or in the binary layout; Parquet wins where a folder has both.

use std::path::{Path, PathBuf};

use super::table::{RowInputs, Table};
use super::{DataError, DataResult, Inputs, Split, Targets, files, parquet};

/// Shape of an image.
pub(super) const SHAPE: [usize; 3] = [3, 32, 32];
/// Bytes of an image.
pub(super) const IMAGE_LEN: usize = 3 * 32 * 32;
/// Classes.
pub(super) const NUM_CLASSES: usize = 10;
/// One label, then the image, channel by channel.
const RECORD_LEN: usize = 1 + IMAGE_LEN;

const EXPECTED: &str = "`train-*.parquet` and `test-*.parquet` (in the folder itself, in `plain_text` or in `data`), or \
                        `data_batch_*.bin` and `test_batch.bin` (in the folder itself or in `cifar-10-batches-bin`)";

/// Opens a split: the first of `folder`, `plain_text`, `data` with Parquet files of that split; else binary files.
/// Several files are joined in the order of their names.
pub(super) fn open(folder: &Path, split: Split) -> DataResult<Table> {
    let names = files::names(folder, EXPECTED)?;
    for sub in ["", "plain_text", "data"] {
        let shards = matching(folder, &names, sub, |name| {
            name.strip_prefix(split.name()).is_some_and(|rest| rest.starts_with('-')) && name.ends_with(".parquet")
        })?;
        if !shards.is_empty() {
            check_complete(folder, split, &shards)?;
            return parquet::open(&shards);
        }
    }
    for sub in ["", "cifar-10-batches-bin"] {
        let batches = matching(folder, &names, sub, |name| match split {
            Split::Train => name.starts_with("data_batch_") && name.ends_with(".bin"),
            Split::Test => name == "test_batch.bin",
        })?;
        if !batches.is_empty() {
            return open_binary(&batches);
        }
    }
    let what = format!("Parquet or binary files of the {split} split");
    Err(DataError::NoFiles { folder: folder.to_path_buf(), what, expected: EXPECTED.to_string() })
}

/// Files of `folder/sub` (`folder` itself for the empty name) whose names pass, sorted.
fn matching(folder: &Path, names: &[String], sub: &str, passes: impl Fn(&str) -> bool) -> DataResult<Vec<PathBuf>> {
    let place = folder.join(sub);
    let inner;
    let names = match sub {
        "" => names,
        _ if !place.is_dir() => return Ok(Vec::new()),
        _ => {
            inner = files::names(&place, EXPECTED)?;
            &inner
        }
    };
    Ok(names.iter().filter(|name| passes(name)).map(|name| place.join(name)).collect())
}

/// `train-00000-of-00003.parquet` announces three shards; with fewer, rows would be missing unnoticed.
fn check_complete(folder: &Path, split: Split, shards: &[PathBuf]) -> DataResult<()> {
    let announced = shards.iter().filter_map(|shard| {
        let stem = shard.file_stem()?.to_str()?;
        stem.rsplit_once("-of-")?.1.parse::<usize>().ok()
    });
    match announced.max() {
        Some(announced) if announced != shards.len() => {
            let (folder, split, found) = (folder.to_path_buf(), split.name(), shards.len());
            Err(DataError::MissingShards { folder, split, found, announced })
        }
        _ => Ok(()),
    }
}

fn open_binary(batches: &[PathBuf]) -> DataResult<Table> {
    let (mut labels, mut pixels) = (Vec::new(), Vec::new());
    for path in batches {
        let bytes = files::read(path, EXPECTED)?;
        if bytes.len() % RECORD_LEN != 0 {
            let reason = format!("{} bytes are no whole number of records of {RECORD_LEN} bytes", bytes.len());
            return Err(DataError::Corrupt { path: path.clone(), kind: "a CIFAR-10 batch", reason });
        }
        for (row, record) in bytes.chunks_exact(RECORD_LEN).enumerate() {
            labels.push(check_label(path, row, record[0].into())?);
            pixels.extend_from_slice(&record[1..]);
        }
    }
    Ok(Table {
        sample_shape: SHAPE.to_vec(),
        targets: Targets::Classes { labels, num_classes: NUM_CLASSES },
        inputs: RowInputs::Ready(Inputs::Bytes(pixels)),
    })
}

/// The label as a class index.
pub(super) fn check_label(path: &Path, row: usize, label: i64) -> DataResult<u32> {
    match u32::try_from(label) {
        Ok(class) if (class as usize) < NUM_CLASSES => Ok(class),
        _ => {
            let (path, label) = (path.to_path_buf(), i128::from(label));
            Err(DataError::Label { path, row, label, num_classes: NUM_CLASSES as u64 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(label: u8, value: u8) -> Vec<u8> {
        let mut record = vec![value; RECORD_LEN];
        record[0] = label;
        record
    }

    #[test]
    fn binary_batches_are_joined_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("data_batch_2.bin"), record(3, 30)).unwrap();
        std::fs::write(inner.join("data_batch_1.bin"), [record(9, 10), record(0, 20)].concat()).unwrap();
        let table = open(folder.path(), Split::Train).unwrap();
        assert_eq!(table.targets, Targets::Classes { labels: vec![9, 0, 3], num_classes: 10 });
        let Inputs::Bytes(pixels) = table.into_inputs(&[0, 1, 2]).unwrap() else { panic!("no bytes") };
        assert_eq!((pixels.len(), pixels[0], pixels[IMAGE_LEN], pixels[2 * IMAGE_LEN]), (3 * IMAGE_LEN, 10, 20, 30));
        let error = open(folder.path(), Split::Test).err().unwrap();
        assert!(error.to_string().starts_with("data: no Parquet or binary files of the test split in "));
        assert!(error.hint().unwrap().contains("test_batch.bin"));
    }

    #[test]
    fn damaged_batches_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = |bytes: &[u8]| {
            std::fs::write(folder.path().join("test_batch.bin"), bytes).unwrap();
            open(folder.path(), Split::Test).err().unwrap().to_string()
        };
        assert!(text(&record(0, 1)[1..]).contains("3072 bytes are no whole number of records of 3073 bytes"));
        assert!(text(&[record(0, 1), record(10, 1)].concat()).ends_with("row 1: label 10 is not a class (0 to 9)"));
    }

    #[test]
    fn a_missing_shard_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("plain_text")).unwrap();
        std::fs::write(folder.path().join("plain_text/train-00001-of-00003.parquet"), "").unwrap();
        let error = open(folder.path(), Split::Train).err().unwrap();
        assert!(error.to_string().ends_with("holds 1 of 3 shards of the train split"), "{error}");
    }
}
