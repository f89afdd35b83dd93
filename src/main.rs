//! The server binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleet_telemetry::cli::run()
}
