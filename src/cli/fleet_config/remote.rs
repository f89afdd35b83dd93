//! `fleet-config push`, `get`, `diff`, `delete`: what vehicles are told now.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Failure, read};
use crate::cli::onboarding::{self, block_on, load, owners};
use crate::cli::{ConfigFile, complain, say};
use crate::config::Onboarding;
use crate::onboarding::deploy::{self, Outcome};
use crate::onboarding::fleet_api::CurrentConfig;
use crate::onboarding::owners::Owners;
use crate::onboarding::telemetry::{Document, Facts, build, judge};
use crate::onboarding::{drift, key};
use crate::tls::certificate;

#[derive(Debug, clap::Args)]
pub(super) struct Push {
    /// The document, JSON [default: onboarding.telemetry of the configuration].
    file: Option<PathBuf>,
    /// A vehicle. Any number of them [default: those of the document, or all that have connected].
    #[arg(long = "vin", value_name = "VIN")]
    vins: Vec<String>,
    /// Wait so long for vehicles to take it, in seconds; asleep, they may need a day.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// Which vehicle.
    vin: String,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    /// Which vehicle.
    vin: String,
    /// The document, JSON [default: onboarding.telemetry of the configuration].
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Between two looks whether a vehicle has taken it.
const LOOK: Duration = Duration::from_secs(5);

impl From<onboarding::Failure> for Failure {
    fn from(failure: onboarding::Failure) -> Self {
        match failure {
            onboarding::Failure::Config(text) => Self::of_config(text),
            onboarding::Failure::Other(text) => Self::new(text),
        }
    }
}

/// A document, and what is needed to have vehicles told it.
fn wanted(file: Option<&Path>, section: &Onboarding) -> Result<Document, Failure> {
    match (file, &section.telemetry) {
        (Some(file), _) => read(file),
        (None, Some(telemetry)) => {
            let config = build::of_server(telemetry).map_err(Failure::new)?;
            Ok(Document { vins: Vec::new(), config })
        }
        (None, None) => {
            Err(Failure::new("what should be sent? Give a document, or onboarding.telemetry in the configuration"))
        }
    }
}

fn facts(section: &Onboarding) -> Facts {
    Facts { domain: Some(section.domain.clone()), now: certificate::now(), ..Facts::default() }
}

pub(super) fn push(args: &Push, before: ConfigFile) -> Result<ExitCode, Failure> {
    let file = args.config.or_else(before);
    let (config, section) = load(&file)?;
    let owners = owners(&file, &section)?;
    let mut document = wanted(args.file.as_deref(), &section)?;
    if !args.vins.is_empty() {
        document.vins.clone_from(&args.vins);
    } else if document.vins.is_empty() {
        let all = owners.vault().vehicles(None).map_err(Failure::new)?;
        document.vins = all.into_iter().map(|vehicle| vehicle.vin).collect();
    }
    if document.vins.is_empty() {
        return Err(Failure::new("no vehicle: no owner has connected yet, and none was named"));
    }
    let found = judge(&document, &facts(&section));
    complain(&super::check::lines("the document", &found));
    if !found.is_good() {
        return Ok(ExitCode::FAILURE);
    }
    let key = key(&section, &config.listener.tls).map_err(Failure::new)?;
    let wait = Duration::from_secs(args.wait);
    Ok(block_on(async {
        let outcomes = deploy::push(&owners, &key, &document, &facts(&section)).await;
        let mut all_good = true;
        for (vin, outcome) in &outcomes {
            let (line, is_good) = match outcome {
                Outcome::Skipped(reason) => (format!("{}: {}", reason.code, reason.text), false),
                Outcome::Pushed => arrival(&owners, vin, wait).await,
            };
            all_good &= is_good;
            say(&format!("{vin}: {line}\n"));
        }
        Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })?)
}

/// What to say of a vehicle that was told, and whether that is all right.
async fn arrival(owners: &Owners, vin: &str, wait: Duration) -> (String, bool) {
    let began = Instant::now();
    loop {
        match current(owners, vin).await {
            Ok(current) if deploy::has_arrived(&current) => return ("synced: the vehicle has it".to_owned(), true),
            Ok(current) if current.synced && current.limit_reached => {
                let reason = deploy::skipped("max_configs");
                return (format!("{}: {}", reason.code, reason.text), false);
            }
            Ok(current) if current.synced => {
                let why = "was taken, and is gone again: the owner has withdrawn, or the money limit is reached";
                return (format!("removed: {why}"), false);
            }
            Ok(_) if began.elapsed() < wait => tokio::time::sleep(LOOK.min(wait)).await,
            Ok(_) => return ("syncing: the vehicle takes it when it is awake".to_owned(), true),
            Err(error) => return (error.to_string(), false),
        }
    }
}

async fn current(owners: &Owners, vin: &str) -> Result<CurrentConfig, crate::onboarding::owners::OwnersError> {
    let mut session = owners.session_of(vin).await?;
    session.current(vin).await
}

pub(super) fn get(args: &Of, before: ConfigFile) -> Result<ExitCode, Failure> {
    let file = args.config.or_else(before);
    let (_, section) = load(&file)?;
    let owners = owners(&file, &section)?;
    let current = block_on(async { current(&owners, &args.vin).await.map_err(onboarding::Failure::new) })?;
    let shown: Value = json!({
        "synced": current.synced,
        "config": current.config,
        "limit_reached": current.limit_reached,
        "key_paired": current.key_paired,
    });
    say(&format!("{shown:#}\n"));
    Ok(if current.config.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn diff(args: &Diff, before: ConfigFile) -> Result<ExitCode, Failure> {
    let file = args.config.or_else(before);
    let (config, section) = load(&file)?;
    let wanted = wanted(args.file.as_deref(), &section)?;
    let owners = owners(&file, &section)?;
    let key = key(&section, &config.listener.tls).map_err(Failure::new)?;
    let current = block_on(async { current(&owners, &args.vin).await.map_err(onboarding::Failure::new) })?;
    let differs = drift::drift(&wanted.config, &current, &key);
    for line in &differs {
        say(&format!("{}: {line}\n", args.vin));
    }
    Ok(if differs.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn delete(args: &Of, before: ConfigFile) -> Result<ExitCode, Failure> {
    let file = args.config.or_else(before);
    let (_, section) = load(&file)?;
    let owners = owners(&file, &section)?;
    let vin = &args.vin;
    let was_there = block_on(async {
        let mut session = owners.session_of(vin).await.map_err(onboarding::Failure::new)?;
        let deleted = session.delete(vin).await;
        deleted.map_err(onboarding::Failure::new)
    })?;
    say(&format!("{vin}: {}\n", if was_there { "deleted" } else { "had none" }));
    Ok(ExitCode::SUCCESS)
}
