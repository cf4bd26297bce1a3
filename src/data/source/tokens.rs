//! One long sequence of tokens, cut into rows of equal length whose targets are the next tokens.

use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;

use super::kind::Kind;
use super::npy::Header;
use super::request::Request;
use super::table::Table;
use crate::data::stored::{StoredFile, StoredRows};
use crate::data::{DataError, DataResult, Inputs};
use crate::path_text::from_text;

/// What errors call the tensor.
const NAME: &str = "tokens";
const EXPECTED: &str = "a .bin of 16-bit tokens (32-bit ones with `,dtype=u32`) or a .npy, cut into rows of T tokens";

/// A file of tokens and the length of a row; written `FILE,context=T`, with `,dtype=u32` for a `.bin` of 32-bit
/// numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// A `.npy` with one axis, or numbers one after the other without a header, little-endian.
    pub file: PathBuf,
    /// Tokens of a row.
    pub context: usize,
    /// Whether numbers without a header have 32 bits instead of 16.
    pub wide: bool,
}

impl Tokens {
    /// The inputs, `T` tokens from `row · T` on, and their targets, the same shifted by one. A last row
    /// without all its targets is left out.
    fn find(&self) -> DataResult<(StoredRows, StoredRows)> {
        let file = StoredFile::open(&self.file, EXPECTED)?;
        let header = if is_npy(&self.file) { Some(Header::read(&file)?) } else { None };
        let dtype = match &header {
            Some(header) => self.check(header)?,
            None if self.wide => Dtype::U32,
            None => Dtype::U16,
        };
        let width = dtype.bitsize() / 8;
        let count = match &header {
            Some(header) => header.shape[0],
            None if file.len().is_multiple_of(width as u64) => file.len() as usize / width,
            None => {
                let reason = format!("its {} bytes are not a whole number of {dtype:?} tokens", file.len());
                return Err(DataError::Corrupt { path: self.file.clone(), kind: "a file of tokens", reason });
            }
        };
        let all = match header {
            Some(header) => header.rows(file, NAME.into()),
            None => StoredRows::new(file, NAME.into(), dtype, vec![count], 0),
        };
        let shape = [count.saturating_sub(1) / self.context, self.context];
        Ok((all.tokens(shape, 0), all.tokens(shape, 1)))
    }

    /// The type of the tokens of a `.npy`, which has one axis of whole numbers.
    fn check(&self, header: &Header) -> DataResult<Dtype> {
        use Dtype::{I8, I16, I32, I64, U8, U16, U32, U64};
        let whole = [I8, I16, I32, I64, U8, U16, U32, U64].contains(&header.dtype);
        match header.shape.len() == 1 && whole {
            true => Ok(header.dtype),
            false => Err(DataError::WrongTensor {
                path: self.file.clone(),
                name: NAME.into(),
                dtype: format!("{:?}", header.dtype).to_lowercase(),
                shape: header.shape.clone(),
                expected: "whole numbers of shape [tokens]",
            }),
        }
    }
}

fn is_npy(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "npy")
}

impl Kind for Tokens {
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
        let (inputs, targets) = self.find()?;
        let len = inputs.len();
        let read = move |rows: &[usize]| Ok((Inputs::Stored(inputs.take(rows)), targets.take(rows).targets()?));
        Ok(Table::sequence(vec![self.context], len, read))
    }
}

#[cfg(test)]
mod tests {
    use super::super::npy::tests::npy;
    use super::*;
    use crate::data::testing::damaged;
    use crate::data::{DataSpec, Dataset, RowRange, Source, Split, Targets};

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
        assert!(
            text(&npy("<u2", "False", "(4,)", &[0; 6]))
                .contains("6 bytes follow its header, but its shape [4] needs 8")
        );
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
