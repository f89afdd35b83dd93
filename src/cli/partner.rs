//! `fleet-telemetry partner`: the application's registration with the vehicle maker.

use std::path::Path;
use std::process::ExitCode;

use super::onboarding::{Failure, block_on, fleet_api, load, web};
use super::{ConfigFile, complain, say};
use crate::onboarding::fleet_api::{ApiError, FleetApi, Registered};
use crate::onboarding::key::fingerprint;
use crate::onboarding::{self, FleetKey, WELL_KNOWN, served};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  fleet-telemetry partner register     once for each of onboarding.regions, and again with another key
  fleet-telemetry partner status       is it this very key that the vehicle maker has on record?")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Register the domain, in every region of the configuration. Harmless to repeat.
    ///
    /// The vehicle maker fetches the public key, so it is looked at first, as `keys check` does. Exits with 0 when the
    /// very key is on record everywhere, else with 1.
    Register {
        #[command(flatten)]
        config: ConfigFile,
        /// Do not look first whether the key is served: this machine may not reach its own domain.
        #[arg(long)]
        unchecked: bool,
    },
    /// Compare the key on record with ours, in every region of the configuration.
    Status {
        #[command(flatten)]
        config: ConfigFile,
    },
}

pub(super) fn run(args: &Args, before: ConfigFile) -> ExitCode {
    let outcome = match &args.command {
        Command::Register { config, unchecked } => work(&config.or_else(before), Some(*unchecked)),
        Command::Status { config } => work(&config.or_else(before), None),
    };
    outcome.unwrap_or_else(|failure| failure.end())
}

/// `register`: whether without a look at the key first; `None`: only the status.
fn work(file: &Path, register: Option<bool>) -> Result<ExitCode, Failure> {
    let (config, section) = load(file)?;
    let key = onboarding::key(&section, &config.listener.tls).map_err(Failure::new)?;
    let api = fleet_api(file, &section)?;
    let web = web(&section)?;
    block_on(async {
        if register == Some(false) {
            let url = format!("https://{}{WELL_KNOWN}", section.domain);
            let named = |error| Failure::new(format!("{url}: {error}; with --unchecked the vehicle maker decides"));
            served::check(&web, &url, &key).await.map_err(named)?;
            say(&format!("ok: {url}: this very key is served\n"));
        }
        let mut all_good = true;
        for base in &api.maker().api_urls {
            all_good &= match region(&api, base, &section.domain, &key, register.is_some()).await {
                Ok(text) => {
                    say(&format!("ok: {base}: {text}\n"));
                    true
                }
                Err(text) => {
                    complain(&format!("error: {base}: {text}\n"));
                    false
                }
            };
        }
        Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// What is so in one region; the error is in words.
async fn region(api: &FleetApi, base: &str, domain: &str, key: &FleetKey, register: bool) -> Result<String, String> {
    let words = |error: ApiError| error.to_string();
    let token = api.partner_token(base).await.map_err(words)?;
    if register {
        api.register(base, token.expose(), domain).await.map_err(words)?;
    }
    match api.registered_key(base, token.expose(), domain).await.map_err(words)? {
        Registered::Key(registered) if *registered == key.public() => {
            Ok(format!("{domain} is registered with this very key ({})", key.fingerprint()))
        }
        Registered::Key(registered) => Err(format!(
            "{domain} is registered with another key: {}, ours is {}; serve ours and run `fleet-telemetry partner register`, \
             or configure the one that is registered",
            fingerprint(&registered),
            key.fingerprint(),
        )),
        Registered::Other => Err(format!("{domain} is registered with something that is no key on P-256")),
        Registered::Not => Err(format!("{domain} is not registered; run `fleet-telemetry partner register`")),
    }
}
