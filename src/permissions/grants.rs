//! All grants at one moment: immutable, replaced whole.

use std::collections::HashMap;
use std::sync::Arc;

use super::filter::Rules;
use super::grant::Grant;
use super::scope::{Scope, Scopes};

/// Grants by VIN and scope. A clone shares the entries.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    vehicles: HashMap<Box<str>, Arc<Vehicle>>,
}

/// What the owner of one vehicle has said.
pub type Vehicle = [Option<Grant>; Scope::ALL.len()];

impl Grants {
    /// What the owner of `vin` has said about `scope`.
    #[must_use]
    pub fn get(&self, vin: &str, scope: Scope) -> Option<&Grant> {
        self.vehicles.get(vin)?[scope as usize].as_ref()
    }

    /// Sets an entry.
    pub fn set(&mut self, vin: &str, scope: Scope, grant: Grant) {
        let vehicle = self.vehicles.entry(vin.into()).or_default();
        Arc::make_mut(vehicle)[scope as usize] = Some(grant);
    }

    /// The enforced scopes that a record is not allowed to carry.
    #[must_use]
    pub fn denied(&self, rules: &Rules, vin: &str, created_ms: Option<i64>, now_ms: u64) -> Scopes {
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let vehicle = self.vehicles.get(vin);
        let is_denied = |scope: Scope| match vehicle.and_then(|vehicle| vehicle[scope as usize].as_ref()) {
            Some(grant) => !grant.covers(created_ms, now_ms),
            None => rules.deny_unknown,
        };
        Scope::ALL
            .into_iter()
            .filter(|scope| rules.enforced.contains(*scope) && is_denied(*scope))
            .fold(Scopes::NONE, Scopes::with)
    }
}
