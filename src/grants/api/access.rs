//! May an application read it? The same decision as the filter's, for a record created and accepted now.

use std::collections::BTreeMap;

use serde::Serialize;
use strum::VariantArray;

use crate::grants::clock;
use crate::permissions::{Grant, Mode, Rules, State};
use crate::scope::Scope;

/// What holds for one vehicle.
#[derive(Debug, Serialize)]
pub(super) struct Access {
    vin: String,
    mode: &'static str,
    location_readable: bool,
    scopes: BTreeMap<&'static str, Answer>,
}

/// What holds for one scope.
#[derive(Debug, Serialize)]
struct Answer {
    allowed: bool,
    reason: Reason,
    since: Option<String>,
    until: Option<String>,
    /// Whether the server withholds what is not allowed.
    enforced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reason {
    Granted,
    /// The owner has said nothing, and the operator's default is to allow.
    AllowedByDefault,
    /// A consent that begins later.
    NotYetInForce,
    ConsentExpired,
    PermissionDenied,
    VehicleUnknown,
}

impl Reason {
    fn of(rules: &Rules, is_known: bool, grant: Option<&Grant>, now_ms: i64) -> Self {
        match grant {
            None if !rules.deny_unknown => Self::AllowedByDefault,
            None if is_known => Self::PermissionDenied,
            None => Self::VehicleUnknown,
            Some(grant) if grant.covers(Some(now_ms), now_ms) => Self::Granted,
            Some(Grant { state: State::Denied, .. }) => Self::PermissionDenied,
            Some(grant) if grant.since_ms > now_ms => Self::NotYetInForce,
            Some(_) => Self::ConsentExpired,
        }
    }

    fn allows(self) -> bool {
        matches!(self, Self::Granted | Self::AllowedByDefault)
    }

    /// What to do about it.
    fn hint(self) -> Option<&'static str> {
        match self {
            Self::Granted | Self::AllowedByDefault => None,
            Self::NotYetInForce => Some("wait until since"),
            Self::ConsentExpired => Some("ask the owner to consent again, then grant the scope anew"),
            Self::PermissionDenied => Some("ask the owner to consent, then grant the scope"),
            Self::VehicleUnknown => {
                Some("check the VIN; if it is right, ask the owner to consent, then grant the scope")
            }
        }
    }
}

impl Access {
    /// `entries`: all that is known of the vehicle; `None`: nothing.
    pub(super) fn check(vin: String, rules: &Rules, entries: Option<&[(Scope, Grant)]>, now_ms: i64) -> Self {
        let answer = |scope: Scope| {
            let grant = entries.into_iter().flatten().find(|(of, _)| *of == scope).map(|(_, grant)| grant);
            let reason = Reason::of(rules, entries.is_some(), grant, now_ms);
            Answer {
                allowed: reason.allows(),
                reason,
                since: grant.map(|grant| clock::rfc3339(grant.since_ms)),
                until: grant.and_then(|grant| grant.expires_ms).map(clock::rfc3339),
                enforced: rules.mode == Mode::Enforce && rules.enforced.contains(scope),
                hint: reason.hint(),
            }
        };
        let scopes: BTreeMap<_, _> = Scope::VARIANTS.iter().map(|scope| (scope.label(), answer(*scope))).collect();
        Self { vin, mode: mode(rules.mode), location_readable: scopes[Scope::VehicleLocation.label()].allowed, scopes }
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Audit => "audit",
        Mode::Enforce => "enforce",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::{Grants, Permissions, Seen};
    use crate::scope::Scopes;

    const NOW: i64 = 1_767_225_600_000;

    fn rules(deny_unknown: bool) -> Rules {
        Rules { mode: Mode::Enforce, strict: true, deny_unknown, enforced: Scopes::ALL, ..Rules::off() }
    }

    fn grant(state: State, since_ms: i64, expires_ms: Option<i64>) -> Grant {
        Grant { state, since_ms, expires_ms, source: String::new(), note: String::new(), version: 1 }
    }

    #[test]
    fn each_reason_has_its_case() {
        let reason = |grant| Reason::of(&rules(true), true, Some(&grant), NOW);
        assert_eq!(reason(grant(State::Granted, NOW, None)), Reason::Granted);
        assert_eq!(reason(grant(State::Granted, NOW + 1, None)), Reason::NotYetInForce);
        assert_eq!(reason(grant(State::Granted, NOW - 9, Some(NOW))), Reason::ConsentExpired);
        assert_eq!(reason(grant(State::Denied, NOW - 9, None)), Reason::PermissionDenied);
        assert_eq!(Reason::of(&rules(true), true, None, NOW), Reason::PermissionDenied);
        assert_eq!(Reason::of(&rules(true), false, None, NOW), Reason::VehicleUnknown);
        assert_eq!(Reason::of(&rules(false), false, None, NOW), Reason::AllowedByDefault);
    }

    #[test]
    fn says_what_the_filter_does() {
        let times = [NOW - 5, NOW, NOW + 5];
        for deny_unknown in [false, true] {
            let mut cases = vec![None];
            for state in [State::Granted, State::Denied] {
                for since in times {
                    cases.extend(times.map(|expires| Some(grant(state, since, Some(expires)))));
                    cases.push(Some(grant(state, since, None)));
                }
            }
            for case in cases {
                let permissions = Permissions::new(rules(deny_unknown));
                let mut grants = Grants::default();
                let mut entries = Vec::new();
                if let Some(grant) = &case {
                    grants.set("VIN", Scope::VehicleLocation, grant.clone());
                    entries.push((Scope::VehicleLocation, grant.clone()));
                }
                permissions.replace(Some(grants));
                let filter = permissions.filter(&mut Seen::default(), "VIN", || Some(NOW), NOW.cast_unsigned());
                let access = Access::check("VIN".to_owned(), &rules(deny_unknown), Some(&entries), NOW);
                assert_eq!(access.location_readable, !filter.denies(Scope::VehicleLocation), "{case:?}");
            }
        }
    }
}
