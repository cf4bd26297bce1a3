//! The library's allocator, and a clear end of the process where it finds no memory.

use std::alloc::{GlobalAlloc, Layout};
use std::io::{Cursor, Write};

use flatness::kernels::KeepingAllocator;

/// The allocator of the program. Where the system has no memory left, the standard library would abort; this one says so and
/// ends with the code of every other failure.
pub struct Allocator(KeepingAllocator);

impl Allocator {
    pub const fn new() -> Self {
        Self(KeepingAllocator::new())
    }
}

// SAFETY: every call goes on as it came; null is never returned.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised by the caller.
        found(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised by the caller.
        found(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as promised by the caller.
        found(unsafe { self.0.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { self.0.dealloc(block, layout) }
    }
}

fn found(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() { give_up(size) } else { block }
}

/// Ends the process without allocating anything.
#[cold]
fn give_up(size: usize) -> ! {
    let mut stderr = std::io::stderr().lock();
    if flatness::cli::COMPLAINED.load(std::sync::atomic::Ordering::SeqCst) {
        end()
    }
    let mut words = Cursor::new([0u8; 256]);
    let said = writeln!(
        words,
        "error: out of memory: {size} bytes were asked for, and the system has no more\n\
         hint: lower --memory, take fewer rows with --rows or --subset, or free memory of the machine"
    );
    let length = if said.is_ok() { words.position() as usize } else { 0 };
    // Where stderr is closed, the code says it all.
    let _ = stderr.write_all(&words.get_ref()[..length]);
    end()
}

/// At once: handlers that run at a usual exit would meet the other threads still at work.
#[cfg(unix)]
fn end() -> ! {
    unsafe extern "C" {
        fn _exit(code: std::ffi::c_int) -> !;
    }
    // SAFETY: it takes any number and does not return.
    unsafe { _exit(flatness::cli::FAILED.into()) }
}

#[cfg(not(unix))]
fn end() -> ! {
    std::process::exit(flatness::cli::FAILED.into())
}
