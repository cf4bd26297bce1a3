//! Safetensors: a header in JSON, then the numbers.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use super::contents::{Contents, Entry};
use crate::container::{Element, Stored};

/// Whether the file begins with a length within it and then JSON. That length may look like the first bytes of other formats.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk().map(|first| u64::from_le_bytes(*first));
    bytes.get(8) == Some(&b'{') && length.is_some_and(|length| length < bytes.len() as u64)
}

/// # Errors
/// In words: a damaged header, tensors outside of the file.
pub(super) fn read(bytes: &[u8]) -> Result<Contents, String> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    // Behind the length of the header and the header.
    let start = header + 8;
    let mut contents = Contents::default();
    for (name, info) in metadata.tensors() {
        let (from, to) = info.data_offsets;
        let (Some(from), Some(to)) = (start.checked_add(from), start.checked_add(to)) else {
            return Err(format!("tensor `{name}` lies outside the file"));
        };
        if from > to || to > bytes.len() {
            return Err(format!("tensor `{name}` lies outside the file"));
        }
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

fn element(dtype: Dtype) -> Option<Element> {
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
