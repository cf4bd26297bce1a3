//! Finds one uncompressed entry of a zip archive, as PyTorch writes them.

use flate2::Crc;

const END: &[u8] = b"PK\x05\x06";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// An archive's comment has at most this many bytes behind the 22 of the end record.
const MAX_COMMENT: usize = 0xffff;

/// The bytes of the only entry whose name ends with `suffix`; the error says what is wrong with the archive.
///
/// Sizes come from the central directory: PyTorch leaves them 0 in the local headers.
pub(super) fn stored<'a>(archive: &'a [u8], suffix: &str) -> Result<&'a [u8], String> {
    let highest = archive.len().checked_sub(22).ok_or("it is cut short")?;
    let lowest = highest.saturating_sub(MAX_COMMENT);
    let end = (lowest..=highest).rev().find(|&place| archive[place..].starts_with(END));
    let end = end.ok_or("it has no central directory")?;
    let count = short(archive, end + 10)?;
    let mut place = long(archive, end + 16)?;
    let mut found = None;
    for _ in 0..count {
        if !archive.get(place..).is_some_and(|rest| rest.starts_with(CENTRAL)) {
            return Err("its central directory is damaged".into());
        }
        let name_len = short(archive, place + 28)?;
        let name = archive.get(place + 46..place + 46 + name_len).ok_or("its central directory is cut short")?;
        if name.ends_with(suffix.as_bytes()) {
            if found.is_some() {
                return Err(format!("it has several entries `{suffix}`"));
            }
            found = Some(entry(archive, place)?);
        }
        place += 46 + name_len + short(archive, place + 30)? + short(archive, place + 32)?;
    }
    found.ok_or_else(|| format!("it has no entry `{suffix}`"))
}

/// The bytes that the directory record at `place` describes.
fn entry(archive: &[u8], place: usize) -> Result<&[u8], String> {
    let (method, crc) = (short(archive, place + 10)?, long(archive, place + 16)?);
    let (size, local) = (long(archive, place + 24)?, long(archive, place + 42)?);
    if method != 0 {
        return Err("its entries are compressed, which PyTorch never does".into());
    }
    if !archive.get(local..).is_some_and(|rest| rest.starts_with(LOCAL)) {
        return Err("an entry is not where the directory says".into());
    }
    let start = local + 30 + short(archive, local + 26)? + short(archive, local + 28)?;
    let bytes = archive.get(start..start + size).ok_or("an entry is cut short")?;
    let mut sum = Crc::new();
    sum.update(bytes);
    match sum.sum() as usize == crc {
        true => Ok(bytes),
        false => Err("the checksum of an entry is wrong".into()),
    }
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
pub(super) mod tests {
    use super::*;

    /// An archive with one stored entry, its local header without sizes as PyTorch leaves it.
    pub(in crate::data::labels) fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut sum = Crc::new();
        sum.update(bytes);
        let (crc, size) = (sum.sum().to_le_bytes(), (bytes.len() as u32).to_le_bytes());
        let name_len = (name.len() as u16).to_le_bytes();
        let mut out = [LOCAL, &[0; 22], &name_len, &[0; 2], name.as_bytes(), bytes].concat();
        let directory = (out.len() as u32).to_le_bytes();
        out.extend([CENTRAL, &[0; 12], &crc, &size, &size, &name_len, &[0; 16], name.as_bytes()].concat());
        out.extend([END, &[0; 6], &1u16.to_le_bytes(), &[0; 4], &directory, &[0; 2]].concat());
        out
    }

    #[test]
    fn the_entry_is_found_and_its_checksum_checked() {
        let good = archive("archive/data.pkl", b"some bytes");
        assert_eq!(stored(&good, "/data.pkl").unwrap(), b"some bytes");
        assert_eq!(stored(&good, "/version").unwrap_err(), "it has no entry `/version`");
        let mut bad = good.clone();
        bad[30 + 16] ^= 1;
        assert_eq!(stored(&bad, "/data.pkl").unwrap_err(), "the checksum of an entry is wrong");
        let directory = 30 + 16 + 10;
        let mut packed = good.clone();
        packed[directory + 10] = 8;
        assert!(stored(&packed, "/data.pkl").unwrap_err().contains("compressed"));
        for cut in 0..good.len() {
            assert!(stored(&good[..cut], "/data.pkl").is_err(), "{cut}");
        }
    }
}
