//! `fleet-telemetry keys`: the key that vehicles know an application by.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use data_encoding::HEXLOWER;

use super::onboarding::{Failure, block_on, load, web};
use super::{ConfigFile, say};
use crate::onboarding::{self, FleetKey, WELL_KNOWN, served};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleet-telemetry keys new fleet-key.pem     then name it in onboarding.key_file
  fleet-telemetry keys show                  the public half, to be served by another server
  fleet-telemetry keys check                 is it served as the vehicle maker wants it?")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key on the curve P-256, in a file that only its owner may read.
    ///
    /// A file that exists is never overwritten. Keep a copy of it somewhere safe: with another key the application has to
    /// be registered again, every owner has to pair again, and every configuration has to be signed again.
    New {
        /// The file for the private half (PEM).
        file: PathBuf,
        /// Also write the public half, for another web server.
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
    },
    /// Print the public half, its point in hexadecimal, and its fingerprint.
    Show {
        /// The private half [default: onboarding.key_file of the configuration].
        file: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// See that the key can be used, and that others find its public half.
    ///
    /// Exits with 0 if the vehicle maker would take it, with 1 if not, with 64 if the configuration cannot be used.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Ask there instead of at https://DOMAIN/.well-known/appspecific/com.tesla.3p.public-key.pem.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
}

pub(super) fn run(args: &Args, before: ConfigFile) -> ExitCode {
    let outcome = match &args.command {
        Command::New { file, public } => new(file, public.as_deref()),
        Command::Show { file, config } => show(file.as_deref(), &config.or_else(before)),
        Command::Check { config, url } => check(&config.or_else(before), url.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.end(),
    }
}

fn new(file: &Path, public: Option<&Path>) -> Result<(), Failure> {
    let key = FleetKey::generate().map_err(Failure::new)?;
    key.write(file).map_err(Failure::new)?;
    if let Some(public) = public {
        key.write_public(public).map_err(Failure::new)?;
    }
    say(&format!(
        "private key  {} (mode 600; keep a copy somewhere safe)\nfingerprint  {}\n\nName it in the configuration:\n  \
         \"onboarding\": {{ \"domain\": \"example.com\", \"key_file\": {:?} }}\n",
        file.display(),
        key.fingerprint(),
        file.display().to_string(),
    ));
    Ok(())
}

fn show(file: Option<&Path>, config: &Path) -> Result<(), Failure> {
    let key = match file {
        Some(file) => FleetKey::read(file).map_err(Failure::new)?,
        None => {
            let (_, section) = load(config)?;
            FleetKey::read(&section.key_file).map_err(Failure::new)?
        }
    };
    let point = HEXLOWER.encode(&key.point());
    say(&format!("{}point        {point}\nfingerprint  {}\n", key.public_pem(), key.fingerprint()));
    Ok(())
}

fn check(file: &Path, url: Option<&str>) -> Result<(), Failure> {
    let (config, section) = load(file)?;
    let key = onboarding::key(&section, &config.listener.tls).map_err(Failure::new)?;
    say(&format!("ok: {}: P-256, not for everybody to read, not a TLS key\n", section.key_file.display()));
    let url = url.map_or_else(|| format!("https://{}{WELL_KNOWN}", section.domain), str::to_owned);
    let web = web(&section)?;
    let served =
        async { served::check(&web, &url, &key).await.map_err(|error| Failure::new(format!("{url}: {error}"))) };
    block_on(served)?;
    say(&format!("ok: {url}: 200, no redirect, this very key ({})\n", key.fingerprint()));
    Ok(())
}
