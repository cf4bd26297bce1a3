//! Writes the seeds of all targets into `corpus`, from which cargo-fuzz starts.

use std::path::Path;

use flatness_fuzz::formats::{Format, data, networks, settings, weights};

fn main() -> std::io::Result<()> {
    let targets: [(&str, fn() -> Vec<Format>); 4] =
        [("weights", weights), ("networks", networks), ("data", data), ("settings", settings)];
    for (target, formats) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        for (choice, format) in formats().iter().enumerate() {
            for (place, seed) in format.seeds.iter().enumerate() {
                std::fs::write(folder.join(format!("{}-{place}", format.name)), [&[choice as u8], &seed[..]].concat())?;
            }
        }
    }
    Ok(())
}
