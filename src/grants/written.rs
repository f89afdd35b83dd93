//! A grant as it is written wherever others read it: answers of the API, records of the audit, values of the Kafka
//! topic. Times are RFC 3339. The documents that are imported and exported ([`super::document`]) have rows instead,
//! in which a person may leave things out.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::clock::{parse_rfc3339, rfc3339};
use crate::permissions::{Grant, State};

/// Flattened into what it is a part of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WrittenGrant {
    /// That of the grant; in the audit also what it has become.
    pub(super) state: Cow<'static, str>,
    pub(super) since: String,
    pub(super) expires: Option<String>,
    pub(super) source: String,
    pub(super) note: String,
    pub(super) version: u64,
}

impl From<&Grant> for WrittenGrant {
    fn from(grant: &Grant) -> Self {
        Self {
            state: grant.state.label().into(),
            since: rfc3339(grant.since_ms),
            expires: grant.expires_ms.map(rfc3339),
            source: grant.source.clone(),
            note: grant.note.clone(),
            version: grant.version,
        }
    }
}

impl WrittenGrant {
    /// # Errors
    /// What of it cannot be read, in words.
    pub(super) fn read(self) -> Result<Grant, String> {
        let Self { state, since, expires, source, note, version } = self;
        Ok(Grant {
            state: State::parse(&state).ok_or_else(|| format!("unknown state {state:?}"))?,
            since_ms: time(&since)?,
            expires_ms: expires.as_deref().map(time).transpose()?,
            source,
            note,
            version,
        })
    }
}

/// Milliseconds since the epoch.
pub(super) fn time(text: &str) -> Result<i64, String> {
    parse_rfc3339(text).ok_or_else(|| format!("{text:?} is not an RFC 3339 time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            state: State::Denied,
            since_ms: 1_767_225_600_000,
            expires_ms: None,
            source: "owner".to_owned(),
            note: "\n".to_owned(),
            version: 7,
        }
    }

    #[test]
    fn what_is_written_reads_as_it_was() {
        for expires_ms in [None, Some(1_767_225_600_001)] {
            let grant = Grant { expires_ms, ..grant() };
            assert_eq!(WrittenGrant::from(&grant).read(), Ok(grant));
        }
    }

    #[test]
    fn a_state_or_time_that_is_none_is_named() {
        let written = WrittenGrant::from(&grant());
        let unknown = WrittenGrant { state: "removed".into(), ..written.clone() };
        assert_eq!(unknown.read().unwrap_err(), "unknown state \"removed\"");
        let no_time = WrittenGrant { since: "yesterday".to_owned(), ..written };
        assert_eq!(no_time.read().unwrap_err(), "\"yesterday\" is not an RFC 3339 time");
    }
}
