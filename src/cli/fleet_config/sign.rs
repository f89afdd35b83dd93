//! `fleet-config sign`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::check::{Known, lines};
use super::{Failure, read, server};
use crate::cli::{ConfigFile, complain, say};
use crate::onboarding::telemetry::judge;
use crate::onboarding::{FleetKey, token};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The document, JSON.
    file: PathBuf,
    /// The application's private key [default: onboarding.key_file of the configuration].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print the token alone.
    #[arg(long)]
    token: bool,
    #[command(flatten)]
    facts: Known,
}

pub(super) fn run(args: &Args, before: ConfigFile) -> Result<ExitCode, Failure> {
    let document = read(&args.file)?;
    let config = server(&args.facts.config, before)?;
    let found = judge(&document, &args.facts.facts(config.as_ref()));
    complain(&lines(&args.file.display().to_string(), &found));
    if !found.is_good() {
        return Ok(ExitCode::FAILURE);
    }
    let section = config.and_then(|config| config.onboarding);
    let Some(path) = args.key.clone().or_else(|| section.map(|section| section.key_file)) else {
        return Err(Failure::new("no key to sign with; give --key FILE, or --config with onboarding.key_file"));
    };
    let key = FleetKey::read_private(&path).map_err(Failure::new)?;
    let token = token::sign(&key, &document.config);
    say(&if args.token {
        format!("{token}\n")
    } else {
        format!("{}\n", json!({"token": token, "vins": document.vins}))
    });
    Ok(ExitCode::SUCCESS)
}
