//! Every change of a grant, for those who have to answer for it: who, when, what, from where.
//!
//! Always a log line; where configured, also a record in a Kafka topic: key VIN, value JSON.
//!
//! Lines of the audit are not dropped when the log cannot be written. They wait in room of their own, in order. When
//! that is full, no consent is recorded any more, because its line could not be kept; a refusal is, because it must
//! hold whatever the log does, and its line is counted as lost. The store has both.

mod entry;
#[cfg(feature = "kafka")]
mod kafka;

use std::fmt;
use std::sync::Arc;

pub use entry::{AuditEntry, log};
#[cfg(feature = "kafka")]
pub use kafka::{Topic, TopicError};

#[cfg(feature = "kafka")]
use crate::config;
use crate::logging::{self, Log};

/// What is called for every change, after it is in force. It must not block.
pub type Hook = Arc<dyn Fn(&AuditEntry) + Send + Sync>;

/// Where changes are reported to.
#[derive(Clone)]
pub struct Audit {
    /// Behind the lines; `None`: they go to whoever listens to events, and there is always room.
    log: Option<Log>,
    more: Option<Hook>,
}

/// Whether the line of a change must be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There was room for it before the change was made.
    Admitted,
    /// The change was made without asking; its line is kept if there is room.
    NotAsked,
}

impl Default for Audit {
    /// Lines of the process' log.
    fn default() -> Self {
        Self { log: logging::installed().cloned(), more: None }
    }
}

impl Audit {
    /// Log lines, and the topic of the configuration if it names one.
    ///
    /// # Errors
    /// When librdkafka does not take the properties of the section `kafka`.
    #[cfg(feature = "kafka")]
    pub fn open(config: &config::Permissions) -> Result<Self, TopicError> {
        let (Some(name), Some(kafka)) = (&config.audit_topic, &config.kafka) else { return Ok(Self::default()) };
        let topic = Topic::open(name, &kafka.properties)?;
        Ok(Self::and(Arc::new(move |entry| topic.write(entry))))
    }

    /// Log lines, and `hook`.
    #[must_use]
    pub fn and(hook: Hook) -> Self {
        Self { more: Some(hook), ..Self::default() }
    }

    /// The same, with the room of `log`.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn through(log: Log) -> Self {
        Self { log: Some(log), more: None }
    }

    /// Whether lines of more changes will be kept.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.log.as_ref().is_none_or(Log::has_room_for_audit)
    }

    /// Whether the lines of all changes so far are written, after waiting a moment for them.
    pub async fn is_written(&self) -> bool {
        match &self.log {
            Some(log) => log.is_audited().await,
            None => true,
        }
    }

    /// Reports one change.
    pub fn report(&self, entry: &AuditEntry, admission: Admission) {
        match &self.log {
            Some(full) if admission == Admission::NotAsked && !full.has_room_for_audit() => full.lose_audit(),
            _ => log(entry),
        }
        if let Some(more) = &self.more {
            more(entry);
        }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("to_log_only", &self.more.is_none()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::entry::json;
    use super::*;
    use crate::grants::change::{Actor, Entry};
    use crate::permissions::{Grant, State};
    use crate::scope::Scope;

    fn entry() -> AuditEntry {
        let grant = Grant {
            state: State::Granted,
            since_ms: 1_767_225_600_000,
            expires_ms: None,
            source: "owner consent".to_owned(),
            note: "by \"phone\"".to_owned(),
            version: 3,
        };
        let actor = Actor { who: "token".to_owned(), from: "127.0.0.1:5000".to_owned() };
        let entry = Entry { at_ms: 1_767_225_601_500, scope: Scope::VehicleLocation, grant, actor };
        AuditEntry { vin: "5YJ3E1EA1KF000001".to_owned(), entry, state: "granted" }
    }

    #[test]
    fn the_record_says_who_when_what_and_from_where() {
        let record: serde_json::Value = serde_json::from_slice(&json(&entry())).unwrap();
        let expected = serde_json::json!({
            "at": "2026-01-01T00:00:01.5Z", "vin": "5YJ3E1EA1KF000001", "scope": "vehicle_location",
            "state": "granted", "since": "2026-01-01T00:00:00Z", "expires": null, "source": "owner consent",
            "note": "by \"phone\"", "version": 3, "actor": "token", "from": "127.0.0.1:5000"
        });
        assert_eq!(record, expected);
    }

    #[test]
    fn the_hook_sees_each_change_once() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let audit = Audit::and(Arc::new(move |entry| sink.lock().unwrap().push(entry.vin.clone())));
        audit.report(&entry(), Admission::NotAsked);
        assert_eq!(*seen.lock().unwrap(), ["5YJ3E1EA1KF000001"]);
    }
}
