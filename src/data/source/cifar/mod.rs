//! CIFAR-10 and CIFAR-100 as Parquet files or in the binary layout; Parquet wins where a folder has both.

mod encoded;
mod layout;

use std::path::{Path, PathBuf};

#[cfg(test)]
pub(in crate::data) use layout::COARSE;
pub(in crate::data) use layout::check_label;

use super::kind::{Kind, is_a_path};
use super::request::Request;
use super::table::Table;
use crate::data::{DataError, DataResult, Inputs, Normalisation, Split, Targets, files};
use crate::path_text::from_text;
use layout::{CIFAR10, CIFAR100, IMAGE_LEN, Layout, SHAPE, next_in_coarse};

/// A folder with CIFAR-10 as Parquet files (they win where both are present) or in the binary layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cifar10(pub PathBuf);

/// A folder with CIFAR-100 in the same two forms; its 100 fine classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cifar100(pub PathBuf);

impl Kind for Cifar10 {
    fn about() -> &'static str {
        "the folder of CIFAR-10 as Parquet or binary files"
    }

    is_a_path!();

    fn caption(&self) -> String {
        "CIFAR-10".into()
    }

    /// The customary constants. The standard deviations average those within single images; over all pixels they are a
    /// quarter larger.
    fn default_normalisation(&self) -> Option<Normalisation> {
        Some(Normalisation { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.2023, 0.1994, 0.2010] })
    }

    /// Truck → automobile, bird → airplane, deer → horse, cat ↔ dog.
    fn mistaken(&self, class: u32, _num_classes: usize) -> u32 {
        match class {
            9 => 1,
            2 => 0,
            4 => 7,
            3 => 5,
            5 => 3,
            _ => class,
        }
    }

    fn open(&self, request: &Request) -> DataResult<Table> {
        open(&CIFAR10, &self.0, request)
    }
}

impl Kind for Cifar100 {
    fn about() -> &'static str {
        "the folder of CIFAR-100 as Parquet or binary files"
    }

    is_a_path!();

    fn caption(&self) -> String {
        "CIFAR-100".into()
    }

    /// The customary constants.
    fn default_normalisation(&self) -> Option<Normalisation> {
        Some(Normalisation { mean: vec![0.5071, 0.4865, 0.4409], std: vec![0.2673, 0.2564, 0.2762] })
    }

    /// The next class of the same coarse one, around.
    fn mistaken(&self, class: u32, _num_classes: usize) -> u32 {
        next_in_coarse(class)
    }

    fn open(&self, request: &Request) -> DataResult<Table> {
        open(&CIFAR100, &self.0, request)
    }
}

/// Opens a split: the first of the layout's folders with Parquet files of that split; else binary files. Several
/// files are joined in the order of their names.
fn open(layout: &Layout, folder: &Path, request: &Request) -> DataResult<Table> {
    let split = request.split;
    let names = files::names(folder, layout.expected)?;
    for sub in layout.parquet {
        let shards = matching(folder, &names, sub, |name| {
            name.strip_prefix(split.name()).is_some_and(|rest| rest.starts_with('-')) && name.ends_with(".parquet")
        })?;
        if !shards.is_empty() {
            check_complete(folder, split, &shards)?;
            return encoded::open(layout, &shards, request.memory_bytes);
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
            let len = bytes.len();
            let reason =
                format!("the file size, {len} bytes, is not a multiple of the record size, {record_len} bytes");
            return Err(DataError::Corrupt { path: path.clone(), kind: "a CIFAR batch", reason });
        }
        for (row, record) in bytes.chunks_exact(record_len).enumerate() {
            let (label, image) = record.split_at(layout.label_bytes);
            let label = label.last().copied().unwrap_or_default();
            labels.push(check_label(path, row, label.into(), layout.num_classes)?);
            pixels.extend_from_slice(image);
        }
    }
    let targets = Targets::Classes { labels, num_classes: layout.num_classes };
    Ok(Table::of_inputs(SHAPE.to_vec(), targets, Inputs::Bytes(pixels)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataSpec;

    fn open(source: impl Into<crate::data::Source>, split: Split) -> DataResult<Table> {
        DataSpec { split, ..DataSpec::new(source.into()) }.open(crate::data::testing::MEMORY)
    }

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
        let table = open(Cifar10(folder.path().into()), Split::Train).unwrap();
        assert_eq!(*table.targets(), Targets::Classes { labels: vec![9, 0, 3], num_classes: 10 });
        let Inputs::Bytes(pixels) = table.read(&[0, 1, 2]).unwrap().0 else { panic!("no bytes") };
        assert_eq!((pixels.len(), pixels[0], pixels[IMAGE_LEN], pixels[2 * IMAGE_LEN]), (3 * IMAGE_LEN, 10, 20, 30));
        let error = open(Cifar10(folder.path().into()), Split::Test).err().unwrap();
        assert!(error.to_string().starts_with("data: no Parquet or binary files of the test split in "));
        assert!(error.hint().unwrap().contains("test_batch.bin"));
    }

    #[test]
    fn damaged_batches_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = |bytes: &[u8]| {
            std::fs::write(folder.path().join("test_batch.bin"), bytes).unwrap();
            open(Cifar10(folder.path().into()), Split::Test).err().unwrap().to_string()
        };
        assert!(text(&record(0, 1)[1..]).contains("3072 bytes, is not a multiple of the record size, 3073 bytes"));
        assert!(text(&[record(0, 1), record(10, 1)].concat()).ends_with("row 1: label 10 is not a class (0 to 9)"));
    }

    #[test]
    fn a_missing_shard_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("plain_text")).unwrap();
        std::fs::write(folder.path().join("plain_text/train-00001-of-00003.parquet"), "").unwrap();
        let error = open(Cifar10(folder.path().into()), Split::Train).err().unwrap();
        assert!(error.to_string().ends_with("holds 1 of 3 shards of the train split"), "{error}");
    }

    #[test]
    fn the_second_byte_of_cifar100_is_its_label() {
        let folder = tempfile::tempdir().unwrap();
        let records = [[&[11, 99][..], &[5; IMAGE_LEN]].concat(), [&[4, 0][..], &[6; IMAGE_LEN]].concat()].concat();
        std::fs::write(folder.path().join("train.bin"), &records).unwrap();
        std::fs::write(folder.path().join("test.bin"), [&[0, 100][..], &[5; IMAGE_LEN]].concat()).unwrap();
        let table = open(Cifar100(folder.path().into()), Split::Train).unwrap();
        assert_eq!(*table.targets(), Targets::Classes { labels: vec![99, 0], num_classes: 100 });
        let Inputs::Bytes(pixels) = table.read(&[1]).unwrap().0 else { panic!("no bytes") };
        assert_eq!(pixels, [6; IMAGE_LEN]);
        let error = open(Cifar100(folder.path().into()), Split::Test).err().unwrap().to_string();
        assert!(error.ends_with("row 0: label 100 is not a class (0 to 99)"), "{error}");
        std::fs::write(folder.path().join("test.bin"), record(0, 1)).unwrap();
        let error = open(Cifar100(folder.path().into()), Split::Test).err().unwrap().to_string();
        assert!(error.ends_with("3073 bytes, is not a multiple of the record size, 3074 bytes"), "{error}");
    }
}
