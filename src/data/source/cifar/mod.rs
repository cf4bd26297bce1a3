//! CIFAR-10 and CIFAR-100 as Parquet files or in the binary layout; Parquet wins where a folder has both.

use std::path::{Path, PathBuf};

use super::table::{RowInputs, Table};
use super::{DataError, DataResult, Inputs, Split, Targets, files, parquet};
use crate::path_text::from_text;

/// Shape of an image.
pub(super) const SHAPE: [usize; 3] = [3, 32, 32];
/// Bytes of an image.
pub(super) const IMAGE_LEN: usize = 3 * 32 * 32;

/// What tells CIFAR-10 and CIFAR-100 apart.
pub(super) struct Layout {
    pub(super) num_classes: usize,
    /// The Parquet column with the label.
    pub(super) label: &'static str,
    /// Folders that may hold the Parquet files.
    parquet: [&'static str; 3],
    /// Folders that may hold the binary files.
    binary: [&'static str; 2],
    /// Start of the names of the binary training files, and the binary test file.
    batches: [&'static str; 2],
    /// Label bytes before the image, which follows channel by channel; the last of them counts.
    label_bytes: usize,
    expected: &'static str,
}

pub(super) const CIFAR10: Layout = Layout {
    num_classes: 10,
    label: "label",
    parquet: ["", "plain_text", "data"],
    binary: ["", "cifar-10-batches-bin"],
    batches: ["data_batch_", "test_batch.bin"],
    label_bytes: 1,
    expected: "`train-*.parquet` and `test-*.parquet` (in the folder itself, in `plain_text` or in `data`), or \
               `data_batch_*.bin` and `test_batch.bin` (in the folder itself or in `cifar-10-batches-bin`)",
};

pub(super) const CIFAR100: Layout = Layout {
    num_classes: 100,
    label: "fine_label",
    parquet: ["", "cifar100", "data"],
    binary: ["", "cifar-100-binary"],
    batches: ["train", "test.bin"],
    label_bytes: 2,
    expected: "`train-*.parquet` and `test-*.parquet` (in the folder itself, in `cifar100` or in `data`), or \
               `train.bin` and `test.bin` (in the folder itself or in `cifar-100-binary`)",
};

/// The coarse class of each fine class of CIFAR-100.
#[rustfmt::skip]
pub(super) const COARSE: [u8; 100] = [
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7,
    6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10,
    16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16,
    12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
];

/// The next of the five fine classes of CIFAR-100 that share a coarse class; after the last comes the first.
pub(super) fn next_in_coarse(class: u32) -> u32 {
    let coarse = |class: u32| COARSE.get(class as usize);
    let later = (class + 1..100).chain(0..class);
    later.into_iter().find(|&other| coarse(other) == coarse(class)).unwrap_or(class)
}

/// Opens a split: the first of the layout's folders with Parquet files of that split; else binary files. Several
/// files are joined in the order of their names.
pub(super) fn open(layout: &Layout, folder: &Path, split: Split, memory_bytes: usize) -> DataResult<Table> {
    let names = files::names(folder, layout.expected)?;
    for sub in layout.parquet {
        let shards = matching(folder, &names, sub, |name| {
            name.strip_prefix(split.name()).is_some_and(|rest| rest.starts_with('-')) && name.ends_with(".parquet")
        })?;
        if !shards.is_empty() {
            check_complete(folder, split, &shards)?;
            return parquet::open(layout, &shards, memory_bytes);
        }
    }
    let [train, test] = layout.batches;
    for sub in layout.binary {
        let batches = matching(folder, &names, sub, |name| match split {
            Split::Train => name.starts_with(train) && name.ends_with(".bin"),
            Split::Test => name == test,
        })?;
        if !batches.is_empty() {
            return open_binary(layout, &batches);
        }
    }
    let what = format!("Parquet or binary files of the {split} split");
    Err(DataError::NoFiles { folder: folder.to_path_buf(), what, expected: layout.expected.to_string() })
}

/// Files of `folder/sub` (`folder` itself for the empty name) whose names pass, sorted.
fn matching(folder: &Path, names: &[String], sub: &str, passes: impl Fn(&str) -> bool) -> DataResult<Vec<PathBuf>> {
    let place = folder.join(sub);
    let inner;
    let names = match sub {
        "" => names,
        _ if !place.is_dir() => return Ok(Vec::new()),
        _ => {
            inner = files::names(&place, "a folder")?;
            &inner
        }
    };
    Ok(names.iter().filter(|name| passes(name)).map(|name| place.join(from_text(name))).collect())
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

fn open_binary(layout: &Layout, batches: &[PathBuf]) -> DataResult<Table> {
    let record_len = layout.label_bytes + IMAGE_LEN;
    let (mut labels, mut pixels) = (Vec::new(), Vec::new());
    for path in batches {
        let bytes = files::read(path, layout.expected)?;
        if bytes.len() % record_len != 0 {
            let reason = format!("{} bytes are no whole number of records of {record_len} bytes", bytes.len());
            return Err(DataError::Corrupt { path: path.clone(), kind: "a CIFAR batch", reason });
        }
        for (row, record) in bytes.chunks_exact(record_len).enumerate() {
            let (label, image) = record.split_at(layout.label_bytes);
            let label = label.last().copied().unwrap_or_default();
            labels.push(check_label(path, row, label.into(), layout.num_classes)?);
            pixels.extend_from_slice(image);
        }
    }
    Ok(Table {
        input_name: None,
        more: Vec::new(),
        sample_shape: SHAPE.to_vec(),
        targets: Targets::Classes { labels, num_classes: layout.num_classes },
        inputs: RowInputs::Ready(Inputs::Bytes(pixels)),
        notes: Vec::new(),
    })
}

/// The label as a class index.
pub(super) fn check_label(path: &Path, row: usize, label: i64, num_classes: usize) -> DataResult<u32> {
    match u32::try_from(label) {
        Ok(class) if (class as usize) < num_classes => Ok(class),
        _ => {
            let (path, label) = (path.to_path_buf(), i128::from(label));
            Err(DataError::Label { path, row, label, num_classes: num_classes as u64 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::MEMORY;

    fn record(label: u8, value: u8) -> Vec<u8> {
        let mut record = vec![value; 1 + IMAGE_LEN];
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
        let table = open(&CIFAR10, folder.path(), Split::Train, MEMORY).unwrap();
        assert_eq!(table.targets, Targets::Classes { labels: vec![9, 0, 3], num_classes: 10 });
        let Inputs::Bytes(pixels) = table.into_inputs(&[0, 1, 2]).unwrap() else { panic!("no bytes") };
        assert_eq!((pixels.len(), pixels[0], pixels[IMAGE_LEN], pixels[2 * IMAGE_LEN]), (3 * IMAGE_LEN, 10, 20, 30));
        let error = open(&CIFAR10, folder.path(), Split::Test, MEMORY).err().unwrap();
        assert!(error.to_string().starts_with("data: no Parquet or binary files of the test split in "));
        assert!(error.hint().unwrap().contains("test_batch.bin"));
    }

    #[test]
    fn damaged_batches_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = |bytes: &[u8]| {
            std::fs::write(folder.path().join("test_batch.bin"), bytes).unwrap();
            open(&CIFAR10, folder.path(), Split::Test, MEMORY).err().unwrap().to_string()
        };
        assert!(text(&record(0, 1)[1..]).contains("3072 bytes are no whole number of records of 3073 bytes"));
        assert!(text(&[record(0, 1), record(10, 1)].concat()).ends_with("row 1: label 10 is not a class (0 to 9)"));
    }

    #[test]
    fn a_missing_shard_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("plain_text")).unwrap();
        std::fs::write(folder.path().join("plain_text/train-00001-of-00003.parquet"), "").unwrap();
        let error = open(&CIFAR10, folder.path(), Split::Train, MEMORY).err().unwrap();
        assert!(error.to_string().ends_with("holds 1 of 3 shards of the train split"), "{error}");
    }

    #[test]
    fn the_second_byte_of_cifar100_is_its_label() {
        let folder = tempfile::tempdir().unwrap();
        let records = [[&[11, 99][..], &[5; IMAGE_LEN]].concat(), [&[4, 0][..], &[6; IMAGE_LEN]].concat()].concat();
        std::fs::write(folder.path().join("train.bin"), &records).unwrap();
        std::fs::write(folder.path().join("test.bin"), [&[0, 100][..], &[5; IMAGE_LEN]].concat()).unwrap();
        let table = open(&CIFAR100, folder.path(), Split::Train, MEMORY).unwrap();
        assert_eq!(table.targets, Targets::Classes { labels: vec![99, 0], num_classes: 100 });
        let Inputs::Bytes(pixels) = table.into_inputs(&[1]).unwrap() else { panic!("no bytes") };
        assert_eq!(pixels, [6; IMAGE_LEN]);
        let error = open(&CIFAR100, folder.path(), Split::Test, MEMORY).err().unwrap().to_string();
        assert!(error.ends_with("row 0: label 100 is not a class (0 to 99)"), "{error}");
        std::fs::write(folder.path().join("test.bin"), record(0, 1)).unwrap();
        let error = open(&CIFAR100, folder.path(), Split::Test, MEMORY).err().unwrap().to_string();
        assert!(error.ends_with("3073 bytes are no whole number of records of 3074 bytes"), "{error}");
    }

    #[test]
    fn each_coarse_class_has_five_fine_ones() {
        assert!((0..20).all(|coarse| COARSE.iter().filter(|&&of| of == coarse).count() == 5));
    }
}
