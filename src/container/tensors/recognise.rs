//! Files that hold no tensors that can be read, by their first bytes.

const RESAVE: &str = "read it where it was written, and save the weights with torch.save or safetensors";

/// Beginnings of files, what such files are, and what to do.
#[rustfmt::skip]
const BEGINNINGS: [(&[u8], &str, &str); 16] = [
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", RESAVE),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch the file with `git lfs pull`"),
    (b"GGUF", "a GGUF file", RESAVE),
    (b"\x93NUMPY", "a NumPy array", "it may serve as data: see docs/data.md"),
    (b"PAR1", "a Parquet file", "it may serve as data: see docs/data.md"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it first"),
    (b"BZh", "compressed with bzip2", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"\x7fELF", "a program, not a file of weights", "check the path"),
    (b"%PDF", "a PDF document", "check the path"),
    (b"\x89PNG", "an image", "check the path"),
    (b"{", "a JSON file", "name the weights, and the description of their network with --arch"),
    (b"[", "a text, not a file of weights", "check the path"),
];

/// What the file is and what to do, where it is known to hold no tensors.
pub(super) fn foreign(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if bytes.is_empty() {
        return Some(("an empty file", "copy or download it again"));
    }
    // The length of a header of safetensors, and the header: before anything shorter.
    if bytes.get(8) == Some(&b'{') {
        return None;
    }
    if let Some((_, what, remedy)) = BEGINNINGS.iter().find(|(beginning, ..)| bytes.starts_with(beginning)) {
        return Some((what, remedy));
    }
    let text: String = bytes.iter().take(200).map(|&byte| char::from(byte).to_ascii_lowercase()).collect();
    if ["<!doctype", "<html", "<?xml"].iter().any(|tag| text.trim_start().starts_with(tag)) {
        return Some((
            "a web page, not the file it was meant to be",
            "download it again: its address may ask for a login",
        ));
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it first; weights of PyTorch before 0.2 have to be saved again"));
    }
    match bytes {
        // A map of msgpack, and the first key, a short string.
        [0x81..=0x8f, 0xa1..=0xbf | 0xd9, ..] | [0xde | 0xdf, ..] => Some(("a msgpack file, as Flax writes", RESAVE)),
        // ONNX's version, then its producer's name.
        [0x08, 1..=0x1f, 0x12, ..] => {
            Some(("an ONNX model", "export the PyTorch module with torch.export (docs/models.md)"))
        }
        _ => None,
    }
}
