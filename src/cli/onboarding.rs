//! What the commands about onboarding share: the section of the configuration, somebody to ask, and how they end.

use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use super::findings::Findings;
use super::{EXIT_CONFIG, complain};
use crate::config::{self, Config, Env, Onboarding};
use crate::onboarding::fleet_api::FleetApi;
#[cfg(feature = "sqlite")]
use crate::onboarding::owners::Owners;
#[cfg(feature = "sqlite")]
use crate::onboarding::vault::Vault;
use crate::onboarding::web::Web;
use crate::tls::client;

/// What ends a command early.
#[derive(Debug)]
pub(super) enum Failure {
    /// The configuration; one or more whole lines.
    Config(String),
    /// Anything else, in a sentence.
    Other(String),
}

impl Failure {
    pub(super) fn new(error: impl Display) -> Self {
        Self::Other(error.to_string())
    }

    /// Says it, and tells the exit code.
    pub(super) fn end(&self) -> ExitCode {
        match self {
            Self::Config(report) => {
                complain(report);
                ExitCode::from(EXIT_CONFIG)
            }
            Self::Other(text) => {
                complain(&format!("error: {text}\n"));
                ExitCode::FAILURE
            }
        }
    }
}

/// The configuration, and its section.
pub(super) fn load(file: &Path) -> Result<(Config, Onboarding), Failure> {
    let (config, _) =
        config::load(file, &Env::of_process()).map_err(|error| Failure::Config(Findings::of(&error).report()))?;
    match config.onboarding.clone() {
        Some(section) => Ok((config, section)),
        None => Err(lacks(file, "section onboarding; give it one with domain and key_file")),
    }
}

/// Asks others, as the section says.
pub(super) fn web(section: &Onboarding) -> Result<Web, Failure> {
    let tls = client::client(&section.tls).map_err(|error| Failure::Config(format!("error: {error}\n")))?;
    Ok(Web::new(tls, section.timeout))
}

/// Asks the vehicle maker.
pub(super) fn fleet_api(file: &Path, section: &Onboarding) -> Result<FleetApi, Failure> {
    let lacks = || lacks(file, "onboarding.application; give client_id and client_secret of the developer portal");
    FleetApi::new(section, web(section)?).ok_or_else(lacks)
}

pub(super) fn lacks(file: &Path, what: &str) -> Failure {
    Failure::Config(format!("error: {}: has no {what}\n", file.display()))
}

/// Runs what asks others.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::new)?;
    runtime.block_on(work)
}

/// Owners, as they are kept.
#[cfg(feature = "sqlite")]
pub(super) fn owners(file: &Path, section: &Onboarding) -> Result<Owners, Failure> {
    let lacks = || lacks(file, "onboarding.tokens; give it a key, so that owners' tokens can be kept");
    let tokens = section.tokens.as_ref().ok_or_else(lacks)?;
    let vault = Vault::open(tokens).map_err(Failure::new)?;
    Ok(Owners::new(fleet_api(file, section)?, vault))
}
