//! All grants at one moment: an immutable snapshot that is cheap to make after each change.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::sync::Arc;

use strum::VariantArray;
use xxhash_rust::xxh3::xxh3_64;

use super::grant::Grant;
use crate::config::rules::Rules;
use crate::scope::{Scope, Scopes};

/// Grants by VIN and scope. A clone shares everything; a change to it copies one of the shards, so that with
/// 100,000 vehicles the snapshot for one change costs some microseconds.
#[derive(Clone, Debug)]
pub struct Grants {
    /// By the hash of the VIN; [`SHARDS`] of them.
    shards: Arc<[Arc<Shard>]>,
}

type Shard = HashMap<Arc<str>, Arc<Vehicle>>;

/// A change copies the list of shards (8 bytes each) and one shard (n / SHARDS entries of 24 bytes).
const SHARDS: usize = 1024;

/// What the owner of one vehicle has said: at most one grant per scope, in the order of the scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vehicle(Vec<(Scope, Grant)>);

impl Vehicle {
    /// What was said about `scope`.
    #[must_use]
    pub fn get(&self, scope: Scope) -> Option<&Grant> {
        self.0.iter().find_map(|(of, grant)| (*of == scope).then_some(grant))
    }

    /// Everything.
    #[must_use]
    pub fn all(&self) -> &[(Scope, Grant)] {
        &self.0
    }

    fn set(&mut self, scope: Scope, grant: Grant) {
        match self.0.binary_search_by_key(&scope, |(of, _)| *of) {
            Ok(at) => self.0[at].1 = grant,
            Err(at) => self.0.insert(at, (scope, grant)),
        }
    }
}

impl Default for Grants {
    fn default() -> Self {
        Self { shards: std::iter::repeat_with(Arc::default).take(SHARDS).collect() }
    }
}

impl Grants {
    /// What the owner of `vin` has said about `scope`.
    #[must_use]
    pub fn get(&self, vin: &str, scope: Scope) -> Option<&Grant> {
        self.vehicle(vin)?.get(scope)
    }

    /// What the owner of `vin` has said; `None`: nothing.
    #[must_use]
    pub fn vehicle(&self, vin: &str) -> Option<&Arc<Vehicle>> {
        self.shards[shard(vin)].get(vin)
    }

    /// Sets an entry; gives the one that was there.
    pub fn set(&mut self, vin: &str, scope: Scope, grant: Grant) -> Option<Grant> {
        let shard = self.shard_mut(vin);
        match shard.get_mut(vin) {
            Some(vehicle) => {
                let before = vehicle.get(scope).cloned();
                Arc::make_mut(vehicle).set(scope, grant);
                before
            }
            None => {
                shard.insert(vin.into(), Arc::new(Vehicle(vec![(scope, grant)])));
                None
            }
        }
    }

    /// Removes an entry; gives the one that was there.
    pub fn remove(&mut self, vin: &str, scope: Scope) -> Option<Grant> {
        let before = self.get(vin, scope).cloned()?;
        let shard = self.shard_mut(vin);
        let vehicle = Arc::make_mut(shard.get_mut(vin)?);
        vehicle.0.retain(|(of, _)| *of != scope);
        if vehicle.0.is_empty() {
            shard.remove(vin);
        }
        Some(before)
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Scope, &Grant)> {
        let vehicles = self.shards.iter().flat_map(|shard| shard.iter());
        vehicles.flat_map(|(vin, vehicle)| vehicle.0.iter().map(move |(scope, grant)| (vin, *scope, grant)))
    }

    /// Every vehicle with an entry, in no order.
    pub fn vins(&self) -> impl Iterator<Item = &Arc<str>> {
        self.shards.iter().flat_map(|shard| shard.keys())
    }

    /// The vehicles whose owners say something else here than in `before`, each with what it is; `None`: nothing any
    /// more. Looks only at what is not shared.
    pub fn changes<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a Arc<str>, Option<&'a Vehicle>)> {
        let pairs = self.shards.iter().zip(before.shards.iter()).filter(|(now, before)| !Arc::ptr_eq(now, before));
        pairs.flat_map(|(now, before)| {
            let is_other = move |(vin, vehicle): &(&Arc<str>, &Arc<Vehicle>)| {
                before.get(*vin).is_none_or(|before| !Arc::ptr_eq(before, vehicle))
            };
            let said = now.iter().filter(is_other).map(|(vin, vehicle)| (vin, Some(&**vehicle)));
            let gone = before.keys().filter(|vin| !now.contains_key(*vin)).map(|vin| (vin, None));
            said.chain(gone)
        })
    }

    fn shard_mut(&mut self, vin: &str) -> &mut Shard {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard(vin)])
    }
}

/// The enforced scopes that a record is not allowed to carry, by what was said about its vehicle. `created_ms` is
/// asked only if a consent is in force that could cover the record.
#[must_use]
pub(super) fn denied(
    vehicle: Option<&Vehicle>,
    rules: &Rules,
    created_ms: impl FnOnce() -> Option<i64>,
    now_ms: u64,
) -> Scopes {
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let created_ms = LazyCell::new(created_ms);
    let is_denied = |scope: Scope| match vehicle.and_then(|vehicle| vehicle.get(scope)) {
        Some(grant) => !(grant.is_in_force(now_ms) && grant.covers(*created_ms, now_ms)),
        None => rules.deny_unknown,
    };
    Scope::VARIANTS
        .iter()
        .copied()
        .filter(|scope| rules.enforced.contains(*scope) && is_denied(*scope))
        .fold(Scopes::NONE, Scopes::with)
}

fn shard(vin: &str) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    let hash = xxh3_64(vin.as_bytes()) as usize;
    hash % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::State;

    fn grant(version: u64) -> Grant {
        let text = String::new;
        Grant { state: State::Granted, since_ms: 0, expires_ms: None, source: text(), note: text(), version }
    }

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let mut grants = Grants::default();
        assert_eq!(grants.set("A", Scope::Media, grant(1)), None);
        let snapshot = grants.clone();
        assert_eq!(grants.set("A", Scope::Media, grant(2)), Some(grant(1)));
        grants.set("B", Scope::Media, grant(1));
        assert_eq!(snapshot.get("A", Scope::Media), Some(&grant(1)));
        assert_eq!(snapshot.vins().count(), 1);
        assert_eq!(grants.get("A", Scope::Media), Some(&grant(2)));
    }

    #[test]
    fn a_vehicle_goes_with_its_last_entry() {
        let mut grants = Grants::default();
        grants.set("A", Scope::Media, grant(1));
        grants.set("A", Scope::VehicleLocation, grant(2));
        let scopes: Vec<_> = grants.vehicle("A").unwrap().all().iter().map(|(scope, _)| *scope).collect();
        assert_eq!(scopes, [Scope::VehicleLocation, Scope::Media]);
        assert_eq!(grants.remove("A", Scope::Media), Some(grant(1)));
        assert_eq!(grants.remove("A", Scope::Media), None);
        assert_eq!(grants.iter().count(), 1);
        grants.remove("A", Scope::VehicleLocation);
        assert!(grants.vehicle("A").is_none());
    }

    #[test]
    fn changes_are_the_vehicles_that_differ() {
        let mut before = Grants::default();
        (0..5_000).for_each(|n| drop(before.set(&format!("VIN{n}"), Scope::Media, grant(1))));
        let mut now = before.clone();
        now.set("VIN7", Scope::Media, grant(2));
        now.set("NEW", Scope::VehicleLocation, grant(1));
        now.remove("VIN8", Scope::Media);
        let mut changes: Vec<_> =
            now.changes(&before).map(|(vin, vehicle)| (vin.to_string(), vehicle.map(|v| v.all().len()))).collect();
        changes.sort();
        let expected = [("NEW", Some(1)), ("VIN7", Some(1)), ("VIN8", None)];
        assert_eq!(changes, expected.map(|(vin, grants)| (vin.to_owned(), grants)));
        assert_eq!(now.changes(&now.clone()).count(), 0);
        assert_eq!(before.changes(&Grants::default()).count(), 5_000);
    }

    /// Times are printed, not judged: `cargo test --release a_change_among -- --nocapture`.
    #[test]
    fn a_change_among_100_000_vehicles_copies_one_shard() {
        let mut grants = Grants::default();
        (0..100_000).for_each(|n| drop(grants.set(&format!("5YJ3E1EA{n:09}"), Scope::VehicleLocation, grant(1))));
        let before = grants.clone();
        let start = std::time::Instant::now();
        for n in 0..1000 {
            let snapshot = grants.clone();
            grants.set(&format!("5YJ3E1EA{n:09}"), Scope::VehicleLocation, grant(2));
            drop(snapshot);
        }
        println!("a change with a snapshot held: {:?}", start.elapsed() / 1000);
        let mut one = before.clone();
        one.set("5YJ3E1EA000000007", Scope::VehicleLocation, grant(3));
        let copied = one.shards.iter().zip(before.shards.iter()).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert_eq!(copied, 1);
    }
}
