//! What shells and `man` know of the command line: made from its definition, so that they cannot differ.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Args as Program, complain, say};

const NAME: &str = "fleet-telemetry";

#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct Manual {
    /// The folder for the pages, which must exist.
    folder: PathBuf,
}

pub(super) fn completions(args: &Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Program::command(), NAME, &mut script);
    say(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

pub(super) fn manual(args: &Manual) -> ExitCode {
    match pages(&args.folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {}: {error}\n", args.folder.display()));
            ExitCode::FAILURE
        }
    }
}

/// A page for the program and one for each subcommand.
fn pages(folder: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Program::command().disable_help_subcommand(true), folder)
}
