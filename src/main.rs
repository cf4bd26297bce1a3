//! The command line: parses, calls `cli`, maps errors to exit codes.

fn main() {}
