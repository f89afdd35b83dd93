//! `fleet-telemetry pair`: a link for the owner's phone, drawn in the terminal, and the wait for what comes of it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use super::onboarding::{Failure, block_on, load, owners};
use super::{ConfigFile, complain, say};
use crate::config::Onboarding;
use crate::onboarding::deploy;
use crate::onboarding::fleet_api::Pairing;
use crate::onboarding::owners::Owners;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which vehicle.
    vin: String,
    #[command(flatten)]
    config: ConfigFile,
    /// Only print the link, and do not wait.
    #[arg(long)]
    link: bool,
    /// Longest wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    wait: u64,
}

/// Between two looks: at first, and after [`PATIENT`].
const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(30);
const PATIENT: Duration = Duration::from_secs(120);

const STEPS: &str = "\
Before you begin: the phone app, signed in to the account that has connected here, and a phone that is a key of this
car already (the car's own phone key). You need not stand at the car; the car has to be online.

1. Open the link on the phone, or scan the code with its camera.
2. The app shows the application's domain and asks to finish the set-up. Approve.
3. Come back here: there is no way back from the app. This command says when it is done.
";

pub(super) fn run(args: &Args, before: ConfigFile) -> ExitCode {
    work(args, before).unwrap_or_else(|failure| failure.end())
}

fn work(args: &Args, before: ConfigFile) -> Result<ExitCode, Failure> {
    let file = args.config.or_else(before);
    let (_, section) = load(&file)?;
    let link = crate::onboarding::pairing_link(&section, &args.vin);
    if args.link {
        say(&format!("{link}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let owners = owners(&file, &section)?;
    block_on(wait(&owners, &section, &args.vin, &link, Duration::from_secs(args.wait)))
}

async fn wait(
    owners: &Owners,
    section: &Onboarding,
    vin: &str,
    link: &str,
    longest: Duration,
) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let mut is_shown = false;
    loop {
        let pairing = pairing(owners, vin).await?;
        match (pairing, deploy::needs(pairing)) {
            (_, None) => {
                say(&format!("{vin}: paired; now `fleet-telemetry fleet-config push --vin {vin}`\n"));
                return Ok(ExitCode::SUCCESS);
            }
            // The link does not help these.
            (Pairing::ToggleOff | Pairing::NotCapable | Pairing::UpdateNeeded, Some(reason)) => {
                complain(&format!("{vin}: {}: {}\n", reason.code, reason.text));
                return Ok(ExitCode::FAILURE);
            }
            _ => {}
        }
        if !is_shown {
            say(&format!("{}\n{link}\n\n{STEPS}\n{vin}: waiting for {} …\n", draw(link)?, section.domain));
            is_shown = true;
        }
        let pause = if began.elapsed() < PATIENT { SOON } else { LATER };
        if began.elapsed() + pause > longest {
            complain(&format!(
                "{vin}: unpaired: nothing has come of it within {} s; run this again\n",
                longest.as_secs()
            ));
            return Ok(ExitCode::FAILURE);
        }
        tokio::time::sleep(pause).await;
    }
}

async fn pairing(owners: &Owners, vin: &str) -> Result<Pairing, Failure> {
    let mut session = owners.session_of(vin).await.map_err(Failure::new)?;
    let status = session.fleet_status(&[vin]).await;
    Ok(status.map_err(Failure::new)?.pairing(vin))
}

/// Two rows of the code in one of text, dark on light as cameras want it.
fn draw(link: &str) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(link, EcLevel::Q).map_err(Failure::new)?;
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_in_half_blocks() {
        let drawn = draw("https://tesla.com/_ak/example.com?vin=5YJ3E1EA1KF000001").unwrap();
        let widths: std::collections::BTreeSet<_> = drawn.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 1, "a rectangle");
        assert!(drawn.chars().all(|cell| " ▀▄█\n".contains(cell)), "{drawn}");
    }
}
