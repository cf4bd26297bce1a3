//! The command line: parses, calls `cli`, maps errors to exit codes.

mod allocator;

#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> std::process::ExitCode {
    const POLARS: &str = "POLARS_MAX_THREADS";
    if std::env::var_os(POLARS).is_none() {
        // Tables are read and written by polars, on a pool of its own beside that of `--threads`, which waits meanwhile.
        // SAFETY: no other thread has begun.
        unsafe { std::env::set_var(POLARS, "1") };
    }
    flatness::cli::run(std::env::args_os(), &mut flatness::cli::Ui::process())
}
