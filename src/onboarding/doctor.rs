//! "Why is there no data?", asked of the vehicle maker in the order in which things go wrong, until the first that does.

use serde_json::{Map, Value};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::consent::{self, Asked};
use super::deploy;
use super::drift::drift;
use super::fleet_api::VehicleError;
use super::key::FleetKey;
use super::owners::{Owners, OwnersError};

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What programs can rely on.
    pub code: String,
    /// Nothing is wrong here.
    pub good: bool,
    /// What was found, and what to do.
    pub text: String,
}

impl Finding {
    /// All right so far.
    pub fn good(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), good: true, text: text.into() }
    }

    /// Here is why.
    pub fn bad(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), good: false, text: text.into() }
    }
}

/// What the vehicle's own words mean: a part of them, what it means, and whether it matters if it stands alone.
const WORDS: [(&str, &str, bool); 8] = [
    ("unknown issuer", "the configuration was signed with a key that is not the application's; push again", true),
    ("invalid mailbox public key", "the signing key is of the wrong kind; it must be on P-256", true),
    ("verification error", "the signature does not fit; push again", true),
    ("key must be present on the vehicle", "the key was not added by the link; pair again", true),
    (
        "unknown authority",
        "the server's certificate does not come from the authorities in `ca`; push the right ones",
        true,
    ),
    (
        "bad certificate",
        "the server refuses the vehicle's certificate, or the vehicle the server's; see the server's log",
        true,
    ),
    ("connection refused", "nothing listens where the vehicle connects to; check host name, port and firewall", true),
    ("network is unreachable", "the vehicle had no network, as at waking up; harmless alone", false),
];

/// Looks at one vehicle. `wanted` is what it should be told, if that is known.
pub async fn vehicle(
    owners: &Owners,
    key: &FleetKey,
    asked: &[Asked],
    wanted: Option<&Map<String, Value>>,
    vin: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = look(owners, key, asked, wanted, vin, &mut findings).await {
        findings.push(Finding::bad(error.code(), error.to_string()));
    }
    findings
}

async fn look(
    owners: &Owners,
    key: &FleetKey,
    asked: &[Asked],
    wanted: Option<&Map<String, Value>>,
    vin: &str,
    findings: &mut Vec<Finding>,
) -> Result<(), OwnersError> {
    let mut session = owners.session_of(vin).await?;
    session.refresh().await?;
    findings.push(Finding::good("authorized", "the owner's tokens are good"));
    let missing = consent::missing(asked, &session.owner.scopes);
    if !missing.is_empty() {
        let text = format!("the owner has not given {}; `consent link` asks again", missing.join(", "));
        findings.push(Finding::bad("scope_missing", text));
        return Ok(());
    }
    findings.push(Finding::good("scopes", "the owner has given what the fields need"));
    session.look_for_vehicles().await?;
    if !owners.vault().vehicles(Some(&session.owner.sub))?.iter().any(|vehicle| vehicle.vin == vin) {
        findings.push(Finding::bad("not_in_account", "the vehicle is not in the owner's account any more"));
        return Ok(());
    }
    let status = session.fleet_status(&[vin]).await?;
    if let Some(reason) = deploy::needs(status.pairing(vin)) {
        findings.push(Finding::bad(&reason.code, reason.text));
        return Ok(());
    }
    findings.push(Finding::good("paired", "the vehicle has the key, or needs none"));
    let current = session.current(vin).await?;
    if current.config.is_none() {
        findings.push(match (current.limit_reached, current.synced) {
            (true, _) => Finding::bad("max_configs", deploy::skipped("max_configs").text),
            (false, true) => Finding::bad(
                "removed",
                "it has no configuration: never pushed, the owner has withdrawn, or the money limit is reached; push again",
            ),
            (false, false) => Finding::bad("syncing", "it has not taken one yet; it does when it is awake, within a day"),
        });
        return Ok(());
    }
    if let Some(wanted) = wanted {
        let differs = drift(wanted, &current, key);
        if !differs.is_empty() {
            let code = if differs.iter().any(|line| line.starts_with("iss:")) { "wrong_key" } else { "drift" };
            findings.push(Finding::bad(code, format!("push again: {}", differs.join("; "))));
            return Ok(());
        }
    }
    if !current.synced {
        findings.push(Finding::bad(
            "syncing",
            "it has not taken the newest one yet; it does when it is awake, within a day",
        ));
        return Ok(());
    }
    findings.push(Finding::good("configured", "the vehicle has the configuration that it should have"));
    let errors = session.errors(vin).await?;
    match errors.iter().filter(|error| is_recent(error)).find_map(means) {
        Some(text) => findings.push(Finding::bad("vehicle_error", text)),
        None => findings.push(Finding::good(
            "quiet",
            "nothing is wrong that the vehicle maker knows of. Only changes are sent: drive or charge; if nothing comes of \
             that, reboot the car, and look at the server's own side: `check`, its log, its metrics",
        )),
    }
    Ok(())
}

/// Of the last 24 hours; the maker keeps older ones, and one without a time may be new.
fn is_recent(error: &VehicleError) -> bool {
    let at = error.at.as_deref().and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
    at.is_none_or(|at| OffsetDateTime::now_utc() - at < Duration::hours(24))
}

/// `None` for words that are harmless.
fn means(error: &VehicleError) -> Option<String> {
    let said = crate::escape::escape(error.error.as_bytes(), 200);
    let known = WORDS.iter().find(|(part, ..)| error.error.contains(part));
    match known {
        Some((_, _, false)) => None,
        Some((_, means, true)) => Some(format!("the vehicle reports \"{said}\": {means}")),
        None => Some(format!("the vehicle reports \"{said}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vehicles_words_are_translated_while_they_are_new() {
        let error = |text: &str, at: Option<&str>| VehicleError {
            vin: None,
            at: at.map(str::to_owned),
            error: text.to_owned(),
        };
        let signed = error("error loading config file: InvalidSignature: unknown issuer", None);
        assert!(means(&signed).unwrap().contains("push again") && is_recent(&signed));
        assert_eq!(means(&error("dial: connect: network is unreachable", None)), None);
        assert!(means(&error("something else", None)).unwrap().contains("something else"));
        assert!(!is_recent(&error("x", Some("2020-01-01T00:00:00Z"))));
    }
}
