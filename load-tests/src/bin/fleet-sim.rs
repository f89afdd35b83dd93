//! The vehicle simulator; see `fleet-sim --help`.

use std::process::ExitCode;

use clap::Parser;
use load_tests::cli::Arguments;

fn main() -> ExitCode {
    match load_tests::modes::run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fleet-sim: {error}");
            ExitCode::from(2)
        }
    }
}
