//! One long sequence of tokens, cut into rows of equal length whose targets are the next tokens.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;

use super::kind::Kind;
use super::npy::{self, Header, LONGEST_HEADER};
use super::request::Request;
use super::table::Table;
use crate::data::{DataError, DataResult, Inputs, Targets, files};
use crate::input;
use crate::path_text::from_text;

const EXPECTED: &str = "a .bin of 16-bit tokens (32-bit ones with `,dtype=u32`) or a .npy, cut into rows of T tokens";

/// A file of tokens and the length of a row; written `FILE,context=T`, with `,dtype=u32` for a `.bin` of 32-bit numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// A `.npy` with one axis, or numbers one after the other without a header, little-endian.
    pub file: PathBuf,
    /// Tokens of a row.
    pub context: usize,
    /// Whether numbers without a header have 32 bits, not 16.
    pub wide: bool,
}

/// Where in the file the tokens are.
struct Place {
    file: File,
    start: u64,
    dtype: Dtype,
    big_endian: bool,
    count: usize,
}

impl Tokens {
    /// Inputs and targets of the given rows, which must exist: `T` tokens from `row · T` on, and those one further.
    fn read(&self, place: &mut Place, rows: &[usize]) -> DataResult<(Inputs, Targets)> {
        let width = place.dtype.bitsize() / 8;
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        let mut bytes = vec![0; (self.context + 1) * width];
        let failure = |source| DataError::Io { path: self.file.clone(), source };
        for &row in rows {
            let first = place.start + (row * self.context * width) as u64;
            place.file.seek(SeekFrom::Start(first)).map_err(failure)?;
            place.file.read_exact(&mut bytes).map_err(failure)?;
            let tokens: Option<Vec<i64>> = bytes.chunks_exact(width).map(|bytes| place.token(bytes)).collect();
            let tokens = tokens.ok_or_else(|| npy::corrupt(&self.file, "it holds a number above 2^63".into()))?;
            inputs.extend_from_slice(&tokens[..self.context]);
            labels.extend_from_slice(&tokens[1..]);
        }
        let num_classes = labels.iter().max().map_or(0, |&largest| largest.max(-1).saturating_add(1) as usize);
        Ok((Inputs::Whole(inputs), Targets::Tokens { labels, sample_shape: vec![self.context], num_classes }))
    }

    fn find(&self) -> DataResult<Place> {
        if self.file.is_dir() {
            return Err(DataError::NotAFile { path: self.file.clone(), expected: EXPECTED.into() });
        }
        let mut file = input::open(&self.file).map_err(|source| files::failure(&self.file, source, EXPECTED))?;
        let failure = |source| DataError::Io { path: self.file.clone(), source };
        let len = file.metadata().map_err(failure)?.len();
        let (start, dtype, big_endian) = if is_npy(&self.file) {
            let mut head = Vec::new();
            (&mut file).take(LONGEST_HEADER as u64 + 12).read_to_end(&mut head).map_err(failure)?;
            let header = Header::parse(&head).map_err(|reason| npy::corrupt(&self.file, reason))?;
            self.check(&header, len)?;
            (header.start as u64, header.dtype, header.big_endian)
        } else {
            (0, if self.wide { Dtype::U32 } else { Dtype::U16 }, false)
        };
        let width = dtype.bitsize() as u64 / 8;
        if !(len - start).is_multiple_of(width) {
            let reason = format!("its {len} bytes are not a whole number of {dtype:?} tokens");
            return Err(DataError::Corrupt { path: self.file.clone(), kind: "a file of tokens", reason });
        }
        Ok(Place { file, start, dtype, big_endian, count: ((len - start) / width) as usize })
    }

    /// That a `.npy` of `len` bytes holds one axis of whole numbers, all of them.
    fn check(&self, header: &Header, len: u64) -> DataResult<()> {
        use Dtype::{I8, I16, I32, I64, U8, U16, U32, U64};
        let whole = [I8, I16, I32, I64, U8, U16, U32, U64].contains(&header.dtype);
        if header.shape.len() != 1 || !whole {
            return Err(DataError::WrongTensor {
                path: self.file.clone(),
                name: "tokens".into(),
                dtype: format!("{:?}", header.dtype).to_lowercase(),
                shape: header.shape.clone(),
                expected: "whole numbers of shape [tokens]",
            });
        }
        let announced = (header.start + header.len) as u64;
        match announced == len {
            true => Ok(()),
            false => Err(DataError::WrongSize { path: self.file.clone(), found: len.min(announced + 1), announced }),
        }
    }
}

impl Place {
    fn token(&self, bytes: &[u8]) -> Option<i64> {
        let signed = matches!(self.dtype, Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64);
        let high = if self.big_endian { bytes.first() } else { bytes.last() };
        let negative = signed && high.is_some_and(|byte| byte >> 7 == 1);
        let mut all = [if negative { 0xff } else { 0 }; 16];
        let order = |index| if self.big_endian { bytes.len() - 1 - index } else { index };
        (0..bytes.len()).for_each(|index| all[index] = bytes[order(index)]);
        i64::try_from(i128::from_le_bytes(all)).ok()
    }
}

fn is_npy(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "npy")
}

impl Kind for Tokens {
    fn place() -> &'static str {
        "FILE,context=T"
    }

    fn about() -> &'static str {
        EXPECTED
    }

    fn parse(place: Option<&str>) -> Option<Self> {
        let (mut file, mut context, mut wide) = (place?, None, None);
        // From the end, since a path may hold commas itself.
        while let Some((before, setting)) = file.rsplit_once(',') {
            match setting.split_once('=') {
                Some(("context", value)) if context.is_none() => context = Some(value.parse().ok()?),
                Some(("dtype", value @ ("u16" | "u32"))) if wide.is_none() => wide = Some(value == "u32"),
                Some(_) => return None,
                None => break,
            }
            file = before;
        }
        let context = context.filter(|context| (1..=1 << 31).contains(context))?;
        if file.is_empty() || wide.is_some() && is_npy(Path::new(file)) {
            return None;
        }
        Some(Self { file: from_text(file), context, wide: wide.unwrap_or(false) })
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.file)
    }

    fn path_mut(&mut self) -> Option<&mut PathBuf> {
        Some(&mut self.file)
    }

    fn written(&self, path: &dyn Fn(&Path) -> String) -> Option<String> {
        let dtype = if self.wide { ",dtype=u32" } else { "" };
        Some(format!("{},context={}{dtype}", path(&self.file), self.context))
    }

    fn has_test_split(&self) -> bool {
        false
    }

    fn open(&self, _request: &Request) -> DataResult<Table> {
        let (tokens, mut place) = (self.clone(), self.find()?);
        // As many rows as have all their targets.
        let len = place.count.saturating_sub(1) / self.context;
        Ok(Table::sequence(vec![self.context], len, move |rows| tokens.read(&mut place, rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::npy::tests::npy;
    use super::*;
    use crate::data::testing::damaged;
    use crate::data::{DataSpec, Dataset, RowRange, Source, Split};

    fn load(path: &Path, settings: &str) -> crate::Result<Dataset> {
        DataSpec::new(format!("tokens:{}{settings}", path.display()).parse::<Source>()?).load()
    }

    #[test]
    fn rows_follow_one_another_and_targets_are_the_next_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("a, b.bin");
        std::fs::write(&bin, (0..12u16).flat_map(|token| (3 * token).to_le_bytes()).collect::<Vec<_>>()).unwrap();
        let data = load(&bin, ",context=4").unwrap();
        // 12 tokens: the third row would lack its last target.
        assert_eq!((data.len(), data.sample_shape.as_slice(), data.consecutive), (2, &[4][..], true));
        assert_eq!(data.inputs, Inputs::Whole(vec![0, 3, 6, 9, 12, 15, 18, 21]));
        let labels = vec![3, 6, 9, 12, 15, 18, 21, 24];
        assert_eq!(data.targets, Targets::Tokens { labels, sample_shape: vec![4], num_classes: 25 });
        let mut spec = DataSpec::new(format!("tokens:{},context=4", bin.display()).parse().unwrap());
        spec.rows = Some(RowRange::new(1, 2).unwrap());
        let second = spec.load().unwrap();
        assert_eq!(second.inputs, Inputs::Whole(vec![12, 15, 18, 21]));
        assert_eq!(data.select(&[1]).unwrap().sha256, second.sha256);
        spec.split = Split::Test;
        assert!(spec.load().unwrap_err().to_string().ends_with("has no test split"));

        let body: Vec<u8> = (0..12i32).flat_map(|token| (3 * token).to_be_bytes()).collect();
        let array = folder.path().join("tokens.npy");
        std::fs::write(&array, npy(">i4", "False", "(12,)", &body)).unwrap();
        assert_eq!(load(&array, ",context=4").unwrap().sha256, data.sha256);
        let wide = folder.path().join("wide.bin");
        std::fs::write(&wide, (0..12u32).flat_map(|token| (3 * token).to_le_bytes()).collect::<Vec<_>>()).unwrap();
        assert_eq!(load(&wide, ",dtype=u32,context=4").unwrap().sha256, data.sha256);
    }

    #[test]
    fn what_does_not_fit_is_said_and_damage_never_panics() {
        for text in ["a.bin", "a.bin,context=0", "a.bin,context=4,dtype=u8", ",context=4", "a.npy,context=4,dtype=u16"]
        {
            let error = format!("tokens:{text}").parse::<Source>().unwrap_err();
            assert!(error.hint().unwrap().contains("context=T"), "{text}");
        }
        let source: Source = "tokens:a.bin,dtype=u32,context=8".parse().unwrap();
        assert_eq!(source.to_string(), "tokens:a.bin,context=8,dtype=u32");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.npy");
        let text = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            load(&path, ",context=2").unwrap_err().to_string()
        };
        assert!(text(&npy("<f4", "False", "(4,)", &[0; 16])).contains("`tokens` is f32 of shape [4]"));
        assert!(text(&npy("<u2", "False", "(4,)", &[0; 6])).contains("bytes, not the"));
        assert!(text(&npy("<u2", "False", "(2,)", &[0; 4])).ends_with("has no rows"));
        let bin = folder.path().join("odd.bin");
        std::fs::write(&bin, [0; 7]).unwrap();
        assert!(load(&bin, ",context=2").unwrap_err().to_string().contains("not a whole number"));
        for bytes in damaged(&npy("<u2", "False", "(6,)", &[1; 12])) {
            std::fs::write(&path, bytes).unwrap();
            let _ = load(&path, ",context=2");
        }
    }
}
