//! Has vehicles told what is wanted: who can be told is found out first, then each owner's vehicles are told in one call,
//! and what the maker says of each is read, because its 200 means little.

use std::collections::BTreeMap;

use super::fleet_api::{CurrentConfig, FleetStatus, Pairing};
use super::key::FleetKey;
use super::owners::{Owners, OwnersError, Session};
use super::telemetry::{Document, Facts, Version, judge};
use super::token;

/// What became of one vehicle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The maker has taken it; the vehicle gets it when it is awake.
    Pushed,
    /// It was left out.
    Skipped(Reason),
}

/// Why a vehicle was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What programs can rely on.
    pub code: String,
    /// What it means, and what to do.
    pub text: String,
}

impl Reason {
    fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into() }
    }

    fn of(error: &OwnersError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// What the maker's word for a vehicle that was left out means.
#[must_use]
pub fn skipped(word: &str) -> Reason {
    match word {
        "missing_key" => {
            Reason::new("unpaired", "the vehicle does not have the application's key; pair it, and push again")
        }
        "unsupported_hardware" => Reason::new("unsupported", "the vehicle's hardware does not stream"),
        "unsupported_firmware" => Reason::new("unsupported", "the vehicle's firmware is too old; update the car"),
        "max_configs" => Reason::new(
            "max_configs",
            "as many applications as it takes have a configuration; the owner has to remove another one, then push again",
        ),
        other => {
            Reason::new("skipped", format!("the vehicle maker says {:?}", crate::escape::escape(other.as_bytes(), 60)))
        }
    }
}

/// What a vehicle has to be given before it can be told anything; `None`: nothing.
#[must_use]
pub fn needs(pairing: Pairing) -> Option<Reason> {
    match pairing {
        Pairing::Paired | Pairing::ToggleOn => None,
        Pairing::KeyNeeded | Pairing::Unknown => Some(skipped("missing_key")),
        Pairing::ToggleOff => Some(Reason::new(
            "toggle_off",
            "needs no key; in the car, switch on Controls, Safety, Allow Third-Party App Data Streaming",
        )),
        Pairing::NotCapable => Some(skipped("unsupported_hardware")),
        Pairing::UpdateNeeded => Some(skipped("unsupported_firmware")),
    }
}

/// Tells the vehicles of `document`, whoever's they are.
pub async fn push(owners: &Owners, key: &FleetKey, document: &Document, facts: &Facts) -> BTreeMap<String, Outcome> {
    let mut outcomes = BTreeMap::new();
    let mut by_owner: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for vin in &document.vins {
        match owners.vault().owner_of(vin) {
            Ok(Some(owner)) => by_owner.entry(owner.sub).or_default().push(vin),
            Ok(None) => {
                let error = OwnersError::NoOwner { vin: vin.clone() };
                outcomes.insert(vin.clone(), Outcome::Skipped(Reason::of(&error)));
            }
            Err(error) => {
                outcomes.insert(vin.clone(), Outcome::Skipped(Reason::of(&error.into())));
            }
        }
    }
    for (sub, vins) in by_owner {
        // One call cannot mix owners.
        match for_owner(owners, key, document, facts, &sub, &vins).await {
            Ok(more) => outcomes.extend(more),
            Err(error) => {
                let reason = Reason::of(&error);
                outcomes.extend(vins.iter().map(|vin| ((*vin).to_owned(), Outcome::Skipped(reason.clone()))));
            }
        }
    }
    outcomes
}

async fn for_owner(
    owners: &Owners,
    key: &FleetKey,
    document: &Document,
    facts: &Facts,
    sub: &str,
    vins: &[&str],
) -> Result<BTreeMap<String, Outcome>, OwnersError> {
    let mut session = owners.session(sub).await?;
    let status = session.fleet_status(vins).await?;
    let hiding = owners.vault().vehicles(Some(sub))?;
    let hiding: Vec<_> = hiding.into_iter().filter(|vehicle| vehicle.hides_place).map(|vehicle| vehicle.vin).collect();
    let mut outcomes = BTreeMap::new();
    let mut told = Vec::new();
    for vin in vins {
        let hides_place = hiding.iter().any(|hidden| hidden == vin);
        match keeps_back(document, facts, &session, &status, vin, hides_place) {
            Some(reason) => _ = outcomes.insert((*vin).to_owned(), Outcome::Skipped(reason)),
            None => told.push(*vin),
        }
    }
    if told.is_empty() {
        return Ok(outcomes);
    }
    let signed = token::sign(key, &document.config);
    let pushed = session.push(&signed, &told).await?;
    outcomes.extend(told.iter().map(|vin| ((*vin).to_owned(), Outcome::Pushed)));
    for one in pushed.skipped {
        outcomes.insert(one.vin, Outcome::Skipped(skipped(&one.reason)));
    }
    Ok(outcomes)
}

/// Why this vehicle need not be tried.
fn keeps_back(
    document: &Document,
    facts: &Facts,
    session: &Session,
    status: &FleetStatus,
    vin: &str,
    hides_place: bool,
) -> Option<Reason> {
    let info = status.vehicle_info.get(vin);
    let facts = Facts {
        scopes: Some(session.owner.scopes.clone()),
        hide_private: hides_place,
        firmware: info.and_then(|info| info.firmware_version.as_deref()).and_then(Version::parse),
        ..facts.clone()
    };
    let found = judge(document, &facts);
    if let Some(error) = found.errors.first() {
        let code =
            if error.contains("vehicle_location") || facts.hide_private { "scope_missing" } else { "bad_request" };
        return Some(Reason::new(code, error));
    }
    needs(status.pairing(vin))
}

/// Whether a vehicle has what it was told: the maker's `synced` alone does not say so.
#[must_use]
pub fn has_arrived(current: &CurrentConfig) -> bool {
    current.synced && current.config.is_some()
}
