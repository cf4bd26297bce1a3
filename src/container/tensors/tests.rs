//! Files that PyTorch wrote against what PyTorch says is in them, and files by hand.

use std::path::Path;

use candle_core::DType;
use serde_json::Value;

use super::*;
use crate::container::archive;

fn damage(failure: Failure) -> String {
    match failure {
        Failure::Damaged { reason, .. } => reason,
        Failure::Foreign { what, .. } => what.into(),
    }
}

fn error(bytes: &[u8]) -> String {
    damage(Contents::read(bytes).unwrap_err())
}

#[test]
fn tensors_are_those_that_pytorch_wrote() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tensors");
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    for (name, tensors) in expected.as_object().unwrap() {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let contents = Contents::read(&bytes).unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
        let tensors = tensors.as_object().unwrap();
        let mut wanted: Vec<&String> = tensors.keys().collect();
        wanted.sort();
        assert_eq!(contents.entries.keys().collect::<Vec<_>>(), wanted, "{name}");
        assert!(contents.unread.is_empty(), "{name}: {:?}", contents.unread);
        for (key, tensor) in tensors {
            let entry = &contents.entries[key];
            let read = entry.read(&bytes).unwrap();
            assert_eq!(serde_json::json!(read.dims()), tensor["shape"], "{name}: {key}");
            assert_eq!(serde_json::json!(entry.shape()), tensor["shape"], "{name}: {key}");
            assert_eq!(read.dtype(), entry.dtype(), "{name}: {key}");
            let values = read.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let expected: Vec<f64> = tensor["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert_eq!(values, expected, "{name}: {key}");
        }
    }
}

#[test]
fn damaged_files_of_pytorch_are_refused_or_read_as_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tensors");
    for name in ["legacy.pth", "zip.pth", "numpy4.pkl", "strided.pth"] {
        for bytes in crate::data::testing::damaged(&std::fs::read(folder.join(name)).unwrap()) {
            let Ok(contents) = Contents::read(&bytes) else { continue };
            contents.entries.values().for_each(|entry| _ = entry.read(&bytes));
        }
    }
}

/// A tensor of PyTorch in a pickle, of 2 x 2 numbers of a storage of as many as `count` says.
fn pickle(count: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let storage = [b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu", count, b"tQ"].concat();
    [&b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("[..], &storage, b"K\0", shape, strides, b"\x89NtR."].concat()
}

fn zipped(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    archive(&[("a/data.pkl", pickle), ("a/data/0", storage)])
}

#[test]
fn sizes_are_checked_against_the_file() {
    let (two, rows) = (b"K\x02K\x02\x86", b"K\x02K\x01\x86");
    let good = zipped(&pickle(b"K\x04", two, rows), &[0; 16]);
    assert_eq!(Contents::read(&good).unwrap().entries[""].shape(), [2, 2]);
    let unread = |pickle: &[u8], storage: &[u8]| {
        let contents = Contents::read(&zipped(pickle, storage)).unwrap();
        assert!(contents.entries.is_empty());
        contents.unread[0].1.clone()
    };
    assert_eq!(unread(&pickle(b"K\x04", two, rows), &[0; 12]), "its storage `0` is cut short");
    assert_eq!(
        unread(&pickle(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", two, rows), &[0; 16]),
        "its storage `0` is cut short"
    );
    assert!(unread(&pickle(b"K\x04", b"K\x02K\x03\x86", rows), &[0; 16]).contains("past the numbers"));
    let terabytes = b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86";
    assert!(unread(&pickle(b"K\x04", terabytes, b"K\0K\0\x86"), &[0; 16]).contains("past the numbers"));
    assert!(unread(&pickle(b"K\x04", b"K\x02\x85", rows), &[0; 16]).contains("strides"));
    assert_eq!(unread(&pickle(b"K\x04", b"N", rows), &[0; 16]), "its shape is damaged");
}

/// A list that holds itself, and one whose names would be longer than any file.
#[test]
fn what_repeats_itself_ends() {
    assert!(Contents::read(b"\x80\x02]q\x00h\x00a.").unwrap().entries.is_empty());
    let mut laughs = b"\x80\x02ctorch._utils\n_rebuild_qtensor\n)R".to_vec();
    (0..100).for_each(|_| laughs.extend(b"2\x86"));
    laughs.push(b'.');
    assert!(Contents::read(&laughs).unwrap().unread.len() < 8);
    let mut names = b"\x80\x02}X\xff\xff\0\0".to_vec();
    names.extend([b'n'; 0xffff]);
    names.extend(b"](");
    (0..100).for_each(|_| names.extend(b"ctorch._utils\n_rebuild_qtensor\n)R"));
    names.extend(b"es.");
    assert_eq!(error(&names), "the names of its tensors are longer than the file");
}

#[test]
fn files_of_other_kinds_are_named() {
    let torch_script = archive(&[("a/data.pkl", b"N."), ("a/constants.pkl", b"N."), ("a/code/a.py", b"")]);
    for (bytes, what) in [
        (&b"\x89HDF\r\n\x1a\nrest"[..], "an HDF5 file, as Keras writes"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS, not the file itself"),
        (b"\n  <!DOCTYPE html><html>", "a web page, not the file it was meant to be"),
        (b"\x82\xa6params\x81", "a msgpack file, as Flax writes"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
        (&archive(&[("x.npy", b"")]), "a NumPy archive"),
        (&torch_script, "a TorchScript archive"),
        (b"", "an empty file"),
        (b"{\"a\": 1}", "a JSON file"),
    ] {
        assert_eq!(error(bytes), what);
    }
    assert!(matches!(Contents::read(b"nothing").unwrap_err(), Failure::Damaged { format: "safetensors", .. }));
}

#[test]
fn a_type_that_is_not_supported_spoils_no_other_tensor() {
    let header = br#"{"c":{"dtype":"C64","shape":[1],"data_offsets":[0,8]},"x":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend([0; 12]);
    let contents = Contents::read(&bytes).unwrap();
    assert_eq!(contents.entries.keys().collect::<Vec<_>>(), ["x"]);
    assert_eq!(contents.unread, [("c".to_owned(), "its type C64 is not supported".to_owned())]);
}

#[test]
fn the_length_of_a_header_is_not_taken_for_another_format() {
    let header = br#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    // As pickles of protocols 2 to 5 begin, and msgpack.
    for length in [0x280usize, 0x380, 0x480, 0x580, 0xa682] {
        let mut bytes = (length as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.resize(8 + length, b' ');
        bytes.extend(1.5f32.to_le_bytes());
        assert_eq!(Contents::read(&bytes).unwrap().entries.keys().collect::<Vec<_>>(), ["x"], "{length:#x}");
    }
}

#[test]
fn names_that_were_left_out_stand_for_what_is_stored() {
    let header = br#"{"__metadata__":{"a":"b","format":"pt"},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(1.5f32.to_le_bytes());
    let contents = Contents::read(&bytes).unwrap();
    let (Entry::Stored(a), Entry::Stored(b)) = (&contents.entries["a"], &contents.entries["b"]) else { panic!() };
    assert!(a.is_same(b));
}
