//! `fleet-config build`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::check::{Known, lines};
use super::{Failure, server};
use crate::cli::{ConfigFile, complain, say};
use crate::onboarding::telemetry::build::{Wanted, build};
use crate::onboarding::telemetry::{Document, judge};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The name by which vehicles reach the server.
    #[arg(long, value_name = "NAME")]
    hostname: String,
    /// The port that they connect to.
    #[arg(long, value_name = "PORT", default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// PEM of the authorities that the server's certificate comes from: intermediate and root.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// A field: NAME=SECONDS, or NAME=SECONDS:DELTA to be sent only when it has changed by DELTA. Any number of them.
    #[arg(long = "field", value_name = "FIELD", required = true)]
    fields: Vec<Wanted>,
    /// A type of alerts (service, customer, service-fix). Any number of them.
    #[arg(long = "alerts", value_name = "TYPE")]
    alert_types: Vec<String>,
    /// A vehicle. Any number of them.
    #[arg(long = "vin", value_name = "VIN")]
    vins: Vec<String>,
    #[command(flatten)]
    facts: Known,
}

pub(super) fn run(args: &Args, before: ConfigFile) -> Result<ExitCode, Failure> {
    let path = args.ca.display();
    let ca = std::fs::read_to_string(&args.ca).map_err(|error| Failure::new(format!("--ca {path}: {error}")))?;
    let config = build(&args.hostname, args.port, &ca, &args.fields, &args.alert_types);
    let document = Document { vins: args.vins.clone(), config };
    let server = server(&args.facts.config, before)?;
    let found = judge(&document, &args.facts.facts(server.as_ref()));
    complain(&lines("the document", &found));
    if !found.is_good() {
        return Ok(ExitCode::FAILURE);
    }
    say(&format!("{:#}\n", json!({"vins": document.vins, "config": document.config})));
    Ok(ExitCode::SUCCESS)
}
