//! What tells CIFAR-10 and CIFAR-100 apart, and what they share.

use std::path::Path;

use crate::data::{DataError, DataResult};

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
    pub(super) parquet: [&'static str; 3],
    /// Folders that may hold the binary files.
    pub(super) binary: [&'static str; 2],
    /// Start of the names of the binary training files, and the binary test file.
    pub(super) batches: [&'static str; 2],
    /// Label bytes before the image, which follows channel by channel; the last of them counts.
    pub(super) label_bytes: usize,
    pub(super) expected: &'static str,
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
pub(in crate::data) const COARSE: [u8; 100] = [
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

/// The label as a class index.
pub(in crate::data) fn check_label(path: &Path, row: usize, label: i64, num_classes: usize) -> DataResult<u32> {
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

    #[test]
    fn each_coarse_class_has_five_fine_ones() {
        assert!((0..20).all(|coarse| COARSE.iter().filter(|&&of| of == coarse).count() == 5));
    }
}
