//! Entries, as callers see them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Api;
use crate::grants::written::WrittenGrant;
use crate::grants::{Entry, Health, clock};
use crate::permissions::Grant;
use crate::scope::Scope;

/// One vehicle with all of its entries.
#[derive(Debug, Serialize)]
pub(super) struct VehicleView {
    vin: String,
    scopes: BTreeMap<&'static str, WrittenGrant>,
}

impl VehicleView {
    pub(super) fn new(vin: String, entries: Vec<(Scope, Grant)>) -> Self {
        Self {
            vin,
            scopes: entries.into_iter().map(|(scope, grant)| (scope.label(), WrittenGrant::from(&grant))).collect(),
        }
    }
}

/// Where the audit line of a change is, if not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuditLine {
    /// It waits until the log can be written. The change is in force.
    NotWritten,
}

impl AuditLine {
    /// After waiting a moment for it. Without a change there is no line.
    pub(super) async fn unless_written(api: &Api, changed: bool) -> Option<Self> {
        (changed && !api.authority.is_audited().await).then_some(Self::NotWritten)
    }
}

/// One change of the past.
#[derive(Debug, Serialize)]
pub(super) struct EntryView {
    at: String,
    scope: &'static str,
    #[serde(flatten)]
    grant: WrittenGrant,
    actor: String,
    from: String,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        Self {
            at: clock::rfc3339(entry.at_ms),
            scope: entry.scope.label(),
            grant: WrittenGrant::from(&entry.grant),
            actor: entry.actor.who,
            from: entry.actor.from,
        }
    }
}

/// Whether the grants are known.
#[derive(Debug, Default, Serialize)]
pub(super) struct HealthView {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<Health> for HealthView {
    fn from(health: Health) -> Self {
        match health {
            Health::Loaded => Self { status: "loaded", ..Self::default() },
            Health::Loading => Self { status: "loading", ..Self::default() },
            Health::Lost { error } => Self { status: "lost", since: None, error: Some(error.to_string()) },
            Health::Stale { since_ms, error } => {
                Self { status: "stale", since: Some(clock::rfc3339(since_ms)), error: Some(error.to_string()) }
            }
        }
    }
}
