//! Safetensors: a header in JSON, then the numbers.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::contents::{Contents, Entry};
use crate::container::{Element, Stored};

/// The longest header that other readers accept.
const LONGEST_HEADER: u64 = 100_000_000;

/// Whether the file begins with a length within it and then JSON. That length may look like the first bytes of other formats.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk().map(|first| u64::from_le_bytes(*first));
    bytes.get(8) == Some(&b'{') && length.is_some_and(|length| length < bytes.len() as u64)
}

/// The header of a file of `len` bytes, and where the numbers begin; `read` gives the bytes of a range within the file. Tensors
/// follow one another and end with it.
///
/// # Errors
/// In words: what `read` says; a header that is damaged or does not fit the file.
pub(crate) fn header(
    len: u64,
    read: impl Fn(Range<u64>) -> Result<Vec<u8>, String>,
) -> Result<(Metadata, u64), String> {
    let length = read(0..len.min(8))?.first_chunk().map(|first| u64::from_le_bytes(*first));
    let length = length.ok_or("it is cut short")?;
    let start = length.saturating_add(8);
    if length > LONGEST_HEADER || start > len {
        return Err(format!("its header of {length} bytes does not fit into it"));
    }
    let metadata: Metadata =
        serde_json::from_slice(&read(8..start)?).map_err(|error| format!("its header: {error}"))?;
    match (metadata.data_len() as u64, len - start) {
        (announced, found) if announced == found => Ok((metadata, start)),
        (announced, found) => Err(format!("{found} bytes follow its header, which announces {announced}")),
    }
}

/// # Errors
/// As [`header`].
pub(super) fn read(bytes: &[u8]) -> Result<Contents, String> {
    let part = |range: Range<u64>| Ok(bytes[range.start as usize..range.end as usize].to_vec());
    let (metadata, start) = header(bytes.len() as u64, part)?;
    let mut contents = Contents::default();
    for (name, info) in metadata.tensors() {
        let [from, to] = [info.data_offsets.0, info.data_offsets.1].map(|place| start as usize + place);
        let Some(element) = element(info.dtype) else {
            contents.unread.push((name, format!("its type {} is not supported", info.dtype)));
            continue;
        };
        let stored = Stored::contiguous(element, info.shape.clone(), from..to)
            .map_err(|reason| format!("tensor `{name}`: {reason}"))?;
        contents.entries.insert(name, Entry::Stored(stored));
    }
    contents.unread.sort();
    contents.metadata = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
    share(&contents.metadata, &mut contents.entries);
    Ok(contents)
}

/// `safetensors.torch.save_model` stores tensors of one storage once, and keeps the names that it leaves out with the name that
/// it stores among the metadata.
fn share(metadata: &BTreeMap<String, String>, entries: &mut BTreeMap<String, Entry>) {
    for (left_out, stored) in metadata {
        if let (false, Some(entry)) = (entries.contains_key(left_out), entries.get(stored)) {
            entries.insert(left_out.clone(), entry.clone());
        }
    }
}

pub(crate) fn element(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::BOOL => Element::Bool,
        Dtype::U8 => Element::U8,
        Dtype::I8 => Element::I8,
        Dtype::U16 => Element::U16,
        Dtype::I16 => Element::I16,
        Dtype::U32 => Element::U32,
        Dtype::I32 => Element::I32,
        Dtype::U64 => Element::U64,
        Dtype::I64 => Element::I64,
        Dtype::F8_E4M3 => Element::F8E4M3,
        Dtype::F8_E5M2 => Element::F8E5M2,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::BF16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        _ => return None,
    })
}
