#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| flatness_fuzz::read(flatness_fuzz::formats::networks, input));
