//! Damaged files of every kind that is read: each is read as before, or refused with one clear error. No panic, no abort, no
//! long wait.
//!
//! `FLATNESS_FUZZ=N` tries N inputs instead of 20,000; a failing input is named by its number and kept in the folder of
//! temporary files, and the same number always makes the same input.

mod formats;
mod mutate;

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::formats::{Format, formats};
use self::mutate::{below, mutated, mutated_gzip, mutated_zip};

/// Inputs of an ordinary run.
const INPUTS: usize = 20_000;
/// What no input may take, on a busy machine.
const MOST: Duration = Duration::from_secs(10);

fn input(format: &Format, number: usize) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(number as u64);
    let seed = &format.seeds[below(&mut rng, format.seeds.len())];
    let other = &format.seeds[below(&mut rng, format.seeds.len())];
    // Behind checksums and compression nothing but damaged contents gets through.
    match below(&mut rng, 2) {
        0 if seed.starts_with(b"PK\x03\x04") => mutated_zip(seed, other, &mut rng),
        0 if seed.starts_with(b"\x1f\x8b") => mutated_gzip(seed, other, &mut rng),
        _ => mutated(seed, other, &mut rng),
    }
}

/// Whether an input was read, or what went wrong with it.
fn attempt(format: &Format, number: usize, folder: &std::path::Path) -> Result<bool, String> {
    let bytes = input(format, number);
    let path = folder.join(format.file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let start = Instant::now();
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| (format.read)(folder)));
    let took = start.elapsed();
    let text = match ended {
        Err(_) => "a panic".to_owned(),
        Ok(Err(error)) if error.to_string().is_empty() => "an error without words".to_owned(),
        Ok(_) if took > MOST => format!("{took:?}"),
        Ok(ended) => return Ok(ended.is_ok()),
    };
    let kept = std::env::temp_dir().join(format!("flatness-{}-{number}", format.name));
    std::fs::write(&kept, &bytes).unwrap();
    Err(format!("{} {number}: {text}; kept as {}", format.name, kept.display()))
}

#[test]
fn damaged_files_are_read_or_refused() {
    let count = std::env::var("FLATNESS_FUZZ").map_or(INPUTS, |text| text.parse().unwrap());
    let formats = formats();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let read: Vec<AtomicUsize> = formats.iter().map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let folders: Vec<tempfile::TempDir> = formats.iter().map(|format| format.folder()).collect();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let place = number % formats.len();
                    match attempt(&formats[place], number, folders[place].path()) {
                        Ok(well) => _ = read[place].fetch_add(usize::from(well), Ordering::Relaxed),
                        Err(fault) => faults.lock().unwrap().push(fault),
                    }
                }
            });
        }
    });
    for (format, read) in formats.iter().zip(&read) {
        println!(
            "{}: {} of {} read, the rest refused",
            format.name,
            read.load(Ordering::Relaxed),
            count / formats.len()
        );
    }
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The seeds themselves are good: what is damaged is worth reading.
#[test]
fn seeds_are_read() {
    for format in formats() {
        let folder = format.folder();
        for (place, seed) in format.seeds.iter().enumerate().take(format.good) {
            std::fs::write(folder.path().join(format.file), seed).unwrap();
            (format.read)(folder.path()).unwrap_or_else(|error| panic!("{} {place}: {error}", format.name));
        }
    }
}
