//! What is known of the grants, how fresh that is, and what of it is in force.
//!
//! ```text
//!            load                    trouble, or silence             for max_stale
//!  Loading ───────▶ Loaded ─────────────────────────────▶ Stale ─────────────────▶ Lost
//!  withholds          ▲      in force: what is known         │                       │ withholds
//!                     └──────────── confirm ─────────────────┴───────────────────────┘
//! ```

use std::array;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::{Mutex, MutexGuard};
use strum::VariantArray;

use super::audit::{Admission, Audit, AuditEntry};
use super::change::{Entry, Planned};
use super::clock::now_ms;
use crate::logging::RateLimited;
use crate::permissions::{Grant, Grants, Permissions, State};
use crate::scope::Scope;

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has not been read yet; everything is withheld.
    Loading,
    /// What is in force is what it says.
    Loaded,
    /// It cannot be read any more; the last known grants are in force.
    Stale {
        /// When it could be read last; milliseconds since the epoch.
        since_ms: i64,
        /// Why it cannot.
        error: String,
    },
    /// It could not be read for too long; everything is withheld.
    Lost {
        /// Why it cannot.
        error: String,
    },
}

/// A part of all vehicles, by VIN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The vehicles and what their owners have said.
    pub vehicles: Vec<(String, Vec<(Scope, Grant)>)>,
    /// Where the next page begins (after this VIN); `None`: there is none.
    pub next: Option<String>,
}

/// What is known. The stores tell it, and nobody else calls [`Permissions::replace`].
pub(super) struct Ledger {
    permissions: Arc<Permissions>,
    max_stale: Duration,
    audit: Audit,
    /// A std mutex: held for microseconds, and never across an `await`. Replacing the snapshot happens under it,
    /// so that snapshots come into force in the order in which they were made.
    known: Mutex<Known>,
    metrics: Metrics,
    complaints: RateLimited,
}

struct Known {
    grants: Grants,
    vins: BTreeSet<Arc<str>>,
    is_loaded: bool,
    /// When the store was last seen to say what is known.
    seen: (Instant, i64),
    trouble: Option<String>,
    is_lost: bool,
}

/// A store that says nothing for so long is in trouble; every store looks at least once a second.
const SILENCE: Duration = Duration::from_secs(10);

impl Ledger {
    /// Registers its metrics with the current recorder.
    pub(super) fn new(permissions: Arc<Permissions>, max_stale: Duration, audit: Audit) -> Self {
        let known = Known {
            grants: Grants::default(),
            vins: BTreeSet::new(),
            is_loaded: false,
            seen: (Instant::now(), now_ms()),
            trouble: None,
            is_lost: false,
        };
        let metrics = Metrics::register();
        metrics.healthy.set(0);
        Self { permissions, max_stale, audit, known: Mutex::new(known), metrics, complaints: RateLimited::default() }
    }

    /// The store was read whole.
    pub(super) fn load(&self, grants: Grants) {
        let mut known = self.known();
        known.vins = grants.vins().cloned().collect();
        self.metrics.count_all(&grants);
        known.grants = grants;
        known.is_loaded = true;
        self.publish(&known);
    }

    /// Entries have changed: each `Some` is set, each `None` removed. In force when this returns.
    pub(super) fn apply<'a>(&self, changes: impl IntoIterator<Item = (&'a str, Scope, Option<Grant>)>) {
        let mut known = self.known();
        for (vin, scope, grant) in changes {
            let after = grant.as_ref().map(|grant| grant.state);
            let before = match grant {
                Some(grant) => known.grants.set(vin, scope, grant),
                None => known.grants.remove(vin, scope),
            };
            self.metrics.count(before.map(|grant| grant.state), after);
            if known.grants.vehicle(vin).is_none() {
                known.vins.remove(vin);
            } else if !known.vins.contains(vin) {
                known.vins.insert(vin.into());
            }
        }
        self.publish(&known);
    }

    /// Whether consents may be recorded: their lines must be kept. A refusal must hold whatever becomes of its line.
    pub(super) fn admits_consents(&self) -> bool {
        self.audit.has_room()
    }

    /// Puts what was committed into force and announces it. Also what was so already: another process may have made
    /// it so a moment ago.
    pub(super) fn enforce(&self, planned: &[Planned]) {
        self.apply(planned.iter().map(|plan| (plan.vin.as_str(), plan.entry.scope, Some(plan.entry.grant.clone()))));
        for plan in planned.iter().filter(|plan| plan.changed) {
            self.announce(&plan.vin, &plan.entry);
        }
    }

    /// A change that was made here, after the store has it and it is in force: one line and one count.
    pub(super) fn announce(&self, vin: &str, entry: &Entry) {
        let admission = match entry.grant.state {
            State::Granted => Admission::Admitted,
            State::Denied => Admission::NotAsked,
        };
        self.report(vin, entry, entry.grant.state.label(), admission);
    }

    /// The same for a change that was read: somebody else has made it. `removed`: the entry is gone.
    pub(super) fn announce_read(&self, vin: &str, entry: &Entry, removed: bool) {
        let state = if removed { REMOVED } else { entry.grant.state.label() };
        self.report(vin, entry, state, Admission::NotAsked);
    }

    fn report(&self, vin: &str, entry: &Entry, state: &'static str, admission: Admission) {
        self.metrics.changes(entry.scope, state).increment(1);
        self.audit.report(&AuditEntry { vin: vin.to_owned(), entry: entry.clone(), state }, admission);
    }

    /// Whether the lines of all changes so far are written, after waiting a moment for them.
    pub(super) async fn is_audited(&self) -> bool {
        self.audit.is_written().await
    }

    /// The store was seen to say what is known.
    pub(super) fn confirm(&self) {
        let mut known = self.known();
        let was_ill = known.trouble.take().is_some();
        known.seen = (Instant::now(), now_ms());
        self.metrics.healthy.set(1);
        if std::mem::take(&mut known.is_lost) {
            self.publish(&known);
        }
        if was_ill {
            tracing::info!("permission_store_recovered");
        }
    }

    /// The store cannot be read.
    pub(super) fn trouble(&self, error: String) {
        let mut known = self.known();
        self.metrics.healthy.set(0);
        if known.trouble.as_ref() != Some(&error)
            && let Some(skipped) = self.complaints.permit()
        {
            tracing::error!(error, skipped, "permission_store_unhealthy");
        }
        known.trouble = Some(error);
    }

    /// Watches the time while the ledger is in use. Apart from the stores, since they may hang.
    pub(super) async fn watch(ledger: Weak<Self>, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(ledger) = ledger.upgrade() else { return };
            ledger.tick();
        }
    }

    fn tick(&self) {
        let (silence, has_trouble) = {
            let known = self.known();
            (known.seen.0.elapsed(), known.trouble.is_some())
        };
        if silence >= SILENCE.min(self.max_stale) && !has_trouble {
            self.trouble(format!("the store has not answered for {silence:.1?}"));
        }
        let mut known = self.known();
        if known.is_loaded && !known.is_lost && known.seen.0.elapsed() >= self.max_stale {
            known.is_lost = true;
            self.publish(&known);
            let error = known.trouble.as_deref().unwrap_or_default();
            tracing::error!(error, max_stale = ?self.max_stale, "permission_store_lost");
        }
    }

    pub(super) fn health(&self) -> Health {
        let known = self.known();
        let error = known.trouble.clone();
        match error {
            _ if !known.is_loaded => Health::Loading,
            Some(error) if known.is_lost => Health::Lost { error },
            Some(error) => Health::Stale { since_ms: known.seen.1, error },
            None => Health::Loaded,
        }
    }

    pub(super) fn grants(&self) -> Grants {
        self.known().grants.clone()
    }

    /// Up to `limit` vehicles after `after`, by VIN.
    pub(super) fn page(&self, after: Option<&str>, limit: usize) -> Page {
        let (vins, grants) = {
            let known = self.known();
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let vins = known.vins.range::<str, _>((start, Bound::Unbounded)).take(limit.saturating_add(1));
            (vins.cloned().collect::<Vec<_>>(), known.grants.clone())
        };
        let more = vins.len() > limit;
        let vehicles: Vec<_> = vins
            .iter()
            .take(limit)
            .filter_map(|vin| Some((vin.to_string(), grants.vehicle(vin)?.all().to_vec())))
            .collect();
        let next = vehicles.last().filter(|_| more).map(|(vin, _)| vin.clone());
        Page { vehicles, next }
    }

    fn publish(&self, known: &Known) {
        let is_known = known.is_loaded && !known.is_lost;
        self.permissions.replace(is_known.then(|| known.grants.clone()));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }
}

/// As [`Ledger::announce_read`] calls an entry that is not there any more.
const REMOVED: &str = "removed";

const STATES: [&str; 3] = ["granted", "denied", REMOVED];

struct Metrics {
    healthy: Gauge,
    /// By state.
    grants: [Gauge; State::VARIANTS.len()],
    /// By scope and state.
    changes: [[Counter; STATES.len()]; Scope::VARIANTS.len()],
}

impl Metrics {
    fn register() -> Self {
        Self {
            healthy: gauge!("permission_store_healthy"),
            grants: array::from_fn(|at| gauge!("permission_grants", "state" => State::VARIANTS[at].label())),
            changes: array::from_fn(|at| {
                let scope = Scope::VARIANTS[at].label();
                STATES.map(|state| counter!("permission_changes_total", "scope" => scope, "state" => state))
            }),
        }
    }

    fn changes(&self, scope: Scope, state: &str) -> &Counter {
        let at = STATES.iter().position(|known| *known == state).expect("states have one of three names");
        &self.changes[scope as usize][at]
    }

    fn count_all(&self, grants: &Grants) {
        let mut counts = [0_u32; State::VARIANTS.len()];
        grants.iter().for_each(|(_, _, grant)| counts[grant.state as usize] += 1);
        self.grants.iter().zip(counts).for_each(|(gauge, count)| gauge.set(count));
    }

    fn count(&self, before: Option<State>, after: Option<State>) {
        if let Some(before) = before {
            self.grants[before as usize].decrement(1);
        }
        if let Some(after) = after {
            self.grants[after as usize].increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::grants::change::Actor;
    use crate::permissions::{Mode, Rules, Seen};
    use crate::scope::Scopes;

    const SHORT: Duration = Duration::from_millis(50);

    fn ledger() -> (Ledger, Arc<Permissions>) {
        let enforced = Scopes::NONE.with(Scope::Media);
        let permissions =
            Arc::new(Permissions::new(Rules { mode: Mode::Enforce, enforced, deny_unknown: true, ..Rules::off() }));
        (Ledger::new(Arc::clone(&permissions), SHORT, Audit::default()), permissions)
    }

    fn entry() -> Entry {
        let grant = Grant {
            state: State::Granted,
            since_ms: 1_767_225_600_000,
            expires_ms: Some(1_767_225_600_500),
            source: "owner".to_owned(),
            note: String::new(),
            version: 3,
        };
        let actor = Actor { who: "admin".to_owned(), from: "10.0.0.7".to_owned() };
        Entry { at_ms: 0, scope: Scope::Media, grant, actor }
    }

    fn allows(permissions: &Permissions) -> bool {
        let now: i64 = 1_767_225_600_100;
        !permissions.filter(&mut Seen::default(), "A", || Some(now), now.unsigned_abs()).denies(Scope::Media)
    }

    #[test]
    fn a_store_that_hangs_is_lost_as_one_that_complains_is() {
        let (ledger, permissions) = ledger();
        assert_eq!(ledger.health(), Health::Loading);
        let mut grants = Grants::default();
        grants.set("A", Scope::Media, entry().grant);
        ledger.load(grants);
        ledger.confirm();
        ledger.tick();
        assert!(ledger.health() == Health::Loaded && allows(&permissions));
        std::thread::sleep(SHORT);
        ledger.tick();
        assert!(matches!(ledger.health(), Health::Lost { error } if error.contains("has not answered")));
        assert!(!allows(&permissions));
        ledger.apply([("A", Scope::Media, Some(entry().grant))]);
        assert!(!allows(&permissions), "what is lost does not come back by a change");
        ledger.confirm();
        assert!(ledger.health() == Health::Loaded && allows(&permissions));
    }

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A ledger whose audit goes to a log that nobody reads, with room for so many lines.
    fn unread(max_lines: usize) -> (Ledger, crate::logging::Log) {
        let (mut ledger, _permissions) = ledger();
        let config = crate::config::Log {
            level: tracing::level_filters::LevelFilter::INFO,
            json: false,
            suppress_handshake_errors: false,
            max_lines,
            max_bytes: 1 << 20,
        };
        let log = crate::logging::Log::start(&config, Box::new(Unread)).unwrap();
        ledger.audit = Audit::through(log.clone());
        (ledger, log)
    }

    /// Takes nothing, for ever.
    struct Unread;

    impl Write for Unread {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            loop {
                std::thread::park();
            }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_admitted_is_kept_and_what_did_not_ask_only_while_there_is_room() {
        use tracing_subscriber::layer::SubscriberExt;

        let (ledger, log) = unread(2);
        let subscriber = tracing_subscriber::registry().with(crate::logging::Lines(log.clone()));
        tracing::subscriber::with_default(subscriber, || {
            ledger.announce("A", &entry());
            assert!(ledger.admits_consents());
            // As one import: admitted whole, so kept whole.
            (0..5).for_each(|_| ledger.announce("A", &entry()));
            assert!(!ledger.admits_consents());
            let denied = Entry { grant: Grant { state: State::Denied, ..entry().grant }, ..entry() };
            ledger.announce("A", &denied);
            // From a file, which changes whether or not there is room.
            ledger.announce_read("A", &entry(), false);
        });
        assert_eq!(log.depth()[1].0, 6);
        assert_eq!(log.totals(), (0, 0, 2));
    }

    #[test]
    fn a_change_is_one_line_that_says_who_when_what_and_from_where() {
        let (ledger, _permissions) = ledger();
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || ledger.announce("VIN1", &entry()));
        let line: serde_json::Value = serde_json::from_slice(&lines.0.lock()).unwrap();
        assert_eq!(line["target"], "fleet_telemetry::audit");
        let expected = serde_json::json!({
            "message": "permission_changed", "vin": "VIN1", "scope": "media", "state": "granted",
            "since": "2026-01-01T00:00:00Z", "expires": "2026-01-01T00:00:00.5Z", "version": 3,
            "actor": "admin", "from": "10.0.0.7", "source": "owner",
        });
        assert_eq!(line["fields"], expected);
    }
}
