//! Changes: what can be asked, and what becomes of it.

use std::collections::HashMap;

use super::clock::{self, rfc3339};
use super::store::error::StoreError;
use crate::permissions::{Grant, MAX_SKEW_MS, State};
use crate::scope::Scope;

/// Who made a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The name that it was let in under.
    pub who: String,
    /// Where it came from: an address, a file, a topic.
    pub from: String,
}

/// A wish to change one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of which vehicle.
    pub vin: String,
    /// Which scope.
    pub scope: Scope,
    /// To what.
    pub state: State,
    /// From when; milliseconds since the epoch. `None`: from now, or, if the entry says the same already and is
    /// in force (or denies), since when it does.
    pub since_ms: Option<i64>,
    /// Until when a consent holds, exclusive; milliseconds since the epoch. `None`: until it is changed.
    pub expires_ms: Option<i64>,
    /// Who said so, for people.
    pub source: String,
    /// Anything else, for people.
    pub note: String,
    /// The version that the entry must have; 0: it must not exist. `None`: whichever.
    pub expected_version: Option<u64>,
    /// Who wishes it.
    pub actor: Actor,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The entry now.
    pub grant: Grant,
    /// Whether it was another one before. The same content again is not a change.
    pub changed: bool,
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When; milliseconds since the epoch.
    pub at_ms: i64,
    /// Of which scope.
    pub scope: Scope,
    /// The entry since then.
    pub grant: Grant,
    /// Who made it.
    pub actor: Actor,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Somebody else has changed the entry.
    #[error("expected version {expected}, but the entry has version {actual}")]
    Conflict {
        /// As demanded.
        expected: u64,
        /// As it is; 0: there is none.
        actual: u64,
    },
    /// The wish itself is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The audit lines of earlier changes wait to be written and leave no room. Nothing was changed.
    #[error("nothing was changed: the audit lines of earlier changes cannot be written, and there is no room for more")]
    AuditFull,
    /// The store can only be read.
    #[error("the permission store is read-only; change it where it comes from")]
    ReadOnly,
    /// The store has failed. The change may have been made although this is reported.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with a wish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} {reason}")]
pub struct Invalid {
    /// Which part.
    pub field: &'static str,
    /// As given, cut.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Invalid {
    pub(super) fn new(field: &'static str, value: &str, reason: impl Into<String>) -> Self {
        Self { field, value: value.chars().take(100).collect(), reason: reason.into() }
    }
}

/// What became of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Changes that were made.
    pub changed: usize,
    /// Entries that said the same already.
    pub unchanged: usize,
}

/// Why an import was not made.
#[derive(Debug, thiserror::Error)]
#[error("row {row}: {error}")]
pub struct ImportError {
    /// The first change that was refused, counted from 0; of no meaning when the store has failed.
    pub row: usize,
    /// Why.
    #[source]
    pub error: ChangeError,
}

impl ImportError {
    /// The store has failed, so that nothing of the import was made.
    pub(super) fn of_store(error: impl Into<StoreError>) -> Self {
        Self { row: 0, error: error.into().into() }
    }
}

/// A change that was decided about and is not made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) vin: String,
    pub(super) entry: Entry,
    pub(super) changed: bool,
}

impl Planned {
    pub(super) fn outcome(&self) -> Changed {
        Changed { grant: self.entry.grant.clone(), changed: self.changed }
    }
}

/// Decides about each of `changes` by the entries that `current` knows and the changes before it.
pub(super) fn plan(
    changes: &[Change],
    now_ms: i64,
    mut current: impl FnMut(&str, Scope) -> Result<Option<Grant>, StoreError>,
) -> Result<Vec<Planned>, ImportError> {
    let mut ahead: HashMap<(&str, Scope), Grant> = HashMap::new();
    let mut planned = Vec::with_capacity(changes.len());
    for (row, change) in changes.iter().enumerate() {
        let refused = |error| ImportError { row, error };
        let (vin, scope) = (change.vin.as_str(), change.scope);
        let before = match ahead.get(&(vin, scope)) {
            Some(grant) => Some(grant.clone()),
            None => current(vin, scope).map_err(|error| refused(error.into()))?,
        };
        let Changed { grant, changed } = change.decide(before.as_ref(), now_ms).map_err(refused)?;
        ahead.insert((vin, scope), grant.clone());
        let entry = Entry { at_ms: now_ms, scope, grant, actor: change.actor.clone() };
        planned.push(Planned { vin: change.vin.clone(), entry, changed });
    }
    Ok(planned)
}

/// Bounds of the texts, in bytes.
const MAX_VIN: usize = 64;
const MAX_SOURCE: usize = 256;
const MAX_NOTE: usize = 1024;

impl Change {
    fn decide(&self, before: Option<&Grant>, now_ms: i64) -> Result<Changed, ChangeError> {
        let since_ms = self.since_ms.unwrap_or_else(|| self.since_by_default(before, now_ms));
        self.check(since_ms, now_ms)?;
        let actual = before.map_or(0, |grant| grant.version);
        let grant = Grant {
            state: self.state,
            since_ms,
            expires_ms: self.expires_ms,
            source: self.source.clone(),
            note: self.note.clone(),
            version: actual.saturating_add(1),
        };
        let same = before.filter(|before| before.says_the_same(&grant));
        match self.expected_version {
            // Made already, and the answer got lost: a repetition is as good as the first attempt.
            Some(expected) if same.is_some() && actual == expected.saturating_add(1) => {}
            Some(expected) if expected != actual => return Err(ChangeError::Conflict { expected, actual }),
            _ => {}
        }
        Ok(match same {
            Some(same) => Changed { grant: same.clone(), changed: false },
            None => Changed { grant, changed: true },
        })
    }

    /// Renewing a consent that is in force does not make it younger: records created under it stay covered.
    fn since_by_default(&self, before: Option<&Grant>, now_ms: i64) -> i64 {
        let goes_on = |before: &&Grant| match self.state {
            State::Granted => before.is_in_force(now_ms),
            State::Denied => before.state == State::Denied,
        };
        before.filter(goes_on).map_or(now_ms, |before| before.since_ms)
    }

    /// Bounds of the texts and times.
    pub(super) fn check(&self, since_ms: i64, now_ms: i64) -> Result<(), Invalid> {
        check_vin(&self.vin)?;
        check_text("source", &self.source, MAX_SOURCE)?;
        check_text("note", &self.note, MAX_NOTE)?;
        check_times(since_ms, self.expires_ms)?;
        // Clocks differ a little.
        if self.state == State::Denied && since_ms > now_ms.saturating_add(MAX_SKEW_MS) {
            return Err(Invalid::new("since", &rfc3339(since_ms), "is in the future; a refusal holds at once"));
        }
        Ok(())
    }
}

/// What a VIN, which is the device id of a client certificate, must look like. A slash would not fit into a path of
/// the API.
pub(super) fn check_vin(vin: &str) -> Result<(), Invalid> {
    let valid = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    if (1..=MAX_VIN).contains(&vin.len()) && vin.bytes().all(valid) {
        return Ok(());
    }
    Err(Invalid::new("vin", vin, format!("must be 1 to {MAX_VIN} visible ASCII characters without '/'")))
}

fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.len() > max {
        return Err(Invalid::new(field, text, format!("is {} bytes long, at most {max} are allowed", text.len())));
    }
    if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(Invalid::new(field, text, "has control characters"));
    }
    Ok(())
}

fn check_times(since_ms: i64, expires_ms: Option<i64>) -> Result<(), Invalid> {
    for (field, ms) in [("since", Some(since_ms)), ("expires", expires_ms)] {
        if let Some(ms) = ms.filter(|ms| !(0..clock::END_MS).contains(ms)) {
            return Err(Invalid::new(field, &rfc3339(ms), "must be between the years 1970 and 9999"));
        }
    }
    match expires_ms.filter(|expires| *expires <= since_ms) {
        Some(expires) => Err(Invalid::new(
            "expires",
            &rfc3339(expires),
            format!("must be later than since, which is {}", rfc3339(since_ms)),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600_000;

    fn change(state: State) -> Change {
        Change {
            vin: "VIN1".to_owned(),
            scope: Scope::VehicleLocation,
            state,
            since_ms: None,
            expires_ms: None,
            source: "owner consent".to_owned(),
            note: String::new(),
            expected_version: None,
            actor: Actor::default(),
        }
    }

    fn decide(change: &Change, before: Option<&Grant>, now_ms: i64) -> Changed {
        change.decide(before, now_ms).unwrap()
    }

    #[test]
    fn the_same_again_changes_nothing_and_keeps_since_and_version() {
        let first = decide(&change(State::Granted), None, NOW);
        assert_eq!((first.changed, first.grant.version, first.grant.since_ms), (true, 1, NOW));
        let again = decide(&change(State::Granted), Some(&first.grant), NOW + 5);
        assert_eq!(again, Changed { grant: first.grant, changed: false });
    }

    #[test]
    fn a_new_consent_begins_now_and_a_longer_one_when_it_began() {
        let first = decide(&Change { expires_ms: Some(NOW + 10), ..change(State::Granted) }, None, NOW).grant;
        let longer = decide(&Change { expires_ms: Some(NOW + 99), ..change(State::Granted) }, Some(&first), NOW + 5);
        assert_eq!((longer.changed, longer.grant.since_ms, longer.grant.version), (true, NOW, 2));
        let after_expiry = decide(&change(State::Granted), Some(&first), NOW + 10);
        assert_eq!(after_expiry.grant.since_ms, NOW + 10);
        let denied = decide(&change(State::Denied), Some(&first), NOW + 5).grant;
        assert_eq!(decide(&change(State::Granted), Some(&denied), NOW + 7).grant.since_ms, NOW + 7);
    }

    #[test]
    fn a_version_that_is_not_the_expected_one_is_a_conflict_unless_it_is_the_result() {
        let first = decide(&Change { expected_version: Some(0), ..change(State::Granted) }, None, NOW).grant;
        let repeated = Change { expected_version: Some(0), ..change(State::Granted) };
        assert!(!decide(&repeated, Some(&first), NOW + 1).changed);
        let other = Change { expected_version: Some(0), ..change(State::Denied) };
        let error = other.decide(Some(&first), NOW + 1).unwrap_err();
        assert!(matches!(error, ChangeError::Conflict { expected: 0, actual: 1 }), "{error}");
        let error = Change { expected_version: Some(3), ..change(State::Denied) }.decide(None, NOW).unwrap_err();
        assert!(matches!(error, ChangeError::Conflict { expected: 3, actual: 0 }), "{error}");
    }

    #[test]
    fn wrong_wishes_are_refused_with_field_and_value() {
        let refused = |change: Change| change.decide(None, NOW).unwrap_err().to_string();
        let base = || change(State::Granted);
        assert_eq!(
            refused(Change { vin: "a b".to_owned(), ..base() }),
            "vin: \"a b\" must be 1 to 64 visible ASCII characters without '/'"
        );
        assert!(
            refused(Change { expires_ms: Some(NOW), ..base() })
                .starts_with("expires: \"2026-01-01T00:00:00Z\" must be later")
        );
        assert!(refused(Change { since_ms: Some(-1), ..base() }).starts_with("since: "));
        assert!(
            refused(Change { note: "x".repeat(2000), ..base() })
                .ends_with("is 2000 bytes long, at most 1024 are allowed")
        );
        let future = Change { since_ms: Some(NOW + MAX_SKEW_MS + 1), ..change(State::Denied) };
        assert!(refused(future).contains("in the future"));
    }

    #[test]
    fn later_rows_of_a_plan_build_on_earlier_ones() {
        let changes = [change(State::Granted), change(State::Denied), change(State::Denied)];
        let planned = plan(&changes, NOW, |_, _| Ok(None)).unwrap();
        let versions: Vec<_> = planned.iter().map(|plan| (plan.entry.grant.version, plan.changed)).collect();
        assert_eq!(versions, [(1, true), (2, true), (2, false)]);
        let bad = [change(State::Granted), Change { vin: String::new(), ..change(State::Granted) }];
        assert_eq!(plan(&bad, NOW, |_, _| Ok(None)).unwrap_err().row, 1);
    }
}
