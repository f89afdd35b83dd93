//! `fleet-telemetry fleet-config`: what vehicles are told to send.

mod build;
mod check;
#[cfg(feature = "sqlite")]
mod remote;
mod sign;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{ConfigFile, EXIT_CONFIG, complain, findings::Findings};
use crate::config::{self, Config, Env};
use crate::onboarding::telemetry::Document;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleet-telemetry fleet-config build --hostname t.example.com --ca ca.pem --field Soc=60 --field Location=10:25 >fields.json
  fleet-telemetry fleet-config check fields.json       every mistake at once, and what it can cost
  fleet-telemetry fleet-config sign fields.json        the token that the vehicle maker takes

A document is {\"vins\": […], \"config\": {…}}, as the vehicle maker's tools take it, or the configuration alone; `-` reads it
from standard input.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Judge a document by all rules of the vehicle maker, without asking anybody.
    ///
    /// Exits with 0 when nothing keeps it from being sent, with 1 when something does.
    Check(check::Args),
    /// Print a document made from a few words.
    Build(build::Args),
    /// Print a document's configuration, signed, as the body that the vehicle maker takes.
    ///
    /// It is judged first, and not signed when it is not good.
    Sign(sign::Args),
    /// Have vehicles of owners who have connected told it, signed, and say what became of each.
    ///
    /// Exits with 0 when each of them has it, or will take it when it is awake; else with 1.
    #[cfg(feature = "sqlite")]
    Push(remote::Push),
    /// Print what a vehicle is told now.
    #[cfg(feature = "sqlite")]
    Get(remote::Of),
    /// Print what differs between what a vehicle is told now and what it should be. Exits with 0 when nothing does.
    #[cfg(feature = "sqlite")]
    Diff(remote::Diff),
    /// Have a vehicle told to send nothing.
    #[cfg(feature = "sqlite")]
    Delete(remote::Of),
}

pub(super) fn run(args: &Args, before: ConfigFile) -> ExitCode {
    let outcome = match &args.command {
        Command::Check(args) => check::run(args, before),
        Command::Build(args) => build::run(args, before),
        Command::Sign(args) => sign::run(args, before),
        #[cfg(feature = "sqlite")]
        Command::Push(args) => remote::push(args, before),
        #[cfg(feature = "sqlite")]
        Command::Get(args) => remote::get(args, before),
        #[cfg(feature = "sqlite")]
        Command::Diff(args) => remote::diff(args, before),
        #[cfg(feature = "sqlite")]
        Command::Delete(args) => remote::delete(args, before),
    };
    outcome.unwrap_or_else(|failure| {
        complain(&failure.text);
        ExitCode::from(failure.code)
    })
}

/// What ends a command early: whole lines, and the exit code.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn new(error: impl std::fmt::Display) -> Self {
        Self { text: format!("error: {error}\n"), code: 1 }
    }

    fn of_config(text: String) -> Self {
        Self { text, code: EXIT_CONFIG }
    }
}

/// A document's file, `-` for standard input.
fn read(file: &Path) -> Result<Document, Failure> {
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    let named = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", file.display()));
    Document::parse(&bytes.map_err(|error| named(&error))?).map_err(|error| named(&error))
}

/// The server's configuration, when it is named, or there.
fn server(config: &ConfigFile, before: ConfigFile) -> Result<Option<Config>, Failure> {
    let named = config.config.clone().or(before.config);
    let Some(path) = named.or_else(|| Some(PathBuf::from("config.json")).filter(|path| path.exists())) else {
        return Ok(None);
    };
    match config::load(&path, &Env::of_process()) {
        Ok((config, _)) => Ok(Some(config)),
        Err(error) => Err(Failure::of_config(Findings::of(&error).report())),
    }
}
