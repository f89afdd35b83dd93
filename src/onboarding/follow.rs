//! Consent follows the vehicle maker: what an owner's newest token allows is granted here, and what it does not is denied.
//!
//! The maker tells nobody of a withdrawal, so tokens are refreshed to see it. A bad day of the maker's changes nothing
//! until the last token ends; then everything that needs a grant is denied. A grant by hand narrows what the token
//! allows, and never widens it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fleet_api::ApiError;
use super::owners::{Owners, OwnersError};
use super::vault::{OwnedVehicle, Owner, OwnerState};
use crate::grants::{Actor, Authority, Change};
use crate::permissions::{Grant, State};
use crate::scope::{Scope, Scopes};
use crate::tls::certificate::now;

/// Of grants that come from a token.
pub const SOURCE: &str = "maker";

/// Between two looks for owners who are new, or whose token has ended.
const LOOK: Duration = Duration::from_secs(1);
/// Between two refreshes: the maker takes twenty a second.
const APART: Duration = Duration::from_millis(100);
/// Between two looks which vehicles an owner has; that call is billed.
const VEHICLES: Duration = Duration::from_secs(24 * 3600);

/// Keeps grants in step with tokens.
#[derive(Debug)]
pub struct Follower {
    owners: Owners,
    authority: Arc<Authority>,
    /// The scopes that are enforced; others need no grant.
    enforced: Scopes,
    every: Duration,
}

/// What was seen of an owner.
struct Seen {
    issued: i64,
    vehicles: Vec<OwnedVehicle>,
    is_over: bool,
    refreshed: Instant,
    looked: Instant,
}

impl Follower {
    /// Follows `owners`, each refreshed once in `every`.
    #[must_use]
    pub fn new(owners: Owners, authority: Arc<Authority>, enforced: Scopes, every: Duration) -> Self {
        Self { owners, authority, enforced, every }
    }

    /// Until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut seen = HashMap::new();
        loop {
            match self.owners.vault().owners() {
                Ok(owners) => {
                    let gone: Vec<Seen> = seen
                        .extract_if(|sub, _| !owners.iter().any(|owner| owner.sub == *sub))
                        .map(|(_, seen)| seen)
                        .collect();
                    for seen in gone {
                        self.left(&seen.vehicles).await;
                    }
                    for owner in owners {
                        self.look(owner, &mut seen).await;
                    }
                }
                Err(error) => tracing::error!(%error, "owners_not_read"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self, owner: Owner, seen: &mut HashMap<String, Seen>) {
        let sub = owner.sub.clone();
        let known = seen.get(&sub);
        let is_due = known.is_some_and(|seen| seen.refreshed.elapsed() >= self.every);
        let looks = known.is_some_and(|seen| seen.looked.elapsed() >= VEHICLES);
        let owner = if is_due && owner.state == OwnerState::Good { self.refreshed(owner, looks).await } else { owner };
        let Ok(vehicles) = self.owners.vault().vehicles(Some(&sub)) else { return };
        let is_over = is_over(&owner);
        let known = seen.get(&sub);
        let is_new = known
            .is_none_or(|seen| seen.issued != owner.issued || seen.is_over != is_over || seen.vehicles != vehicles);
        if let Some(known) = known {
            let left = known.vehicles.iter().filter(|before| !vehicles.iter().any(|vehicle| vehicle.vin == before.vin));
            self.left(&left.cloned().collect::<Vec<_>>()).await;
        }
        // A grant by hand that is wider than the token is found when the token is looked at.
        if (is_new || is_due) && !self.apply(&owner, &vehicles).await {
            return;
        }
        let now = Instant::now();
        let refreshed = known.filter(|_| !is_due).map_or(now, |seen| seen.refreshed);
        let looked = known.filter(|_| !looks).map_or(now, |seen| seen.looked);
        seen.insert(sub, Seen { issued: owner.issued, vehicles, is_over, refreshed, looked });
    }

    async fn refreshed(&self, owner: Owner, looks: bool) -> Owner {
        tokio::time::sleep(APART).await;
        let fresh = async {
            let mut session = self.owners.session(&owner.sub).await?;
            session.refresh().await?;
            if looks {
                session.look_for_vehicles().await?;
            }
            Ok::<_, OwnersError>(session.owner)
        };
        match fresh.await {
            Ok(fresh) => fresh,
            Err(error) => {
                let is_withdrawal = matches!(error, OwnersError::Api(ApiError::Reauthorize { .. }));
                tracing::warn!(code = error.code(), is_withdrawal, "owner_not_refreshed");
                self.owners.vault().owner(&owner.sub).ok().flatten().unwrap_or(owner)
            }
        }
    }

    /// Puts in force what the owner's token says of his vehicles. Whether that was done.
    pub async fn apply(&self, owner: &Owner, vehicles: &[OwnedVehicle]) -> bool {
        let mut done = true;
        for vehicle in vehicles {
            for scope in Scope::all().filter(|scope| self.enforced.contains(*scope)) {
                let allows = allows(owner, vehicle, scope);
                done &= self.put(&vehicle.vin, scope, allows, owner.issued).await;
            }
        }
        done
    }

    /// Vehicles that an owner has no more: sold, or offboarded. Denied, unless they are another's now.
    async fn left(&self, vehicles: &[OwnedVehicle]) {
        for vehicle in vehicles {
            if matches!(self.owners.vault().owner_of(&vehicle.vin), Ok(None)) {
                self.deny(&vehicle.vin).await;
            }
        }
    }

    /// The vehicle has no owner here any more.
    pub async fn deny(&self, vin: &str) {
        for scope in Scope::all().filter(|scope| self.enforced.contains(*scope)) {
            self.put(vin, scope, false, now()).await;
        }
    }

    async fn put(&self, vin: &str, scope: Scope, allows: bool, issued: i64) -> bool {
        let entry = self.authority.get(vin).into_iter().flatten().find(|(of, _)| *of == scope).map(|(_, grant)| grant);
        let Some(state) = change(entry.as_ref(), allows) else { return true };
        let change = Change {
            vin: vin.to_owned(),
            scope,
            state,
            since_ms: allows.then(|| issued.saturating_mul(1000)),
            expires_ms: None,
            source: SOURCE.to_owned(),
            note: String::new(),
            // Between the look and this, somebody may have denied by hand.
            expected_version: Some(entry.as_ref().map_or(0, |grant| grant.version)),
            actor: Actor { who: "onboarding".to_owned(), from: SOURCE.to_owned() },
        };
        let made = self.authority.change(change).await;
        if let Err(error) = &made {
            tracing::error!(%error, "maker_grant_not_written");
        }
        made.is_ok()
    }
}

/// No token, or one that has ended, allows nothing.
fn is_over(owner: &Owner) -> bool {
    owner.state == OwnerState::Reauthorize || owner.expires <= now()
}

fn allows(owner: &Owner, vehicle: &OwnedVehicle, scope: Scope) -> bool {
    let (needed, hidden) = match scope {
        Scope::VehicleLocation => ("vehicle_location", vehicle.hides_place),
        _ => ("vehicle_device_data", false),
    };
    !is_over(owner) && !hidden && owner.scopes.iter().any(|given| given == needed)
}

/// What has to be written so that what is in force is no wider than the token, and a word by hand stands if it is narrower.
fn change(entry: Option<&Grant>, allows: bool) -> Option<State> {
    match (entry, allows) {
        (None, true) => Some(State::Granted),
        (Some(grant), true) if grant.state == State::Denied && grant.source == SOURCE => Some(State::Granted),
        (Some(_), true) => None,
        (Some(grant), false) if grant.state == State::Denied => None,
        (_, false) => Some(State::Denied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onboarding::fleet_api::OwnerTokens;

    fn grant(state: State, source: &str) -> Grant {
        Grant { state, since_ms: 0, expires_ms: None, source: source.to_owned(), note: String::new(), version: 1 }
    }

    #[test]
    fn a_word_by_hand_narrows_and_never_widens() {
        let (granted, denied) = (State::Granted, State::Denied);
        for (entry, allows, expected) in [
            (None, true, Some(granted)),
            (None, false, Some(denied)),
            (Some(grant(granted, SOURCE)), true, None),
            (Some(grant(granted, SOURCE)), false, Some(denied)),
            (Some(grant(denied, SOURCE)), true, Some(granted)),
            (Some(grant(denied, SOURCE)), false, None),
            (Some(grant(denied, "by hand")), true, None),
            (Some(grant(granted, "by hand")), true, None),
            (Some(grant(granted, "by hand")), false, Some(denied)),
            (Some(grant(denied, "by hand")), false, None),
        ] {
            assert_eq!(change(entry.as_ref(), allows), expected, "{entry:?} {allows}");
        }
    }

    #[test]
    fn a_token_allows_what_it_says_while_it_lasts() {
        let owner = |scopes: &[&str], expires: i64, state: OwnerState| Owner {
            sub: "o".to_owned(),
            base: String::new(),
            tokens: OwnerTokens { access: String::new(), refresh: String::new() },
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            issued: 0,
            expires,
            state,
        };
        let vehicle = |hides_place: bool| OwnedVehicle {
            vin: "V".to_owned(),
            sub: "o".to_owned(),
            name: String::new(),
            access: String::new(),
            hides_place,
        };
        let later = now() + 1000;
        let good = owner(&["vehicle_device_data", "vehicle_location"], later, OwnerState::Good);
        assert!(allows(&good, &vehicle(false), Scope::VehicleLocation));
        assert!(allows(&good, &vehicle(true), Scope::Charging));
        assert!(!allows(&good, &vehicle(true), Scope::VehicleLocation), "kept private");
        let less = owner(&["vehicle_device_data"], later, OwnerState::Good);
        assert!(
            !allows(&less, &vehicle(false), Scope::VehicleLocation) && allows(&less, &vehicle(false), Scope::Media)
        );
        for over in [
            owner(&["vehicle_location"], now() - 1, OwnerState::Good),
            owner(&["vehicle_location"], later, OwnerState::Reauthorize),
        ] {
            assert!(!allows(&over, &vehicle(false), Scope::VehicleLocation));
        }
    }
}
