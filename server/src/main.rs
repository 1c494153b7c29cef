//! `varve`: parse arguments, hand over.

use std::process::ExitCode;

/// Many small chunk buffers live long beside many short-lived ones: what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    varve_server::cli::run()
}
