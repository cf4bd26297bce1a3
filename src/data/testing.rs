//! Helpers of this folder's tests.

use std::path::{Path, PathBuf};

use rand::Rng;

use super::draw::below;
use crate::random::{Purpose, stream};

/// More memory than any test needs.
pub(super) const MEMORY: usize = 1 << 30;

/// The bytes cut short at every length (at most 200 of them), and with up to four bytes replaced at random.
pub(crate) fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut rng = stream(bytes.len() as u64, Purpose::Check);
    let step = bytes.len() / 200 + 1;
    let cut = (0..bytes.len()).step_by(step).map(|len| bytes[..len].to_vec());
    let flipped = (0..300).map(move |_| {
        let mut copy = bytes.to_vec();
        for _ in 0..1 + below(&mut rng, 4) {
            let place = below(&mut rng, copy.len());
            copy[place] = rng.next_u32() as u8;
        }
        copy
    });
    cut.chain(flipped)
}

/// A file that `tools/make_image_fixtures.py` made with Pillow and torchvision.
pub(super) fn image_fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images").join(name)).unwrap()
}

/// A folder of real data beside the repository; says so and gives `None` where it is absent.
#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
pub(crate) fn shared_data(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is not there", folder.display());
    None
}
