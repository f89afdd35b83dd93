//! The command line: one file per subcommand.

mod certs;
mod check;
#[cfg(feature = "sqlite")]
mod consent;
#[cfg(feature = "sqlite")]
mod doctor;
mod findings;
mod fleet_config;
mod health;
mod init;
mod keys;
#[cfg(feature = "sqlite")]
mod offboard;
mod onboarding;
#[cfg(feature = "sqlite")]
mod pair;
mod partner;
mod permissions;
mod serve;
mod shell;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The configuration is not usable (`EX_USAGE`).
const EXIT_CONFIG: u8 = 64;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("FLEET_TELEMETRY_COMMIT"), ")");

const EXAMPLES: &str = "\
Examples:
  fleet-telemetry                                  serve with ./config.json
  fleet-telemetry -config /etc/fleet/config.json   the same, as the Go server takes it
  fleet-telemetry init                             three questions make ./config.json
  fleet-telemetry check --config config.json       find all mistakes without starting
  fleet-telemetry certs verify vehicle_ca.pem      is this really the vehicle maker's bundle?
  fleet-telemetry keys new fleet-key.pem           the key that vehicles know you by
  fleet-telemetry fleet-config check fields.json   would the vehicle maker take this configuration?
  fleet-telemetry pair 5YJ...                      have the owner's phone give the car our key
  fleet-telemetry permissions grant 5YJ...         the owner has consented to location

Environment:
  FLEET_TELEMETRY_API_TOKEN              token of the admin API, for `permissions`
  SUPPRESS_TLS_HANDSHAKE_ERROR_LOGGING   true: failed TLS handshakes are not logged";

/// Receives vehicle telemetry over mutual TLS and hands it to Kafka, SQLite and other dispatchers.
#[derive(Debug, Parser)]
#[command(name = "fleet-telemetry", version = VERSION, after_help = EXAMPLES)]
struct Args {
    #[command(flatten)]
    file: ConfigFile,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration, JSON [default: config.json]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (what happens without a subcommand, too).
    Serve(ConfigFile),
    /// Ask three questions and write a configuration that the server starts with.
    Init(init::Args),
    /// Check the configuration and the certificates that it names, and report every problem.
    ///
    /// Exits with 0 when the server would start with them as far as is told without connecting, else with 64. It would
    /// also start with certificates that are not valid today, as the clock may be wrong: the report says so, loudly.
    Check(check::Args),
    /// Look at certificates.
    Certs(certs::Args),
    /// Ask a running server whether it is ready.
    ///
    /// Exits with 0 when it is, else with 1 and the reasons.
    Health(health::Args),
    /// Ask an owner for consent, without a page: a link, and what comes back.
    #[cfg(feature = "sqlite")]
    Consent(consent::Args),
    /// Vehicles of owners who have connected, and what each needs next.
    #[cfg(feature = "sqlite")]
    Vehicles(consent::VehiclesArgs),
    /// Have a vehicle take the application's key: link and QR code, and waits until it is done.
    #[cfg(feature = "sqlite")]
    Pair(pair::Args),
    /// Why is there no data? What is wrong with our side, or with one vehicle, by asking the vehicle maker.
    ///
    /// Exits with 0 when nothing is, else with 1; a vehicle is looked at until the first thing that is wrong.
    #[cfg(feature = "sqlite")]
    Doctor(doctor::Args),
    /// Have a vehicle send nothing more, and forget what is kept of its owner.
    #[cfg(feature = "sqlite")]
    Offboard(offboard::Args),
    /// What vehicles are told to send: judge it, make it, sign it.
    FleetConfig(fleet_config::Args),
    /// The key that vehicles know the application by: make one, show it, see that it is served.
    Keys(keys::Args),
    /// Register the application with the vehicle maker, or see what is registered.
    Partner(partner::Args),
    /// Read and change what owners have consented to, over the server's admin API.
    Permissions(Box<permissions::Args>),
    /// Print what completes this command line in a shell.
    Completions(shell::Completions),
    /// Write manual pages into a folder.
    Man(shell::Manual),
}

/// Runs the program with the process' arguments and environment.
#[must_use]
pub fn run() -> ExitCode {
    let args = match Args::try_parse_from(std::env::args_os().map(go_style)) {
        Ok(args) => args,
        Err(error) => {
            // Nobody could be told that stderr is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let before = args.file;
    match args.command.unwrap_or(Command::Serve(ConfigFile { config: None })) {
        Command::Serve(file) => serve::run(&file.or(before)),
        Command::Check(check::Args { file, json }) => check::run(&file.or(before), json),
        Command::Init(init) => init::run(&init, &init.file.or_else(before)),
        Command::Certs(certs) => certs::run(&certs),
        Command::Health(health) => health::run(&health, before.or(ConfigFile { config: None })),
        #[cfg(feature = "sqlite")]
        Command::Consent(consent) => consent::run(&consent, before),
        #[cfg(feature = "sqlite")]
        Command::Vehicles(vehicles) => consent::vehicles(&vehicles, before),
        #[cfg(feature = "sqlite")]
        Command::Pair(pair) => pair::run(&pair, before),
        #[cfg(feature = "sqlite")]
        Command::Doctor(doctor) => doctor::run(&doctor, before),
        #[cfg(feature = "sqlite")]
        Command::Offboard(offboard) => offboard::run(&offboard, before),
        Command::FleetConfig(fleet_config) => fleet_config::run(&fleet_config, before),
        Command::Partner(partner) => partner::run(&partner, before),
        Command::Keys(keys) => keys::run(&keys, before),
        Command::Permissions(permissions) => permissions::run(&permissions, before.config),
        Command::Completions(completions) => shell::completions(&completions),
        Command::Man(manual) => shell::manual(&manual),
    }
}

impl ConfigFile {
    /// As [`Self::or`], of one that is borrowed.
    fn or_else(&self, before: Self) -> PathBuf {
        Self { config: self.config.clone() }.or(before)
    }

    /// The option may stand on either side of the subcommand.
    fn or(self, before: Self) -> PathBuf {
        self.config.or(before.config).unwrap_or_else(|| PathBuf::from("config.json"))
    }
}

/// Prints a report; a reader that has gone away (`| head`) is no error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The same to stderr. Its end is no reason to end otherwise than by the exit code that follows.
fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Go takes long flags with one dash, clap with two.
fn go_style(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text) if text == "-config" || text.starts_with("-config=") || text == "-help" => format!("-{text}").into(),
        _ => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file that `serve` or `check` uses.
    fn file(arguments: &[&str]) -> PathBuf {
        let arguments = std::iter::once("fleet-telemetry").chain(arguments.iter().copied());
        let args = Args::try_parse_from(arguments.map(OsString::from).map(go_style)).unwrap();
        match args.command {
            Some(Command::Serve(file) | Command::Check(check::Args { file, .. })) => file.or(args.file),
            _ => args.file.or(ConfigFile { config: None }),
        }
    }

    #[test]
    fn defines_a_consistent_command_line() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn takes_the_configuration_in_both_styles_and_on_either_side() {
        for arguments in [
            &["-config", "x.json"][..],
            &["-config=x.json"],
            &["--config", "x.json"],
            &["--config=x.json"],
            &["check", "-config", "x.json"],
            &["--config", "x.json", "serve"],
            &["--config", "y.json", "serve", "--config=x.json"],
        ] {
            assert_eq!(file(arguments), PathBuf::from("x.json"), "{arguments:?}");
        }
        assert_eq!(file(&[]), PathBuf::from("config.json"));
        assert_eq!(file(&["check"]), PathBuf::from("config.json"));
    }
}
