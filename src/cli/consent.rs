//! `fleet-telemetry consent` and `fleet-telemetry vehicles`: owners without a page.

use std::process::ExitCode;

use serde_json::json;

use super::onboarding::{Failure, block_on, load, owners};
use super::{ConfigFile, complain, say};
use crate::config::Onboarding;
use crate::onboarding::consent::{self, Asked};
use crate::onboarding::deploy;
use crate::onboarding::owners::{Callback, Owners, OwnersError};
use crate::onboarding::vault::OwnerState;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleet-telemetry consent link               open it in a browser, as the owner
  fleet-telemetry consent finish 'https://example.com/callback?code=…&state=…'")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a link to the vehicle maker's page, and say what is asked for and why.
    ///
    /// It asks for what onboarding.telemetry.fields need, also when the owner has left some of it out before. It works
    /// once, for a quarter of an hour.
    Link {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Take the address that the browser was sent back to.
    ///
    /// Exits with 0 when the owner has given everything that was asked for, else with 1.
    Finish {
        /// With code and state in it.
        address: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct VehiclesArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, before: ConfigFile) -> ExitCode {
    let outcome = match &args.command {
        Command::Link { config } => link(config, before),
        Command::Finish { address, config } => finish(address, config, before),
    };
    outcome.unwrap_or_else(|failure| failure.end())
}

/// What the configuration needs of owners.
pub(super) fn asked(section: &Onboarding) -> Vec<Asked> {
    let fields = section.telemetry.iter().flat_map(|telemetry| telemetry.fields.keys());
    consent::asked(fields.map(String::as_str))
}

fn link(config: &ConfigFile, before: ConfigFile) -> Result<ExitCode, Failure> {
    let file = config.or_else(before);
    let (_, section) = load(&file)?;
    let asked = asked(&section);
    let link = owners(&file, &section)?.link(&consent::scopes(&asked)).map_err(Failure::new)?;
    for one in &asked {
        complain(&format!("{}: {} ({})\n", one.scope, one.why, one.groups.join(", ")));
    }
    complain("On the vehicle maker's page nothing is ticked beforehand: select all of it, then allow.\n");
    say(&format!("{link}\n"));
    Ok(ExitCode::SUCCESS)
}

fn finish(address: &str, config: &ConfigFile, before: ConfigFile) -> Result<ExitCode, Failure> {
    let file = config.or_else(before);
    let (_, section) = load(&file)?;
    let owners = owners(&file, &section)?;
    let uri: hyper::Uri = address.parse().map_err(|_| Failure::new("this is no address"))?;
    let callback = axum::extract::Query::<Callback>::try_from_uri(&uri)
        .map_err(|_| Failure::new("this address has no code and state"))?;
    block_on(async {
        let owner = owners.arrive(&callback).await.map_err(Failure::new)?;
        say(&format!("connected: {}\n", owner.scopes.join(" ")));
        for vehicle in owners.vault().vehicles(Some(&owner.sub)).map_err(Failure::new)? {
            say(&format!("{}  {}\n", vehicle.vin, vehicle.name));
        }
        let missing = consent::missing(&asked(&section), &owner.scopes);
        if missing.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        complain(&format!("scope_missing: {} was not given; `consent link` asks again\n", missing.join(", ")));
        Ok(ExitCode::FAILURE)
    })
}

pub(super) fn vehicles(args: &VehiclesArgs, before: ConfigFile) -> ExitCode {
    let file = args.config.or_else(before);
    let listed = load(&file).and_then(|(_, section)| {
        let owners = owners(&file, &section)?;
        block_on(async { list(&owners, &asked(&section)).await.map_err(Failure::new) })
    });
    match listed {
        Ok(rows) => {
            say(&if args.json { machine(&rows) } else { rows.iter().map(Row::line).collect() });
            ExitCode::SUCCESS
        }
        Err(failure) => failure.end(),
    }
}

/// One vehicle, and what it needs next.
struct Row {
    vin: String,
    name: String,
    code: String,
    next: String,
}

impl Row {
    fn line(&self) -> String {
        format!("{}  {:<16}  {:<14}  {}\n", self.vin, self.name, self.code, self.next)
    }
}

fn machine(rows: &[Row]) -> String {
    let rows: Vec<_> =
        rows.iter().map(|row| json!({"vin": row.vin, "name": row.name, "code": row.code, "next": row.next})).collect();
    format!("{:#}\n", json!(rows))
}

async fn list(owners: &Owners, asked: &[Asked]) -> Result<Vec<Row>, OwnersError> {
    let mut rows = Vec::new();
    for owner in owners.vault().owners()? {
        let vehicles = owners.vault().vehicles(Some(&owner.sub))?;
        let vins: Vec<_> = vehicles.iter().map(|vehicle| vehicle.vin.as_str()).collect();
        let status = match owner.state {
            OwnerState::Reauthorize => Err(("reauthorize".to_owned(), "the owner has to authorize again".to_owned())),
            OwnerState::Good => match owners.session(&owner.sub).await {
                Ok(mut session) => session.fleet_status(&vins).await,
                Err(error) => Err(error),
            }
            .map_err(|error| (error.code().to_owned(), error.to_string())),
        };
        let missing = consent::missing(asked, &owner.scopes);
        for vehicle in &vehicles {
            let (code, next) = match &status {
                Err(error) => error.clone(),
                Ok(_) if !missing.is_empty() => ("scope_missing".to_owned(), format!("ask for {}", missing.join(", "))),
                Ok(status) => match deploy::needs(status.pairing(&vehicle.vin)) {
                    Some(reason) => (reason.code, reason.text),
                    None => ("ready".to_owned(), String::new()),
                },
            };
            rows.push(Row { vin: vehicle.vin.clone(), name: vehicle.name.clone(), code, next });
        }
    }
    Ok(rows)
}
