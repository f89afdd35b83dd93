//! What owners are asked to allow, and why: derived from the fields that are wanted, and nothing more.

use crate::proto::vehicle_data::Field;
use crate::scope::{self, Scope, Scopes};

/// One of the maker's scopes, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// As the maker names it.
    pub scope: &'static str,
    /// In a few words, for the owner.
    pub why: &'static str,
    /// The groups of data that come with it.
    pub groups: Vec<&'static str>,
}

/// What `fields` need. Without a field, what pairing needs.
#[must_use]
pub fn asked<'f>(fields: impl Iterator<Item = &'f str>) -> Vec<Asked> {
    let mut groups = Scopes::NONE;
    let (mut has_other, mut has_location) = (false, false);
    for name in fields {
        has_location |= super::telemetry::needs_location(name);
        let field = Field::from_str_name(name);
        let of = field.and_then(|field| scope::of(field as i32, false)).unwrap_or_default();
        for scope in Scope::all().filter(|scope| of.contains(*scope)) {
            groups = groups.with(scope);
        }
        has_other |= of.is_empty();
    }
    let mut named: Vec<_> = Scope::all().filter(|scope| groups.contains(*scope)).filter_map(group).collect();
    if has_other || named.is_empty() {
        named.push("the state of the car");
    }
    let mut asked = vec![Asked { scope: "vehicle_device_data", why: "the data that the car sends", groups: named }];
    if has_location {
        let groups = vec!["where the car is, was, or is going"];
        asked.push(Asked { scope: "vehicle_location", why: "the place of the car", groups });
    }
    asked
}

/// The scopes of a link: those that are asked for, and what signing in takes.
#[must_use]
pub fn scopes(asked: &[Asked]) -> Vec<&'static str> {
    ["openid", "offline_access"].into_iter().chain(asked.iter().map(|asked| asked.scope)).collect()
}

/// Those that an owner has not given.
#[must_use]
pub fn missing(asked: &[Asked], given: &[String]) -> Vec<&'static str> {
    asked.iter().map(|asked| asked.scope).filter(|scope| !given.iter().any(|given| given == scope)).collect()
}

/// Of what is in `vehicle_device_data`; location is a scope of its own.
fn group(scope: Scope) -> Option<&'static str> {
    match scope {
        Scope::VehicleLocation => None,
        Scope::Charging => Some("charging and energy"),
        Scope::Climate => Some("climate"),
        Scope::Media => Some("what is played"),
        Scope::Security => Some("doors, locks and alarm"),
        Scope::Driving => Some("how it is driven"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_is_asked_for_only_when_a_field_needs_it() {
        let without = asked(["Soc", "Locked", "VehicleName"].into_iter());
        assert_eq!(scopes(&without), ["openid", "offline_access", "vehicle_device_data"]);
        assert_eq!(without[0].groups, ["charging and energy", "doors, locks and alarm", "the state of the car"]);
        let with = asked(["Soc", "Location"].into_iter());
        assert_eq!(scopes(&with).last(), Some(&"vehicle_location"));
        assert_eq!(scopes(&asked(["LocatedAtHome"].into_iter())).len(), 3, "being at home needs no scope");
    }

    #[test]
    fn what_is_missing_is_what_was_asked_for_and_not_given() {
        let asked = asked(["Location"].into_iter());
        let given = |scopes: &[&str]| scopes.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>();
        assert_eq!(missing(&asked, &given(&["openid", "vehicle_device_data"])), ["vehicle_location"]);
        assert!(missing(&asked, &given(&["vehicle_location", "vehicle_device_data", "vehicle_cmds"])).is_empty());
    }
}
