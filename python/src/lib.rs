//! The native part of the Python package: NumPy arrays in, NumPy arrays and Arrow tables out. It computes nothing itself.

mod arrays;
mod calls;
mod commands;
mod objective;
mod spectral;
mod tables;

use flatness::kernels::KeepingAllocator;
use pyo3::prelude::*;

// Rust's own allocations alone: memory of NumPy and PyTorch never comes here.
#[global_allocator]
static ALLOCATOR: KeepingAllocator = KeepingAllocator::new();

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::commands::{call, main};
    #[pymodule_export]
    use super::objective::{Network, Objective, Operator, Rows};
    #[pymodule_export]
    use super::tables::{Table, read_table};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
