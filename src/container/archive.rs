//! Zip archives of uncompressed entries, as PyTorch and NumPy write them. Archives are not trusted: every place and size is
//! checked against the file before it is used, and nothing is unpacked.

use std::collections::BTreeMap;
use std::ops::Range;

use flate2::Crc;

const END: &[u8] = b"PK\x05\x06";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";
/// A field of 32 bits whose number is in a field of 64 bits.
const FULL: usize = u32::MAX as usize;
/// An archive's comment has at most this many bytes behind the 22 of the end record.
const MAX_COMMENT: usize = 0xffff;

/// The entries of an archive by name.
#[derive(Debug)]
pub(crate) struct Archive<'a> {
    bytes: &'a [u8],
    entries: BTreeMap<&'a str, Entry>,
}

#[derive(Debug)]
struct Entry {
    range: Range<usize>,
    crc: usize,
}

impl<'a> Archive<'a> {
    /// Reads the directory. Sizes come from there: PyTorch leaves them 0 in the headers in front of the entries.
    ///
    /// # Errors
    /// In words, what is wrong: entries that are compressed, encrypted, cut short or overlap, or whose names leave the archive.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let highest = bytes.len().checked_sub(22).ok_or("it is cut short")?;
        let lowest = highest.saturating_sub(MAX_COMMENT);
        let end = (lowest..=highest).rev().find(|&place| bytes[place..].starts_with(END));
        let end = end.ok_or("it has no central directory")?;
        let (count, mut place) = directory(bytes, end)?;
        let mut entries = BTreeMap::new();
        let mut taken: Vec<Range<usize>> = Vec::new();
        for _ in 0..count {
            if !bytes.get(place..).is_some_and(|rest| rest.starts_with(CENTRAL)) {
                return Err("its central directory is damaged".into());
            }
            let name_len = short(bytes, place + 28)?;
            let name = bytes.get(place + 46..place + 46 + name_len).ok_or("its central directory is cut short")?;
            let name = std::str::from_utf8(name).map_err(|_| "the name of an entry is not UTF-8")?;
            if name.starts_with('/') || name.contains('\\') || name.split('/').any(|part| part == "..") {
                return Err(format!("the name of its entry `{name}` leads out of it"));
            }
            let (entry, local) = entry(bytes, place)?;
            taken.push(local..entry.range.end);
            if entries.insert(name, entry).is_some() {
                return Err(format!("it has several entries `{name}`"));
            }
            place = (place + 46 + name_len).saturating_add(short(bytes, place + 30)? + short(bytes, place + 32)?);
        }
        taken.sort_unstable_by_key(|range| range.start);
        if taken.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Err("its entries overlap".into());
        }
        Ok(Self { bytes, entries })
    }

    /// The names of all entries, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().copied()
    }

    /// The bytes of an entry.
    ///
    /// # Errors
    /// No such entry; a wrong checksum.
    pub(crate) fn entry(&self, name: &str) -> Result<&'a [u8], String> {
        Ok(&self.bytes[self.place(name)?])
    }

    /// Where the bytes of an entry lie in the archive.
    ///
    /// # Errors
    /// As [`Archive::entry`].
    pub(crate) fn place(&self, name: &str) -> Result<Range<usize>, String> {
        let entry = self.entries.get(name).ok_or_else(|| format!("it has no entry `{name}`"))?;
        let bytes = self.bytes.get(entry.range.clone()).ok_or("an entry is cut short")?;
        let mut sum = Crc::new();
        sum.update(bytes);
        match sum.sum() as usize == entry.crc {
            true => Ok(entry.range.clone()),
            false => Err(format!("the checksum of its entry `{name}` is wrong")),
        }
    }

    /// The only name that ends with `suffix`.
    ///
    /// # Errors
    /// None, or several.
    pub(crate) fn ending(&self, suffix: &str) -> Result<&'a str, String> {
        let mut names = self.names().filter(|name| name.ends_with(suffix));
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(name),
            (None, _) => Err(format!("it has no entry `{suffix}`")),
            (Some(_), Some(_)) => Err(format!("it has several entries `{suffix}`")),
        }
    }
}

/// Number of records of the directory, and where it begins, by the end record at `end` or by that of zip64 in front of it.
fn directory(bytes: &[u8], end: usize) -> Result<(usize, usize), String> {
    let (count, place) = (short(bytes, end + 10)?, long(bytes, end + 16)?);
    if count < 0xffff && place < FULL {
        return Ok((count, place));
    }
    let locator = end.checked_sub(20).filter(|&place| bytes[place..].starts_with(LOCATOR64));
    let end = wide(bytes, locator.ok_or("it has no zip64 directory")? + 8)?;
    if !bytes.get(end..).is_some_and(|rest| rest.starts_with(END64)) {
        return Err("its zip64 directory is damaged".into());
    }
    Ok((wide(bytes, end.saturating_add(32))?, wide(bytes, end.saturating_add(48))?))
}

/// The numbers of 64 bits in the record at `place` whose fields of 32 bits are full, in the order of the format.
fn zip64(bytes: &[u8], place: usize) -> Result<impl FnMut(usize) -> Result<usize, String>, String> {
    let start = place + 46 + short(bytes, place + 28)?;
    let extra = bytes.get(start..start + short(bytes, place + 30)?).ok_or("its central directory is cut short")?;
    let mut rest = extra;
    let mut wides: &[u8] = &[];
    while let Some((head, behind)) = rest.split_first_chunk::<4>() {
        let [kind, len] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_le_bytes);
        let (field, behind) = behind.split_at_checked(len.into()).ok_or("its central directory is damaged")?;
        if kind == 1 {
            wides = field;
        }
        rest = behind;
    }
    Ok(move |narrow| {
        if narrow != FULL {
            return Ok(narrow);
        }
        let (first, behind) = wides.split_first_chunk::<8>().ok_or("a size of zip64 is missing")?;
        wides = behind;
        usize::try_from(u64::from_le_bytes(*first)).map_err(|_| "an entry is cut short".to_owned())
    })
}

/// What the directory record at `place` describes, and where its header begins.
fn entry(bytes: &[u8], place: usize) -> Result<(Entry, usize), String> {
    let (flags, method, crc) = (short(bytes, place + 8)?, short(bytes, place + 10)?, long(bytes, place + 16)?);
    let mut wider = zip64(bytes, place)?;
    // The order of the format: size, packed size, header.
    let size = wider(long(bytes, place + 24)?)?;
    let packed = wider(long(bytes, place + 20)?)?;
    let local = wider(long(bytes, place + 42)?)?;
    if flags & 1 != 0 {
        return Err("its entries are encrypted".into());
    }
    if method != 0 {
        return Err("its entries are compressed: write it with torch.save or numpy.savez".into());
    }
    if packed != size {
        return Err("an entry has two sizes".into());
    }
    if !bytes.get(local..).is_some_and(|rest| rest.starts_with(LOCAL)) {
        return Err("an entry is not where the directory says".into());
    }
    // The header is there, so that nothing overflows.
    let start = local + 30 + short(bytes, local + 26)? + short(bytes, local + 28)?;
    let end = start.checked_add(size).filter(|&end| end <= bytes.len()).ok_or("an entry is cut short")?;
    Ok((Entry { range: start..end, crc }, local))
}

fn wide(archive: &[u8], place: usize) -> Result<usize, String> {
    let bytes = archive.get(place..).and_then(|rest| rest.first_chunk::<8>()).ok_or("it is cut short")?;
    usize::try_from(u64::from_le_bytes(*bytes)).map_err(|_| "it is cut short".into())
}

fn short(archive: &[u8], place: usize) -> Result<usize, String> {
    let bytes = archive.get(place..).and_then(|rest| rest.first_chunk::<2>());
    bytes.map(|&bytes| u16::from_le_bytes(bytes).into()).ok_or_else(|| "it is cut short".into())
}

fn long(archive: &[u8], place: usize) -> Result<usize, String> {
    let bytes = archive.get(place..).and_then(|rest| rest.first_chunk::<4>());
    bytes.map(|&bytes| u32::from_le_bytes(bytes) as usize).ok_or_else(|| "it is cut short".into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An archive of stored entries, their local headers without sizes as PyTorch leaves them.
    pub(crate) fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut out, mut records) = (Vec::new(), Vec::new());
        for (name, bytes) in entries {
            let mut sum = Crc::new();
            sum.update(bytes);
            let (crc, size) = (sum.sum().to_le_bytes(), (bytes.len() as u32).to_le_bytes());
            let (name_len, local) = ((name.len() as u16).to_le_bytes(), (out.len() as u32).to_le_bytes());
            out.extend([LOCAL, &[0; 22], &name_len, &[0; 2], name.as_bytes(), bytes].concat());
            records
                .extend([CENTRAL, &[0; 12], &crc, &size, &size, &name_len, &[0; 12], &local, name.as_bytes()].concat());
        }
        let directory = (out.len() as u32).to_le_bytes();
        out.extend(&records);
        out.extend([END, &[0; 6], &(entries.len() as u16).to_le_bytes(), &[0; 4], &directory, &[0; 2]].concat());
        out
    }

    fn read(bytes: &[u8]) -> Result<&[u8], String> {
        let archive = Archive::open(bytes)?;
        archive.entry(archive.ending("/data.pkl")?)
    }

    #[test]
    fn the_entry_is_found_and_its_checksum_checked() {
        let good = archive(&[("archive/data.pkl", b"some bytes")]);
        assert_eq!(read(&good).unwrap(), b"some bytes");
        assert_eq!(Archive::open(&good).unwrap().ending("/version").unwrap_err(), "it has no entry `/version`");
        let mut bad = good.clone();
        bad[30 + 16] ^= 1;
        assert_eq!(read(&bad).unwrap_err(), "the checksum of its entry `archive/data.pkl` is wrong");
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn what_pytorch_never_writes_is_refused() {
        let good = archive(&[("a/data.pkl", b"some bytes"), ("a/b", b"more")]);
        let directory = 2 * 30 + 10 + 10 + 3 + 4;
        let text = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            Archive::open(&bytes).unwrap_err()
        };
        assert!(text(&|bytes| bytes[directory + 10] = 8).contains("compressed"));
        assert!(text(&|bytes| bytes[directory + 8] = 1).contains("encrypted"));
        assert!(text(&|bytes| bytes[directory + 24] = 200).contains("two sizes"));
        let oversized = |bytes: &mut Vec<u8>| (20..28).for_each(|place| bytes[directory + place] = 0x7f);
        assert!(text(&oversized).contains("cut short"));
        // The first entry reaches into the second.
        assert!(text(&|bytes| (bytes[directory + 20], bytes[directory + 24]) = (30, 30)).contains("overlap"));
        for name in ["a/../b", "/etc/passwd", "..", "a\\b"] {
            let error = Archive::open(&archive(&[(name, b"x")])).unwrap_err();
            assert!(error.contains("leads out"), "{name}: {error}");
        }
        assert!(Archive::open(&archive(&[("a", b"x"), ("a", b"y")])).unwrap_err().contains("several"));
    }
}
