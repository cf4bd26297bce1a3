//! Readers of files for cargo-fuzz, over the formats of `tests/mutations`. The first byte of an input chooses among the formats
//! of a target.

#[path = "../../tests/mutations/formats.rs"]
pub mod formats;
#[path = "../../tests/mutations/mutate.rs"]
pub mod mutate;

use std::cell::OnceCell;

use formats::Format;

/// Reads one input: it must end, and in no panic.
pub fn read(formats: fn() -> Vec<Format>, input: &[u8]) {
    thread_local! {
        static FOLDERS: OnceCell<Vec<(Format, tempfile::TempDir)>> = const { OnceCell::new() };
    }
    let [choice, bytes @ ..] = input else { return };
    FOLDERS.with(|folders| {
        let with_folder = |format: Format| {
            let folder = format.folder();
            (format, folder)
        };
        let folders = folders.get_or_init(|| formats().into_iter().map(with_folder).collect());
        let (format, folder) = &folders[usize::from(*choice) % folders.len()];
        std::fs::write(folder.path().join(format.file), bytes).expect("the folder of temporary files can be written");
        let _ = (format.read)(folder.path());
    });
}
