//! Paths as text and back: what JSON, TOML and command lines hold, faithful to names that are no UTF-8.

use std::ffi::OsStr;
use std::path::PathBuf;

/// UTF-8 as it is; any other byte as NUL and two hexadecimal digits, since no path holds a NUL.
pub(crate) fn to_text(path: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    for chunk in path.as_ref().as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        chunk.invalid().iter().for_each(|byte| text += &format!("\0{byte:02x}"));
    }
    text
}

/// The path of [`to_text`]; any other text is a path as it is.
pub(crate) fn from_text(text: &str) -> PathBuf {
    #[cfg(unix)]
    if text.contains('\0') {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt;

        let mut parts = text.split('\0');
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            match byte.filter(|byte| !byte.is_ascii()) {
                Some(byte) => bytes.extend(std::iter::once(byte).chain(part.bytes().skip(2))),
                None => bytes.extend(std::iter::once(0).chain(part.bytes())),
            }
        }
        return OsString::from_vec(bytes).into();
    }
    text.into()
}

/// Paths that may be missing, as fields of serde.
pub(crate) mod optional {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_ref().map(super::to_text).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(|text| super::from_text(&text)))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn every_path_comes_back_and_utf8_stays_readable() {
        assert_eq!(to_text("a/é 1"), "a/é 1");
        assert_eq!(to_text(OsString::from_vec(b"caf\xe9/a".to_vec())), "caf\0e9/a");
        for bytes in [&b"plain"[..], b"", b"\xff", b"caf\xe9/\xc3\xa9", b"\xe2\x82", b"a\xe9e9\xe9"] {
            let path: PathBuf = OsString::from_vec(bytes.to_vec()).into();
            let text = to_text(&path);
            assert_eq!(from_text(&text), path);
            // A text that has passed through an argument is the same text.
            assert_eq!(to_text(&text), text);
        }
    }

    #[test]
    fn a_nul_that_stands_for_no_byte_hides_no_letter() {
        for text in ["a\0", "a\0g", "a\x002f", "\0é"] {
            assert_eq!(from_text(text), PathBuf::from(text));
        }
    }
}
