//! Consent at the broker: what it retains outlives the moment at which it was allowed.
//!
//! A record may wait here while its owner changes their mind, so it is filtered once more when it goes out. And a value
//! that the broker retains under a field's topic is removed when the field may no longer leave: for every vehicle whose
//! grants have changed or expired, whether or not it is connected, and for all that have grants at the start.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::permissions::filter::Decision;
use crate::permissions::{Action, Filter, Grants, Permissions, Seen};
use crate::proto::vehicle_data::Field;
use crate::record::{Received, Record, transform};

/// What has been seen of the grants, and whose retained values are to be looked at.
#[derive(Debug)]
pub(super) struct Consent {
    permissions: Arc<Permissions>,
    generation: u64,
    before: Grants,
    due: BTreeSet<Arc<str>>,
    look_at: Instant,
    expired_until_ms: i64,
}

/// How long a change may go unnoticed.
const LOOK: Duration = Duration::from_millis(500);

impl Consent {
    pub(super) fn new(permissions: Arc<Permissions>) -> Self {
        Self {
            permissions,
            generation: 0,
            before: Grants::default(),
            due: BTreeSet::new(),
            look_at: Instant::now(),
            expired_until_ms: 0,
        }
    }

    /// Whether anything is ever withheld.
    pub(super) fn is_enforced(&self) -> bool {
        self.permissions.enforces()
    }

    /// Raised whenever something may be allowed or withheld that was not before.
    pub(super) fn generation(&self) -> u64 {
        self.permissions.generation()
    }

    /// The payload of a record, without what is not allowed now.
    ///
    /// # Errors
    /// Never for a record that was filtered before: the walk accepts what it wrote.
    pub(super) fn allowed<'r>(&self, record: &'r Record) -> Result<Cow<'r, [u8]>, transform::PayloadError> {
        let (kind, payload, vin) = (record.kind(), record.payload(), record.vin());
        let created = || transform::created_ms(kind, payload);
        let filter = self.permissions.filter(&mut Seen::default(), vin, created, Received::now().epoch_ms);
        if filter.is_off() {
            return Ok(Cow::Borrowed(payload));
        }
        let mut allowed = Vec::new();
        transform::rewrite(kind, payload, vin, &filter, &mut allowed)?;
        Ok(Cow::Owned(allowed))
    }

    /// The numbers of the fields that `vin` may not send now, or not as they are.
    pub(super) fn withheld(&self, vin: &str) -> Vec<i32> {
        let filter = self.filter(vin);
        let is_withheld = |key: &i32| action(&filter, *key).is_some();
        if filter.is_off() { Vec::new() } else { FIELDS.filter(is_withheld).collect() }
    }

    /// Whether nothing at all of a field may be known now: what is rounded may.
    pub(super) fn hides(&self, vin: &str, key: i32) -> bool {
        self.is_enforced() && matches!(action(&self.filter(vin), key), Some(Action::Drop | Action::Invalid))
    }

    /// For what `vin` would send now.
    fn filter(&self, vin: &str) -> Filter<'_> {
        let now = Received::now().epoch_ms;
        self.permissions.filter(&mut Seen::default(), vin, || i64::try_from(now).ok(), now)
    }

    /// Looks, now and then, who has something to be removed.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        if !self.is_enforced() || now < self.look_at {
            return;
        }
        self.look_at = now + LOOK;
        let generation = self.permissions.generation();
        // Grants that are not known at the moment were not taken back.
        let Some(grants) = self.permissions.grants() else { return };
        if generation != self.generation {
            self.generation = generation;
            let before = std::mem::replace(&mut self.before, grants);
            self.due.extend(self.before.changes(&before).map(|(vin, _)| Arc::clone(vin)));
        }
        self.expire(i64::try_from(Received::now().epoch_ms).unwrap_or(i64::MAX));
    }

    /// Of consents that have ended by themselves since the last look.
    fn expire(&mut self, now_ms: i64) {
        let since = std::mem::replace(&mut self.expired_until_ms, now_ms);
        let has_expired = |at: i64| since < at && at <= now_ms;
        let expired = self.before.iter().filter(|(.., grant)| grant.expires_ms.is_some_and(has_expired));
        self.due.extend(expired.map(|(vin, ..)| Arc::clone(vin)));
    }

    /// A vehicle whose retained values are to be looked at.
    pub(super) fn next_due(&mut self) -> Option<Arc<str>> {
        self.due.pop_first()
    }

    /// It is to be looked at (again).
    pub(super) fn is_due(&mut self, vin: Arc<str>) {
        self.due.insert(vin);
    }
}

/// Wider than the schema.
const FIELDS: std::ops::Range<i32> = 0..1_000;

fn action(filter: &Filter<'_>, key: i32) -> Option<Action> {
    match filter.datum(key, &[]) {
        Decision::Withhold(action) if Field::try_from(key).is_ok() => Some(action),
        _ => None,
    }
}
