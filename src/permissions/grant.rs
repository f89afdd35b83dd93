//! What an owner has said about one scope of one vehicle.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// Granted or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// The owner has consented.
    Granted,
    /// The owner has refused, or taken it back.
    Denied,
}

impl State {
    /// As files, the API and the metrics spell it.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// By its exact name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// One entry of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Granted or denied.
    pub state: State,
    /// From when it holds; milliseconds since the epoch. Records created earlier are not covered by it.
    pub since_ms: i64,
    /// Until when a consent holds; milliseconds since the epoch, exclusive. `None`: until it is changed.
    pub expires_ms: Option<i64>,
    /// Who said so, for people: "owner consent", "import 2026-01".
    pub source: String,
    /// Anything else, for people.
    pub note: String,
    /// Counts the changes of this entry, from 1; a write can demand the version that it has seen.
    pub version: u64,
}

/// A vehicle's clock may run ahead by so much before its `created_at` is not trusted: vehicles that have
/// just woken up are known to be minutes ahead.
pub const MAX_SKEW_MS: i64 = 10 * 60 * 1000;

impl Grant {
    /// Whether a record created at `created_ms` and accepted at `now_ms` is covered.
    ///
    /// A record that was created before the consent is not, and neither is one that does not say when it
    /// was created, or claims a time that cannot be: vehicles replay what they have buffered, and a
    /// replay must not bring out what was withheld when it happened.
    #[must_use]
    pub fn covers(&self, created_ms: Option<i64>, now_ms: i64) -> bool {
        let created_under_it =
            created_ms.is_some_and(|created| created >= self.since_ms && created <= now_ms.saturating_add(MAX_SKEW_MS));
        self.is_in_force(now_ms) && created_under_it
    }

    /// Whether it is a consent that has begun and not ended.
    #[must_use]
    pub fn is_in_force(&self, now_ms: i64) -> bool {
        self.state == State::Granted
            && self.since_ms <= now_ms
            && self.expires_ms.is_none_or(|expires| now_ms < expires)
    }

    /// Whether both say the same; the version does not matter.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { state, since_ms, expires_ms, source, note, version: _ } = self;
        (state, since_ms, expires_ms, source, note)
            == (&other.state, &other.since_ms, &other.expires_ms, &other.source, &other.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(state: State) -> Grant {
        let text = String::new;
        Grant { state, since_ms: 1_000_000, expires_ms: Some(9_000_000), source: text(), note: text(), version: 1 }
    }

    #[test]
    fn only_what_was_created_and_accepted_under_a_consent_is_covered() {
        let granted = grant(State::Granted);
        assert!(granted.covers(Some(1_000_000), 1_000_000));
        assert!(granted.covers(Some(8_999_999), 8_999_999));
        assert!(!granted.covers(Some(5_000_000), 9_000_000), "expired");
        assert!(!granted.covers(Some(999_999), 2_000_000), "created before the consent");
        assert!(!granted.covers(None, 2_000_000), "no creation time");
        assert!(granted.covers(Some(2_000_000 + MAX_SKEW_MS), 2_000_000));
        assert!(!granted.covers(Some(2_000_001 + MAX_SKEW_MS), 2_000_000), "created in the future");
        assert!(!grant(State::Denied).covers(Some(2_000_000), 2_000_000));
    }
}
