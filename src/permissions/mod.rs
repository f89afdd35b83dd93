//! Location permission: what the owner of a vehicle has not allowed never leaves the process.
//!
//! ```text
//!  store (file, SQLite, Kafka) ──▶ Grants, an atomic snapshot ──▶ Filter, per record ──▶ the walk in `record::transform`
//!        ▲                                                                                     keep · drop · invalid · coarsen
//!        └── admin API, command line (grant, revoke, import)
//! ```
//!
//! `scope` names what can be granted and which fields belong to it, `grant` is what an owner said,
//! `filter` decides about one datum, `grants` is the snapshot, `store` is where grants live, `api` is how
//! they are changed. `authority` is the one writer: it decides about changes (`change`), has the store keep them,
//! and puts them in force through `ledger`, which also withholds everything when the store is lost for too long.

pub mod api;
pub mod audit;
pub mod authority;
mod change;
pub mod clock;
pub mod filter;
pub mod grant;
pub mod grants;
mod ledger;
pub mod scope;
mod store;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use authority::{Authority, Page};
pub use change::{Actor, Change, ChangeError, Changed, Entry, ImportError, Imported};
pub use filter::{Action, Filter, Mode, Rules};
pub use grant::{Grant, State};
pub use grants::{Grants, Vehicle};
pub use ledger::Health;
pub use scope::{Scope, Scopes};
pub use store::{OpenError, StoreError, format};

/// What sessions share: the rules, which are fixed, and the grants, which change.
#[derive(Debug)]
pub struct Permissions {
    rules: Rules,
    /// `None` until the store has been read, and after it has been lost for too long: everything is then withheld.
    grants: ArcSwap<Option<Grants>>,
}

impl Permissions {
    /// Nothing is known yet, so everything that needs a grant is withheld.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, grants: ArcSwap::from_pointee(None) }
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

    /// Replaces what is known; in force for every record that is accepted after this returns.
    pub fn replace(&self, grants: Option<Grants>) {
        self.grants.store(Arc::new(grants));
    }

    /// The filter for one record of `vin`, by the grants in force now. Takes no lock and does not allocate.
    ///
    /// `created_ms` says (only if that matters) when the vehicle made the record (milliseconds since the epoch), if it says so;
    /// `now_ms` is when it was accepted.
    #[must_use]
    pub fn filter(&self, vin: &str, created_ms: impl FnOnce() -> Option<i64>, now_ms: u64) -> Filter<'_> {
        if self.is_off() {
            return Filter::off();
        }
        let grants = self.grants.load();
        let denied =
            grants.as_ref().as_ref().map_or(Scopes::ALL, |grants| grants.denied(&self.rules, vin, created_ms, now_ms));
        Filter::new(&self.rules, denied)
    }

    /// The text of a request header or of an envelope as it may be logged and delivered. It is no datum that an owner
    /// could allow, and a header stays for a whole connection, during which grants change: coordinates in it are
    /// masked for everybody.
    #[must_use]
    pub fn label(&self, text: String) -> String {
        Filter::new(&self.rules, Scopes::ALL).label(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(mode: Mode, enforced: Scopes) -> String {
        let rules = Rules { mode, enforced, ..Rules::off() };
        Permissions::new(rules).label("wifi at 37.412374,-122.145867".to_owned())
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
