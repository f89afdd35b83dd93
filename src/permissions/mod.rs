//! Location permission: what the owner of a vehicle has not allowed never leaves the process.
//!
//! ```text
//!  crate::grants ──▶ Grants, an atomic snapshot ──▶ Filter, per record ──▶ the walk in `record::transform`
//!                                                                           keep · drop · invalid · coarsen
//! ```
//!
//! `grant` is what an owner said about one of the scopes (`crate::scope`), `snapshot` all that owners have said, and
//! `filter` decides about one datum.

pub mod filter;
mod grant;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

pub use filter::Filter;
pub use grant::{Grant, MAX_SKEW_MS, State};
pub use snapshot::{Grants, Vehicle};

pub use crate::config::rules::{Action, Mode, Rules};

use self::filter::Withheld;
use crate::scope::Scopes;

/// What sessions share: the rules, which are fixed, and the grants, which change.
#[derive(Debug)]
pub struct Permissions {
    rules: Rules,
    /// Counts what the rules take away.
    withheld: Withheld,
    /// `None` until the store has been read, and after it has been lost for too long: everything is then withheld.
    grants: ArcSwap<Option<Grants>>,
    /// Counts the snapshots. Raised after a snapshot is in place, so whoever sees the number finds that one or a
    /// later one.
    generation: AtomicU64,
}

/// What a session has looked up of its vehicle's grants. A record then costs one atomic load instead of the
/// look-up, until something changes. Holds the vehicle's own entry and no snapshot, which an idle session would
/// keep alive.
#[derive(Debug, Default)]
pub struct Seen {
    /// 0: nothing yet.
    generation: u64,
    standing: Standing,
}

/// What is known of one vehicle.
#[derive(Debug, Default)]
enum Standing {
    /// Nothing, and of no other either.
    #[default]
    NotLoaded,
    /// Nobody has said anything.
    Silent,
    /// What was said.
    Said(Arc<Vehicle>),
}

impl Permissions {
    /// Nothing is known yet, so everything that needs a grant is withheld. What is withheld is counted with the current
    /// recorder.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        if rules.mode != Mode::Off {
            filter::coordinates::prepare();
        }
        let withheld = Withheld::register(rules.mode, rules.action, rules.enforced);
        Self { rules, withheld, grants: ArcSwap::from_pointee(None), generation: AtomicU64::new(1) }
    }

    /// No filter: the section is absent from the configuration.
    #[must_use]
    pub fn off() -> Self {
        Self::new(Rules::off())
    }

    /// Whether no record is ever looked at.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.rules.mode == Mode::Off
    }

    /// Whether anything is ever withheld.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.rules.mode == Mode::Enforce
    }

    /// What owners have said, if that is known.
    #[must_use]
    pub fn grants(&self) -> Option<Grants> {
        Option::clone(&self.grants.load())
    }

    /// Raised by every change of what [`Self::grants`] gives.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Replaces what is known; in force for every record that is accepted after this returns.
    pub fn replace(&self, grants: Option<Grants>) {
        self.grants.store(Arc::new(grants));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The filter for one record of `vin`, by the grants in force now. Takes no lock and does not allocate.
    ///
    /// `seen` belongs to that vehicle alone; a new one serves for a single record. `created_ms` says (only if that matters) when the vehicle made the record (milliseconds since the epoch), if it says so;
    /// `now_ms` is when it was accepted.
    #[must_use]
    pub fn filter(
        &self,
        seen: &mut Seen,
        vin: &str,
        created_ms: impl FnOnce() -> Option<i64>,
        now_ms: u64,
    ) -> Filter<'_> {
        if self.is_off() {
            return Filter::off();
        }
        // Acquire: what `replace` has put in place before it raised the number is seen.
        let generation = self.generation.load(Ordering::Acquire);
        if seen.generation != generation {
            *seen = Seen { generation, standing: self.look_up(vin) };
        }
        let denied = match &seen.standing {
            Standing::NotLoaded => Scopes::ALL,
            Standing::Silent => snapshot::denied(None, &self.rules, created_ms, now_ms),
            Standing::Said(vehicle) => snapshot::denied(Some(vehicle), &self.rules, created_ms, now_ms),
        };
        Filter::new(&self.rules, denied).counted_by(&self.withheld)
    }

    #[cold]
    fn look_up(&self, vin: &str) -> Standing {
        match &**self.grants.load() {
            None => Standing::NotLoaded,
            Some(grants) => grants.vehicle(vin).map_or(Standing::Silent, |vehicle| Standing::Said(Arc::clone(vehicle))),
        }
    }

    /// The text of a request header or of an envelope as it may be logged and delivered. It is no datum that an owner
    /// could allow, and a header stays for a whole connection, during which grants change: coordinates in it are
    /// masked for everybody.
    #[must_use]
    pub fn label(&self, text: String) -> String {
        Filter::new(&self.rules, Scopes::ALL).counted_by(&self.withheld).label(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Scope;

    fn label(mode: Mode, enforced: Scopes) -> String {
        let rules = Rules { mode, enforced, ..Rules::off() };
        Permissions::new(rules).label("wifi at 37.412374,-122.145867".to_owned())
    }

    fn enforcing() -> Permissions {
        Permissions::new(Rules { mode: Mode::Enforce, deny_unknown: true, enforced: Scopes::ALL, ..Rules::off() })
    }

    fn grants(vin: &str, state: State) -> Grants {
        let text = String::new;
        let grant = Grant { state, since_ms: 0, expires_ms: None, source: text(), note: text(), version: 1 };
        let mut grants = Grants::default();
        grants.set(vin, Scope::VehicleLocation, grant);
        grants
    }

    #[test]
    fn a_session_that_has_looked_sees_every_change_at_its_next_record() {
        let permissions = enforcing();
        let mut seen = Seen::default();
        let mut is_denied = || permissions.filter(&mut seen, "A", || Some(5), 10).denies(Scope::VehicleLocation);
        assert!(is_denied(), "nothing is loaded");
        permissions.replace(Some(grants("A", State::Granted)));
        assert!(!is_denied());
        assert!(!is_denied(), "by what was seen");
        permissions.replace(Some(grants("A", State::Denied)));
        assert!(is_denied());
        permissions.replace(Some(grants("B", State::Granted)));
        assert!(is_denied(), "nothing was said about this vehicle");
        permissions.replace(Some(grants("A", State::Granted)));
        assert!(!is_denied());
        permissions.replace(None);
        assert!(is_denied(), "the store is lost");
    }

    /// A thread that has been told that a change is in force must not judge by what was before.
    #[test]
    fn a_change_is_in_force_for_whoever_learns_that_it_was_made() {
        let permissions = enforcing();
        let changes = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut seen = Seen::default();
                        let mut last = 0;
                        while last < 2_000 {
                            last = changes.load(Ordering::Acquire);
                            let _ = permissions.filter(&mut seen, "A", || Some(5), 10);
                        }
                        // The last change has been made, and it has looked many times before.
                        permissions.filter(&mut seen, "A", || Some(5), 10).denies(Scope::VehicleLocation)
                    })
                })
                .collect();
            for change in 1..=2_000_u64 {
                let state = if change % 2 == 0 { State::Denied } else { State::Granted };
                permissions.replace(Some(grants("A", state)));
                changes.store(change, Ordering::Release);
            }
            for reader in readers {
                assert!(reader.join().expect("no reader panicked"), "the last change denies");
            }
        });
    }

    #[test]
    fn coordinates_in_labels_are_masked_where_location_is_enforced() {
        assert_eq!(label(Mode::Enforce, Scopes::ALL), "wifi at [withheld]");
        for (mode, enforced) in [
            (Mode::Off, Scopes::ALL),
            (Mode::Audit, Scopes::ALL),
            (Mode::Enforce, Scopes::NONE),
            (Mode::Enforce, Scopes::NONE.with(Scope::Media)),
        ] {
            assert_eq!(label(mode, enforced), "wifi at 37.412374,-122.145867", "{mode:?}");
        }
    }
}
