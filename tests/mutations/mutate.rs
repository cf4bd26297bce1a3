//! Small damages, drawn from a stream.

use rand::Rng;

/// A number below `bound`.
pub fn below(rng: &mut impl Rng, bound: usize) -> usize {
    (rng.next_u64() % bound.max(1) as u64) as usize
}

/// Whole numbers at which sizes and signs go wrong.
const EDGES: [u64; 10] = [0, 1, 2, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
/// What stands in texts where a number or a word is expected.
const WORDS: [&str; 12] =
    ["-1", "0", "1e999", "4294967296", "9223372036854775807", "null", "\"x\"", "[]", "{}", "[[[[", "NaN", "true"];

/// One to three damages; `other` is a file of the same kind to take parts of.
pub fn mutated(bytes: &[u8], other: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + below(rng, 3) {
        damage(&mut bytes, other, rng);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, other: &[u8], rng: &mut impl Rng) {
    if bytes.is_empty() {
        return bytes.push(0);
    }
    let place = below(rng, bytes.len());
    let len = 1 + below(rng, (bytes.len() - place).min(32));
    match below(rng, 9) {
        0 => bytes[place] ^= 1 << below(rng, 8),
        1 => bytes[place] = rng.next_u32() as u8,
        2 => bytes.truncate(place),
        3 => _ = bytes.drain(place..place + len),
        4 => {
            let part = bytes[place..place + len].to_vec();
            bytes.splice(place..place, part);
        }
        5 => {
            let from = below(rng, other.len());
            let part = other[from..(from + len).min(other.len())].to_vec();
            bytes.splice(place..place + len, part);
        }
        6 => {
            let value = EDGES[below(rng, EDGES.len())];
            let width = [1, 2, 4, 8][below(rng, 4)].min(bytes.len() - place);
            let raw = if below(rng, 4) == 0 { value.to_be_bytes() } else { value.to_le_bytes() };
            bytes[place..place + width].copy_from_slice(&raw[..width]);
        }
        // The next number in digits.
        7 => {
            let start = bytes[place..].iter().position(u8::is_ascii_digit).map_or(place, |skip| place + skip);
            let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let word = WORDS[below(rng, WORDS.len())].as_bytes().to_vec();
            bytes.splice(start..start + digits, word);
        }
        // The next word in quotes.
        _ => {
            let quote = |from: usize| bytes[from..].iter().position(|&byte| byte == b'"').map(|skip| from + skip);
            if let Some((start, end)) = quote(place).and_then(|start| Some((start, quote(start + 1)?))) {
                let word = WORDS[below(rng, WORDS.len())].as_bytes().to_vec();
                bytes.splice(start..=end, word);
            }
        }
    }
}

/// A zip archive of stored entries.
pub fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut records) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let mut sum = flate2::Crc::new();
        sum.update(bytes);
        let (crc, size) = (sum.sum().to_le_bytes(), (bytes.len() as u32).to_le_bytes());
        let (name_len, local) = ((name.len() as u16).to_le_bytes(), (out.len() as u32).to_le_bytes());
        let name = name.as_bytes();
        out.extend([b"PK\x03\x04", &[0; 22][..], &name_len, &[0; 2], name, bytes].concat());
        let record = [b"PK\x01\x02", &[0; 12][..], &crc, &size, &size, &name_len, &[0; 12], &local, name];
        records.extend(record.concat());
    }
    let directory = (out.len() as u32).to_le_bytes();
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(&records);
    out.extend([b"PK\x05\x06", &[0; 6][..], &count, &[0; 4], &directory, &[0; 2]].concat());
    out
}

/// The entries of such an archive as PyTorch writes them: behind their headers, one after the other, by the directory.
pub fn unzip(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let short = |place: usize| usize::from(u16::from_le_bytes(bytes[place..place + 2].try_into().unwrap()));
    let long = |place: usize| u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap()) as usize;
    let end = (0..bytes.len() - 21).rev().find(|&place| bytes[place..].starts_with(b"PK\x05\x06")).unwrap();
    let (count, mut place) = (short(end + 10), long(end + 16));
    let mut entries = Vec::new();
    for _ in 0..count {
        let (size, name_len, local) = (long(place + 24), short(place + 28), long(place + 42));
        let name = String::from_utf8(bytes[place + 46..place + 46 + name_len].to_vec()).unwrap();
        let start = local + 30 + short(local + 26) + short(local + 28);
        entries.push((name, bytes[start..start + size].to_vec()));
        place += 46 + name_len + short(place + 30) + short(place + 32);
    }
    entries
}

/// A zip archive whose entries, not its directory, are damaged: what is behind the checksums.
pub fn mutated_zip(bytes: &[u8], other: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut entries = unzip(bytes);
    let place = below(rng, entries.len());
    entries[place].1 = mutated(&entries[place].1, other, rng);
    zip(&entries)
}

/// A gzip file whose content is damaged.
pub fn mutated_gzip(bytes: &[u8], other: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut content).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&mutated(&content, other, rng)).unwrap();
    packed.finish().unwrap()
}
