//! `fleet-telemetry doctor`: why is there no data?

use std::path::Path;
use std::process::ExitCode;

use super::onboarding::{Failure, block_on, fleet_api, load, owners, web};
use super::{ConfigFile, say};
use crate::onboarding::doctor::{Finding, vehicle};
use crate::onboarding::fleet_api::Registered;
use crate::onboarding::telemetry::build;
use crate::onboarding::{self, WELL_KNOWN, served};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleet-telemetry doctor                    is our side in order: key, registration?
  fleet-telemetry doctor 5YJ3E1EA1KF000001  what keeps this vehicle from sending?")]
pub(super) struct Args {
    /// Which vehicle [default: our own side].
    vin: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Look for the public key there instead of at https://DOMAIN/.well-known/….
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

pub(super) fn run(args: &Args, before: ConfigFile) -> ExitCode {
    let file = args.config.or_else(before);
    let findings = match &args.vin {
        Some(vin) => of_vehicle(&file, vin),
        None => of_us(&file, args.url.as_deref()),
    };
    match findings {
        Ok(findings) => {
            say(&if args.json { machine(&findings) } else { prose(&findings) });
            if findings.iter().all(|finding| finding.good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => failure.end(),
    }
}

fn prose(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let mark = if finding.good { "ok" } else { "HERE" };
        format!("{mark:<5} {}: {}\n", finding.code, finding.text)
    };
    findings.iter().map(line).collect()
}

fn machine(findings: &[Finding]) -> String {
    format!("{:#}\n", serde_json::json!(findings))
}

fn of_vehicle(file: &Path, vin: &str) -> Result<Vec<Finding>, Failure> {
    let (config, section) = load(file)?;
    let key = onboarding::key(&section, &config.listener.tls).map_err(Failure::new)?;
    let owners = owners(file, &section)?;
    let wanted = section.telemetry.as_ref().map(build::of_server).transpose().map_err(Failure::new)?;
    let asked = super::consent::asked(&section);
    block_on(async { Ok(vehicle(&owners, &key, &asked, wanted.as_ref(), vin).await) })
}

fn of_us(file: &Path, url: Option<&str>) -> Result<Vec<Finding>, Failure> {
    let (config, section) = load(file)?;
    let key = onboarding::key(&section, &config.listener.tls).map_err(Failure::new)?;
    let (api, web) = (fleet_api(file, &section)?, web(&section)?);
    let url = url.map_or_else(|| format!("https://{}{WELL_KNOWN}", section.domain), str::to_owned);
    block_on(async {
        let mut findings = vec![match served::check(&web, &url, &key).await {
            Ok(()) => Finding::good("key_served", format!("{url} serves this very key")),
            Err(error) => Finding::bad("key_mismatch", format!("{url}: {error}")),
        }];
        for base in &api.maker().api_urls {
            let registered = match api.partner_token(base).await {
                Ok(token) => api.registered_key(base, token.expose(), &section.domain).await,
                Err(error) => Err(error),
            };
            findings.push(match registered {
                Ok(Registered::Key(registered)) if *registered == key.public() => {
                    Finding::good("registered", format!("{base}: registered with this very key"))
                }
                Ok(Registered::Not) => Finding::bad("region", format!("{base}: not registered; `partner register`")),
                Ok(_) => Finding::bad("key_mismatch", format!("{base}: registered with another key; `partner status`")),
                Err(error) => Finding::bad(error.code(), format!("{base}: {error}")),
            });
        }
        Ok(findings)
    })
}
