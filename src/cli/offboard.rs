//! `fleet-telemetry offboard`: a vehicle sends nothing more, and nothing of its owner is kept.

use std::process::ExitCode;

use super::onboarding::{Failure, block_on, load, owners};
use super::{ConfigFile, complain, say};
use crate::onboarding::owners::OwnersError;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which vehicle.
    vin: String,
    #[command(flatten)]
    config: ConfigFile,
    /// Forget the owner although the vehicle could not be told: it may go on sending.
    #[arg(long)]
    anyway: bool,
}

pub(super) fn run(args: &Args, before: ConfigFile) -> ExitCode {
    work(args, before).unwrap_or_else(|failure| failure.end())
}

fn work(args: &Args, before: ConfigFile) -> Result<ExitCode, Failure> {
    let file = args.config.or_else(before);
    let (_, section) = load(&file)?;
    let owners = owners(&file, &section)?;
    let vin = &args.vin;
    let told: Result<bool, OwnersError> = block_on(async {
        Ok(match owners.session_of(vin).await {
            Ok(mut session) => session.delete(vin).await,
            Err(error) => Err(error),
        })
    })?;
    match told {
        Ok(true) => say(&format!("{vin}: its configuration was deleted; it stops sending when it hears of it\n")),
        Ok(false) => say(&format!("{vin}: had no configuration of ours\n")),
        Err(error @ OwnersError::NoOwner { .. }) => return Err(Failure::new(error)),
        Err(error) if args.anyway => {
            complain(&format!("warning: {vin}: its configuration may be there still: {error}\n"))
        }
        Err(error) => {
            let text = format!(
                "{vin}: its configuration was not deleted, so nothing was forgotten: {error}; --anyway forgets"
            );
            return Err(Failure::new(text));
        }
    }
    owners.vault().forget_vehicle(vin).map_err(Failure::new)?;
    let client = section.application.as_ref().map_or("", |application| &application.client_id);
    say(&format!(
        "{vin}: forgotten, with the owner's tokens if it was the last vehicle here\n\nWhat only the owner can do:\n  take the \
         key off the car: in the car, Controls, Locks, with a key card\n  withdraw consent: {}?revoke_client_id={client}\n\nWhat \
         was allowed here is withdrawn with `fleet-telemetry permissions revoke {vin}`.\n",
        section.maker.revoke_url
    ));
    Ok(ExitCode::SUCCESS)
}
