//! Parquet files, for data and for tables of results: the sizes that a file declares are checked before polars decodes it.

mod fault;
mod guard;
mod thrift;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use polars_core::prelude::{DataFrame, PolarsError};
use polars_io::prelude::{ParquetReader, SerReader};

pub(crate) use fault::Fault;

use crate::input;

/// The content of a file.
pub(crate) struct Contents {
    pub(crate) frame: DataFrame,
    /// Keys and values that its writer put into the footer.
    pub(crate) metadata: Vec<(String, String)>,
}

/// Reads a whole file that unpacks to at most `memory_bytes`.
///
/// # Errors
/// [`Fault`].
pub(crate) fn read(path: &Path, memory_bytes: u64) -> Result<Contents, Fault> {
    let mut file = input::open(path)?;
    let metadata = guard::check(&mut file, memory_bytes)?;
    // On some damaged pages polars panics instead of returning an error, some only where a column is first used.
    let whole = || {
        let frame = ParquetReader::new(file).finish()?;
        frame.columns().iter().for_each(|column| _ = column.as_materialized_series());
        Ok::<_, PolarsError>(frame)
    };
    match catch_unwind(AssertUnwindSafe(whole)) {
        Ok(Ok(frame)) => Ok(Contents { frame, metadata }),
        Ok(Err(error)) => Err(Fault::Damaged(error.to_string())),
        Err(_) => Err(Fault::Damaged("its pages cannot be decoded".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::random::{Purpose, stream};
    use polars_core::prelude::{Column, NamedFrom, Series};
    use polars_io::prelude::{ParquetCompression, ParquetWriter};
    use rand::Rng;

    /// Whole numbers, texts and nulls, and lists, a few hundred rows.
    fn write(path: &Path, compression: ParquetCompression) {
        let numbers: Vec<i64> = (0..300).map(|row| row * row).collect();
        let texts: Vec<Option<String>> =
            (0..300).map(|row| (row % 7 > 0).then(|| format!("text {}", row % 11))).collect();
        let lists: Vec<Series> = (0..300).map(|row| Series::new("".into(), vec![row; row as usize % 4])).collect();
        let lists = Column::new("lists".into(), lists);
        let columns = vec![Column::new("number".into(), numbers), Column::new("text".into(), texts), lists];
        let mut frame = DataFrame::new_infer_height(columns).unwrap();
        let writer = ParquetWriter::new(File::create(path).unwrap()).with_compression(compression);
        writer.with_data_page_size(Some(512)).finish(&mut frame).unwrap();
    }

    #[test]
    fn every_compression_of_polars_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        use ParquetCompression::{Brotli, Gzip, Lz4Raw, Snappy, Uncompressed, Zstd};
        for compression in [Uncompressed, Snappy, Gzip(None), Brotli(None), Zstd(None), Lz4Raw] {
            write(&path, compression);
            let frame = read(&path, 1 << 20).unwrap().frame;
            assert_eq!((frame.height(), frame.width()), (300, 3), "{compression:?}");
        }
        let error = read(&path, 1 << 12).err().unwrap().to_string();
        assert_eq!(error, "its pages unpack to more than 4096 bytes");
    }

    #[test]
    fn damaged_files_are_refused_within_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, ParquetCompression::Snappy);
        let whole = std::fs::read(&path).unwrap();
        let mut rng = stream(3, Purpose::Check);
        let mut refused = 0;
        for _ in 0..3000 {
            let mut bytes = whole.clone();
            // Numbers of the format have several bytes with the highest bit set.
            for _ in 0..1 + rng.next_u32() % 3 {
                let place = rng.next_u32() as usize % bytes.len();
                bytes[place] = if rng.next_u32().is_multiple_of(2) { 0xff } else { rng.next_u32() as u8 };
            }
            std::fs::write(&path, &bytes).unwrap();
            refused += usize::from(read(&path, 1 << 20).is_err());
        }
        assert!(refused > 1000, "{refused}");
    }
}
