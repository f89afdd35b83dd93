//! One line of the audit: its log line, and its record in the topic.

use serde::Serialize;

use crate::grants::change::Entry;
use crate::grants::clock::rfc3339;
use crate::grants::written::WrittenGrant;
use crate::logging::AUDIT_TARGET;

/// One change that has been made.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// The vehicle.
    pub vin: String,
    /// What it is now, since when, by whom.
    pub entry: Entry,
    /// "granted", "denied", or "removed" when the entry is gone.
    pub state: &'static str,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    vin: &'a str,
    scope: &'static str,
    #[serde(flatten)]
    grant: WrittenGrant,
    actor: &'a str,
    from: &'a str,
}

impl<'a> Line<'a> {
    fn of(AuditEntry { vin, entry, state }: &'a AuditEntry) -> Self {
        Self {
            at: rfc3339(entry.at_ms),
            vin,
            scope: entry.scope.label(),
            grant: WrittenGrant { state: (*state).into(), ..WrittenGrant::from(&entry.grant) },
            actor: &entry.actor.who,
            from: &entry.actor.from,
        }
    }
}

/// Logs one change.
pub fn log(entry: &AuditEntry) {
    let Line { vin, scope, grant, actor, from, .. } = Line::of(entry);
    tracing::info!(
        target: AUDIT_TARGET,
        vin,
        scope,
        state = &*grant.state,
        since = grant.since,
        expires = grant.expires,
        version = grant.version,
        actor,
        from,
        source = grant.source,
        "permission_changed"
    );
}

/// The value of the record of one change.
#[cfg(any(feature = "kafka", test))]
pub(super) fn json(entry: &AuditEntry) -> Vec<u8> {
    serde_json::to_vec(&Line::of(entry)).expect("texts and numbers only")
}
