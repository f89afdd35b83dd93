//! The topic as this instance has read it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rdkafka::message::{BorrowedMessage, Message as _};
use tokio::sync::watch;

use super::value;
use crate::grants::change::{Actor, Entry, Planned};
use crate::grants::clock::now_ms;
use crate::grants::ledger::Ledger;
use crate::grants::store::recent::Recent;
use crate::logging::RateLimited;
use crate::permissions::{Grant, Grants, State};
use crate::scope::Scope;

/// What was read, and how far.
pub(super) struct Log {
    pub(super) topic: Arc<str>,
    ledger: Arc<Ledger>,
    /// A std mutex: the reader and changes take it for microseconds, never across an `await`.
    read: Mutex<Read>,
    /// By partition, the offset of the next message.
    next: watch::Sender<Vec<i64>>,
    /// Set once: the log has ended before where it was read to.
    is_cut_off: AtomicBool,
    complaints: RateLimited,
}

struct Read {
    /// While the topic is read for the first time.
    loading: Option<Grants>,
    recent: Recent,
    /// Own changes that are confirmed and in force but not read back yet: key and offset. What comes before them
    /// in the log must not come into force after them.
    ahead: HashMap<(Arc<str>, Scope), i64>,
}

impl Log {
    pub(super) fn new(topic: &str, partitions: usize, ledger: Arc<Ledger>) -> Self {
        let read = Read { loading: Some(Grants::default()), recent: Recent::default(), ahead: HashMap::new() };
        let next = watch::Sender::new(vec![0; partitions]);
        Self {
            topic: topic.into(),
            ledger,
            read: Mutex::new(read),
            next,
            is_cut_off: AtomicBool::new(false),
            complaints: RateLimited::default(),
        }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Everything up to `ends` was read.
    pub(super) fn loaded(&self) {
        if let Some(grants) = self.read().loading.take() {
            self.ledger.load(grants);
        }
        self.ledger.confirm();
    }

    /// The next message of the log.
    pub(super) fn take(&self, message: &BorrowedMessage<'_>) {
        let (partition, offset) = (index(message.partition()), message.offset());
        self.take_at(partition, offset, message.key().unwrap_or_default(), message.payload());
    }

    fn take_at(&self, partition: usize, offset: i64, key: &[u8], payload: Option<&[u8]>) {
        let mut read = self.read();
        if self.next.borrow().get(partition).is_none_or(|next| offset < *next) {
            return;
        }
        if let Some((vin, scope)) = value::parse_key(key) {
            let entry = payload.map(|payload| self.entry(&read, (vin, scope), payload, offset));
            self.follow(&mut read, vin, entry, scope, offset);
        } else if let Some(skipped) = self.complaints.permit() {
            tracing::error!(topic = %self.topic, partition, offset, skipped, "permission_key_unreadable");
        }
        self.advance(partition, offset + 1);
    }

    /// Fails closed: what somebody wrote for this key was meant to change it, and consent cannot be read from it.
    fn entry(&self, read: &Read, (vin, scope): (&str, Scope), payload: &[u8], offset: i64) -> Entry {
        value::parse_value(vin, scope, payload).unwrap_or_else(|error| {
            if let Some(skipped) = self.complaints.permit() {
                tracing::error!(topic = %self.topic, offset, error, skipped, "permission_value_unreadable");
            }
            let (note, source) = (format!("unreadable message at offset {offset}: {error}"), String::new());
            let at_ms = now_ms();
            let known = read.loading.clone().unwrap_or_else(|| self.ledger.grants());
            let version = known.get(vin, scope).map_or(1, |grant| grant.version + 1);
            let grant = Grant { state: State::Denied, since_ms: at_ms, expires_ms: None, source, note, version };
            Entry { at_ms, scope, grant, actor: Actor { who: String::new(), from: self.topic.to_string() } }
        })
    }

    fn follow(&self, read: &mut Read, vin: &str, entry: Option<Entry>, scope: Scope, offset: i64) {
        let ahead = read.ahead.get(&(Arc::from(vin), scope)).copied();
        if ahead.is_some_and(|ahead| ahead <= offset) {
            read.ahead.remove(&(Arc::from(vin), scope));
        }
        let is_own = ahead == Some(offset);
        let is_past = ahead.is_some_and(|ahead| offset < ahead);
        let grant = entry.as_ref().map(|entry| entry.grant.clone());
        if let Some(entry) = entry
            && !is_own
        {
            read.recent.push(vin, entry);
        }
        match &mut read.loading {
            Some(grants) => {
                match grant {
                    Some(grant) => grants.set(vin, scope, grant),
                    None => grants.remove(vin, scope),
                };
            }
            None if !is_own && !is_past => {
                self.warn_of_conflict(vin, scope, grant.as_ref());
                self.ledger.apply([(vin, scope, grant)]);
            }
            None => {}
        }
    }

    /// Two instances that changed an entry at the same time gave both changes the same version.
    fn warn_of_conflict(&self, vin: &str, scope: Scope, grant: Option<&Grant>) {
        let known = self.ledger.grants();
        let (Some(known), Some(grant)) = (known.get(vin, scope), grant) else { return };
        if grant.version <= known.version && !grant.says_the_same(known) {
            let version = grant.version;
            tracing::warn!(vin, scope = scope.label(), version, "permission_changed_twice_at_once");
        }
    }

    /// An own change is confirmed at `offset`: it is in force when this returns, unless the log goes on past it.
    pub(super) fn written(&self, plan: &Planned, partition: i32, offset: i64) {
        let mut read = self.read();
        let is_read = self.next.borrow().get(index(partition)).is_some_and(|next| *next > offset);
        let scope = plan.entry.scope;
        if !is_read {
            read.ahead.insert((Arc::from(plan.vin.as_str()), scope), offset);
            read.recent.push(&plan.vin, plan.entry.clone());
            self.ledger.apply([(plan.vin.as_str(), scope, Some(plan.entry.grant.clone()))]);
        }
        drop(read);
        self.ledger.announce(&plan.vin, &plan.entry);
    }

    /// The end of a partition was met, perhaps behind messages that compaction or the broker took away.
    pub(super) fn advance(&self, partition: usize, next: i64) {
        self.next.send_if_modified(|all| match all.get_mut(partition) {
            Some(known) if *known < next => {
                *known = next;
                true
            }
            _ => false,
        });
    }

    pub(super) fn next(&self) -> Vec<i64> {
        self.next.borrow().clone()
    }

    /// Whether the log ends, or has ever ended, before where it was read to.
    pub(super) fn is_cut_off(&self, ends: &[i64]) -> bool {
        if self.next.borrow().iter().zip(ends).any(|(next, end)| end < next) {
            self.is_cut_off.store(true, Ordering::Relaxed);
        }
        self.is_cut_off.load(Ordering::Relaxed)
    }

    /// Waits until everything before `ends` was read.
    pub(super) async fn reaches(&self, ends: &[i64], within: Duration) -> bool {
        let mut next = self.next.subscribe();
        let reached = next.wait_for(|next| next.iter().zip(ends).all(|(next, end)| next >= end));
        matches!(tokio::time::timeout(within, reached).await, Ok(Ok(_)))
    }

    pub(super) fn history(&self, vin: &str, limit: usize) -> Vec<Entry> {
        self.read().recent.of(vin, limit)
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock()
    }
}

fn index(partition: i32) -> usize {
    usize::try_from(partition).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::audit::Audit;
    use crate::permissions::{Permissions, Rules};

    const KEY: &[u8] = b"A|vehicle_location";
    const SCOPE: Scope = Scope::VehicleLocation;

    fn loaded() -> Log {
        let permissions = Arc::new(Permissions::new(Rules::off()));
        let log = Log::new("topic", 1, Arc::new(Ledger::new(permissions, Duration::from_secs(1), Audit::default())));
        log.loaded();
        log
    }

    fn entry(state: State, version: u64) -> Entry {
        let text = String::new;
        let grant = Grant { state, since_ms: 1, expires_ms: None, source: text(), note: text(), version };
        Entry { at_ms: 1, scope: SCOPE, grant, actor: Actor::default() }
    }

    fn read(log: &Log, offset: i64, state: State, version: u64) {
        log.take_at(0, offset, KEY, Some(&value::value("A", &entry(state, version))));
    }

    fn confirm(log: &Log, offset: i64, state: State, version: u64) {
        log.written(&Planned { vin: "A".to_owned(), entry: entry(state, version), changed: true }, 0, offset);
    }

    fn in_force(log: &Log) -> Option<(State, u64)> {
        log.ledger().grants().get("A", SCOPE).map(|grant| (grant.state, grant.version))
    }

    #[test]
    fn what_another_wrote_before_an_own_change_never_comes_into_force_after_it() {
        let log = loaded();
        confirm(&log, 5, State::Denied, 2);
        assert_eq!(in_force(&log), Some((State::Denied, 2)));
        read(&log, 4, State::Granted, 2);
        assert_eq!(in_force(&log), Some((State::Denied, 2)));
        read(&log, 5, State::Denied, 2);
        read(&log, 6, State::Granted, 3);
        assert_eq!(in_force(&log), Some((State::Granted, 3)));
        let versions: Vec<_> = log.history("A", 9).iter().map(|entry| entry.grant.version).collect();
        assert_eq!(versions, [3, 2, 2], "each change once");
    }

    #[test]
    fn what_another_wrote_after_an_own_change_stays_when_the_confirmation_comes_late() {
        let log = loaded();
        read(&log, 5, State::Granted, 1);
        read(&log, 6, State::Denied, 2);
        confirm(&log, 5, State::Granted, 1);
        assert_eq!(in_force(&log), Some((State::Denied, 2)));
        read(&log, 5, State::Granted, 1);
        assert_eq!(in_force(&log), Some((State::Denied, 2)), "read before");
    }
}
