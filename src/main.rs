//! The server binary.

use std::process::ExitCode;

/// No worse than others in memory and time, and it gives back what a burst took: docs/adr/0012.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    fleet_telemetry::cli::run()
}
