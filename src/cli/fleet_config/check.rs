//! `fleet-config check`.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{Failure, read, server};
use crate::cli::{ConfigFile, say};
use crate::config::Config;
use crate::onboarding::telemetry::cost::{Cost, SIGNALS_PER_DOLLAR};
use crate::onboarding::telemetry::{Document, Facts, Judgement, Version, judge};
use crate::tls::certificate;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The document, JSON.
    file: PathBuf,
    #[command(flatten)]
    facts: Known,
    /// Signals that one dollar buys, by the vehicle maker's price list.
    #[arg(long, value_name = "NUMBER", default_value_t = SIGNALS_PER_DOLLAR,
          value_parser = clap::value_parser!(u32).range(1..))]
    signals_per_dollar: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What the judge is told besides the document.
#[derive(Debug, clap::Args)]
pub(super) struct Known {
    #[command(flatten)]
    pub(super) config: ConfigFile,
    /// The application's registered domain [default: onboarding.domain of the configuration].
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// The vehicles' firmware, such as 2025.44.25.5: warns of what it does not know yet.
    #[arg(long, value_name = "VERSION", value_parser = version)]
    firmware: Option<Version>,
    /// Scopes that the owner has given, separated by commas: location without vehicle_location is refused.
    #[arg(long, value_name = "SCOPES", value_delimiter = ',')]
    scopes: Option<Vec<String>>,
}

fn version(text: &str) -> Result<Version, String> {
    Version::parse(text).ok_or_else(|| "must be numbers with dots, such as 2025.44.25.5".to_owned())
}

impl Known {
    pub(super) fn facts(&self, config: Option<&Config>) -> Facts {
        let section = config.and_then(|config| config.onboarding.as_ref());
        Facts {
            domain: self.domain.clone().or_else(|| section.map(|section| section.domain.clone())),
            scopes: self.scopes.clone(),
            hide_private: false,
            firmware: self.firmware.clone(),
            now: certificate::now(),
        }
    }
}

pub(super) fn run(args: &Args, before: ConfigFile) -> Result<ExitCode, Failure> {
    let document = read(&args.file)?;
    let config = server(&args.facts.config, before)?;
    let found = judge(&document, &args.facts.facts(config.as_ref()));
    let cost = Cost::of(&document, args.signals_per_dollar);
    let name = args.file.display().to_string();
    say(&if args.json { machine(&document, &found, cost) } else { prose(&name, &document, &found, cost) });
    Ok(if found.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Warnings first, so that errors are what is seen last.
pub(super) fn lines(name: &str, found: &Judgement) -> String {
    let warnings = found.warnings.iter().map(|text| ("warning", text));
    let errors = found.errors.iter().map(|text| ("error", text));
    warnings.chain(errors).fold(String::new(), |mut lines, (kind, text)| {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{kind}: {name}: {text}");
        lines
    })
}

fn prose(name: &str, document: &Document, found: &Judgement, cost: Cost) -> String {
    let mut text = lines(name, found);
    let vehicles = document.vins.len().max(1);
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 vehicles")]
    let all = cost.dollars_per_day * vehicles as f64;
    let _ = writeln!(
        text,
        "cost: at most {:.0} signals a day and vehicle, ${:.2}; ${all:.2} a day for {vehicles}. Only changes are sent, so a \
         real vehicle stays far below",
        cost.signals_per_day, cost.dollars_per_day,
    );
    if found.is_good() {
        let _ = writeln!(text, "{name}: good");
    }
    text
}

fn machine(document: &Document, found: &Judgement, cost: Cost) -> String {
    let report = json!({
        "good": found.is_good(),
        "errors": found.errors,
        "warnings": found.warnings,
        "vehicles": document.vins.len(),
        "needs_location": document.location_fields().collect::<Vec<_>>(),
        "at_most": {
            "signals_per_second": cost.signals_per_second,
            "signals_per_day": cost.signals_per_day,
            "dollars_per_day": cost.dollars_per_day,
        },
    });
    format!("{report:#}\n")
}
