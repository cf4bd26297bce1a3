//! Checks what a Parquet file declares about itself against the file, before a library decodes it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::fault::Fault;
use super::thrift::{self, Value};

const MAGIC: &[u8] = b"PAR1";
/// Longest footer that is read.
const MAX_FOOTER: u64 = 16 << 20;
/// Longest header of a page; statistics of long texts make some long.
const MAX_HEADER: u64 = 1 << 20;
/// Groups within groups of columns.
const MAX_NESTING: usize = 16;
/// Memory of a decoded value: a text is a view of 16 bytes into the pages.
const VALUE_BYTES: u64 = 16;

/// Compressions that are read, by their numbers in the format.
const CODECS: [&str; 8] = ["none", "snappy", "gzip", "LZO", "brotli", "LZ4", "zstd", "LZ4_RAW"];
const LZO: u64 = 3;
/// Encodings that are read: plain, dictionaries (old and new) and runs. The lengths of others lie within the compressed pages.
const ENCODINGS: [u64; 4] = [0, 2, 3, 8];

/// Keys and values that the writer put into the footer.
pub(super) type Metadata = Vec<(String, String)>;

/// Checks every size that `file` announces, down to each page.
///
/// # Errors
/// A file that is damaged, that unpacks to more than `memory_bytes`, or whose compression or encoding is not read.
pub(super) fn check(file: &mut File, memory_bytes: u64) -> Result<Metadata, Fault> {
    let length = file.metadata()?.len();
    let footer = footer(file, length)?;
    let (footer, _) = Value::read(&footer).map_err(|_| damaged("its footer is damaged"))?;
    check_schema(footer.list(2))?;
    let mut checker = Checker { file, end: length - 8, packed: 0, needed: 0, memory_bytes };
    let mut rows = 0u64;
    for group in footer.list(4) {
        let in_group = group.count(3).ok_or_else(too_large)?;
        rows = rows.checked_add(in_group).ok_or_else(too_large)?;
        if group.list(1).is_empty() && in_group > 0 {
            return Err(too_large());
        }
        for column in group.list(1) {
            let facts = column.field(3).ok_or_else(|| damaged("a column lacks its description"))?;
            checker.column(facts, in_group)?;
        }
    }
    if footer.count(3) != Some(rows) {
        return Err(too_large());
    }
    let pair = |entry: &Value<'_>| Some((entry.text(1)?.to_owned(), entry.text(2)?.to_owned()));
    Ok(footer.list(5).iter().filter_map(pair).collect())
}

fn damaged(reason: &str) -> Fault {
    Fault::Damaged(reason.into())
}

fn too_large() -> Fault {
    damaged("its footer declares more data than the file has")
}

/// The bytes of the footer, in front of its length and the magic word.
fn footer(file: &mut File, length: u64) -> Result<Vec<u8>, Fault> {
    let none = || damaged("it does not begin and end like a Parquet file");
    if length < 12 || bytes_at(file, 0, 4)? != MAGIC {
        return Err(none());
    }
    let end = bytes_at(file, length - 8, 8)?;
    let (size, magic) = end.split_first_chunk::<4>().ok_or_else(none)?;
    if magic != MAGIC {
        return Err(none());
    }
    let size = u64::from(u32::from_le_bytes(*size));
    if size > length - 12 || size > MAX_FOOTER {
        return Err(damaged("its footer is longer than the file or than 16 MiB"));
    }
    bytes_at(file, length - 8 - size, size)
}

fn bytes_at(file: &mut File, place: u64, length: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(place))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// That groups of columns are not nested so deep that a reader's stack would overflow.
fn check_schema(elements: &[Value<'_>]) -> Result<(), Fault> {
    // Children that the groups around still lack.
    let mut open: Vec<u64> = Vec::new();
    for element in elements {
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        match element.count(5) {
            Some(children) if children > 0 => open.push(children),
            _ => {}
        }
        if open.len() > MAX_NESTING {
            return Err(damaged("its columns are nested too deep"));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    if open.is_empty() { Ok(()) } else { Err(damaged("its schema lacks columns")) }
}

struct Checker<'a> {
    file: &'a mut File,
    /// End of what columns may take of the file.
    end: u64,
    /// Bytes of the columns so far.
    packed: u64,
    /// Memory of what is decoded so far.
    needed: u64,
    memory_bytes: u64,
}

impl Checker<'_> {
    /// Checks a column of a group of `rows` rows.
    fn column(&mut self, facts: &Value<'_>, rows: u64) -> Result<(), Fault> {
        let codec = facts.count(4).unwrap_or(u64::MAX);
        let name = usize::try_from(codec).ok().and_then(|codec| CODECS.get(codec));
        if name.is_none() || codec == LZO {
            let name = name.map_or_else(|| format!("number {codec}"), |name| (*name).to_owned());
            return Err(Fault::Damaged(format!("its compression {name} is not supported; snappy, gzip and zstd are")));
        }
        let (values, length) = (facts.count(5).ok_or_else(too_large)?, facts.count(7).ok_or_else(too_large)?);
        let start = facts.count(11).or(facts.count(9)).ok_or_else(too_large)?;
        let end = start.checked_add(length).filter(|&end| end <= self.end).ok_or_else(too_large)?;
        self.packed = self.packed.saturating_add(length);
        // A row has a value or a null, of a list one for each entry. Columns that share their bytes would be decoded once for each.
        if values < rows || self.packed > self.end {
            return Err(too_large());
        }
        self.need(values.saturating_mul(VALUE_BYTES))?;
        let (mut place, mut seen) = (start, 0u64);
        while seen < values {
            let page = self.page(place, end)?;
            place += page.length;
            seen += page.rows;
            if place > end || seen > values {
                return Err(damaged("a page declares more data than the file has"));
            }
        }
        Ok(())
    }

    /// The page at `place` of a column that reaches to `end`.
    fn page(&mut self, place: u64, end: u64) -> Result<Page, Fault> {
        let most = MAX_HEADER.min(end - place);
        let mut length = 512;
        loop {
            let bytes = bytes_at(self.file, place, most.min(length))?;
            match Value::read(&bytes) {
                Ok((header, size)) => {
                    let page =
                        Page::of(&header, size as u64).ok_or_else(|| damaged("the header of a page is damaged"))?;
                    if !ENCODINGS.contains(&page.encoding) {
                        return Err(damaged("its encoding is not supported; plain values and dictionaries are"));
                    }
                    self.need(page.unpacked)?;
                    return Ok(page);
                }
                Err(thrift::Fault::Short) if length < most => length *= 8,
                Err(_) => return Err(damaged("the header of a page is damaged")),
            }
        }
    }

    /// Counts memory for what will be decoded.
    fn need(&mut self, bytes: u64) -> Result<(), Fault> {
        self.needed = self.needed.saturating_add(bytes);
        match self.needed > self.memory_bytes {
            true => Err(Fault::TooLarge { memory_bytes: self.memory_bytes }),
            false => Ok(()),
        }
    }
}

/// What the header of a page says.
struct Page {
    /// Bytes of header and content in the file.
    length: u64,
    /// Memory of the content, and of the entries of a dictionary.
    unpacked: u64,
    encoding: u64,
    /// None in a dictionary.
    rows: u64,
}

impl Page {
    fn of(header: &Value<'_>, size: u64) -> Option<Self> {
        let (kind, content) = (header.count(1)?, header.count(2)?);
        let (own, encoding) = match kind {
            0 => (header.field(5)?, 2),
            2 => (header.field(7)?, 2),
            3 => (header.field(8)?, 4),
            _ => return None,
        };
        let values = own.count(1)?;
        let (rows, entries) = if kind == 2 { (0, values) } else { (values, 0) };
        let unpacked = content.saturating_add(entries.saturating_mul(VALUE_BYTES));
        Some(Self { length: size.checked_add(header.count(3)?)?, unpacked, encoding: own.count(encoding)?, rows })
    }
}
