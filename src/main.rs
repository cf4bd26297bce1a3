//! The command line: parses, calls `cli`, maps errors to exit codes.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    flatness::cli::run(std::env::args_os(), &mut flatness::cli::Ui::process())
}
