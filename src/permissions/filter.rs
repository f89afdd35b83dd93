//! Decides about one datum.
//!
//! A datum is location by its field number, and by its value: a `LocationValue` or a text with coordinates
//! in it is location under any number. `coordinates` finds those in texts, `patterns` what else is configured,
//! `withheld` counts.

pub(crate) mod coordinates;
mod patterns;
mod withheld;

use crate::config::rules::{Action, Mode, Rules};
use crate::protobuf::wire::{self, Fields};
use crate::scope::{self, Scope, Scopes};
use crate::work;
pub use withheld::{Outcome, Subject, Tally, Withheld};

/// The decisions for one record. `Copy`, made per record, allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// `None`: nothing is withheld.
    rules: Option<&'a Rules>,
    /// `None`: what is withheld is not counted.
    withheld: Option<&'a Withheld>,
    denied: Scopes,
}

/// What becomes of a datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It passes.
    Keep,
    /// It passes, and is counted as what would be withheld.
    Audit,
    /// It is withheld so.
    Withhold(Action),
}

/// What stands in the place of coordinates in a text.
pub(crate) const MASK: &str = "[withheld]";

const LOCATION: Scopes = Scopes::NONE.with(Scope::VehicleLocation);

/// The first byte of an encoded `Value` that is a string, and of one that is a location.
const STRING_TAG: u8 = (1 << 3) | LENGTH_DELIMITED;
const LOCATION_TAG: u8 = (7 << 3) | LENGTH_DELIMITED;
const LENGTH_DELIMITED: u8 = 2;
/// The first byte of a `Payload` in the outgoing form that has data.
const DATA_TAG: u8 = (1 << 3) | LENGTH_DELIMITED;

impl<'a> Filter<'a> {
    /// Passes everything.
    #[must_use]
    pub fn off() -> Self {
        Self { rules: None, withheld: None, denied: Scopes::NONE }
    }

    /// Withholds what belongs to those `denied` scopes that the rules enforce, and counts nothing.
    #[must_use]
    pub fn new(rules: &'a Rules, denied: Scopes) -> Self {
        let denied = denied.and(rules.enforced);
        let is_off = denied.is_empty() || rules.mode == Mode::Off;
        Self { rules: (!is_off).then_some(rules), withheld: None, denied }
    }

    /// The same, counting.
    #[must_use]
    pub(super) fn counted_by(self, withheld: &'a Withheld) -> Self {
        Self { withheld: Some(withheld), ..self }
    }

    /// Whether anything can be withheld at all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.rules.is_none()
    }

    /// Whether the record may not carry `scope`.
    #[must_use]
    pub fn denies(&self, scope: Scope) -> bool {
        self.rules.is_some() && self.denied.contains(scope)
    }

    /// Whether a datum passes, told from its field number and the first byte of its value; `false` says nothing.
    #[inline]
    #[must_use]
    pub(crate) fn passes(&self, key: i32, value: &[u8]) -> bool {
        let Some(rules) = self.rules else { return true };
        let is_named = scope::of(key, rules.strict).is_some_and(|scopes| scopes.and(self.denied).is_empty());
        is_named && !matches!(value.first(), Some(&(STRING_TAG | LOCATION_TAG)))
    }

    /// Decides about a datum by its field number and its encoded `Value`, which is in the outgoing form: one
    /// member of the oneof at most, and that one first. What unknown fields it has is [`Filter::unknown`]'s.
    #[inline]
    #[must_use]
    pub fn datum(&self, key: i32, value: &[u8]) -> Decision {
        let Some(rules) = self.rules else { return Decision::Keep };
        let unknown_number = if rules.strict { LOCATION } else { Scopes::NONE };
        let by_number = scope::of(key, rules.strict).unwrap_or(unknown_number).and(self.denied);
        if !by_number.is_empty() {
            return decision(rules, by_number);
        }
        match value.first() {
            Some(&(STRING_TAG | LOCATION_TAG))
                if self.denied.contains(Scope::VehicleLocation) && is_location(value) =>
            {
                decision(rules, LOCATION)
            }
            _ => Decision::Keep,
        }
    }

    /// Decides about a field that the schema does not know, in any message of the record: strict rules do not
    /// let pass what nobody can look into.
    #[must_use]
    pub fn unknown(&self) -> Decision {
        match self.rules {
            Some(rules) if rules.strict && self.denied.contains(Scope::VehicleLocation) => decision(rules, LOCATION),
            _ => Decision::Keep,
        }
    }

    /// Decides about coordinates within a text of an `alerts`, `errors` or `connectivity` record.
    #[must_use]
    pub fn text(&self) -> Decision {
        match self.rules {
            Some(rules) if self.denied.contains(Scope::VehicleLocation) => decision(rules, LOCATION),
            _ => Decision::Keep,
        }
    }

    /// The text with `MASK` in place of coordinates and of what the configured patterns match; `None` when there
    /// is nothing of the kind in it.
    #[must_use]
    pub fn masked(&self, text: &str) -> Option<String> {
        let mut masked = String::with_capacity(text.len());
        let mut found = coordinates::mask(text, MASK, &mut masked);
        for pattern in self.rules.map_or(&[][..], |rules| &rules.patterns) {
            if let Some(replaced) = patterns::masked(pattern, &masked, MASK) {
                masked = replaced;
                found = true;
            }
        }
        found.then_some(masked)
    }

    /// A text that is no part of a record, without the coordinates in it.
    pub(super) fn label(&self, text: String) -> String {
        let (decision, outcome) = match self.text() {
            Decision::Keep => return text,
            Decision::Audit => (Decision::Audit, Outcome::Audit),
            withhold @ Decision::Withhold(_) => (withhold, Outcome::Mask),
        };
        let Some(masked) = self.masked(&text) else { return text };
        let mut tally = Tally::default();
        self.note(&mut tally, Subject::Text, outcome);
        self.count(&tally);
        if decision == Decision::Audit { text } else { masked }
    }

    /// Whether a record of a topic that this server cannot read may pass. Strict rules withhold it from a
    /// vehicle whose location is denied, as they do unknown fields; it is counted here, also when it passes
    /// because the mode is audit.
    #[must_use]
    pub fn allows_opaque(&self) -> bool {
        let (decision, outcome) = match self.unknown() {
            Decision::Keep => return true,
            Decision::Audit => (Decision::Audit, Outcome::Audit),
            withhold @ Decision::Withhold(_) => (withhold, Outcome::Drop),
        };
        let mut tally = Tally::default();
        self.note(&mut tally, Subject::Opaque, outcome);
        self.count(&tally);
        decision == Decision::Audit
    }

    /// Whether an outgoing `V` payload is to go nowhere, because all of its data were withheld.
    #[must_use]
    pub fn skips(&self, payload: &[u8]) -> bool {
        // In the outgoing form data come first.
        self.rules.is_some_and(|rules| rules.skip_empty) && payload.first() != Some(&DATA_TAG)
    }

    /// Notes something in the tally of the record.
    pub fn note(&self, tally: &mut Tally, subject: Subject, outcome: Outcome) {
        if let Some(withheld) = self.withheld {
            withheld.note(tally, subject, outcome);
        }
    }

    /// Counts what the record lost.
    pub fn count(&self, tally: &Tally) {
        if let Some(withheld) = self.withheld {
            withheld.count(tally);
        }
    }
}

/// What becomes of a datum that belongs to the `denied` scopes.
fn decision(rules: &Rules, denied: Scopes) -> Decision {
    match (rules.mode, rules.action) {
        (Mode::Off, _) => Decision::Keep,
        (Mode::Audit, _) => Decision::Audit,
        // Only coordinates can be rounded.
        (Mode::Enforce, Action::Coarsen(_)) if denied != LOCATION => Decision::Withhold(Action::Drop),
        (Mode::Enforce, action) => Decision::Withhold(action),
    }
}

/// Whether the value is a location or a text with one in it.
fn is_location(value: &[u8]) -> bool {
    if value.first() == Some(&LOCATION_TAG) {
        return true;
    }
    match Fields::new(value).next() {
        Ok(Some(wire::Field { value: wire::Value::Bytes(text), .. })) => {
            work::took(text.len());
            std::str::from_utf8(text).is_ok_and(coordinates::are_in)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use strum::VariantArray;

    use super::*;
    use crate::proto::vehicle_data::value::Value as Typed;
    use crate::proto::vehicle_data::{Field, LocationValue, Value};

    fn rules(mode: Mode, action: Action, strict: bool) -> Rules {
        Rules { mode, action, strict, enforced: Scopes::ALL, ..Rules::off() }
    }

    fn encoded(value: Typed) -> Vec<u8> {
        Value { value: Some(value) }.encode_to_vec()
    }

    #[test]
    fn location_is_withheld_by_number_and_by_value() {
        let rules = rules(Mode::Enforce, Action::Drop, false);
        let filter = Filter::new(&rules, LOCATION);
        let number = encoded(Typed::DoubleValue(5.0));
        let place = encoded(Typed::LocationValue(LocationValue { latitude: 1.0, longitude: 2.0 }));
        let text = |text: &str| encoded(Typed::StringValue(text.into()));
        for (key, value) in [
            (Field::GpsHeading, &number),
            (Field::RouteLine, &text("opaque")),
            (Field::LocatedAtHome, &place),
            (Field::VehicleName, &text("37.412374, -122.145867")),
        ] {
            assert_eq!(filter.datum(key.into(), value), Decision::Withhold(Action::Drop), "{key:?}");
        }
        assert_eq!(filter.datum(9_999, &place), Decision::Withhold(Action::Drop));
        for (key, value) in [
            (Field::LocatedAtHome, &encoded(Typed::BooleanValue(true))),
            (Field::MilesToArrival, &number),
            (Field::Version, &text("2025.44.25.5")),
            (Field::MediaNowPlayingTitle, &text("Song")),
        ] {
            assert_eq!(filter.datum(key.into(), value), Decision::Keep, "{key:?}");
        }
        assert_eq!(filter.datum(9_999, &number), Decision::Keep);
        assert_eq!(filter.unknown(), Decision::Keep);
        assert!(filter.allows_opaque());
    }

    #[test]
    fn what_passes_at_first_sight_is_kept() {
        let place = LocationValue { latitude: 1.0, longitude: 2.0 };
        let values = [
            Vec::new(),
            encoded(Typed::DoubleValue(5.0)),
            encoded(Typed::LocationValue(place)),
            encoded(Typed::StringValue("37.412374, -122.145867".into())),
        ];
        let mut passed = 0;
        for (mode, strict) in [(Mode::Enforce, true), (Mode::Enforce, false), (Mode::Audit, true)] {
            let rules = rules(mode, Action::Drop, strict);
            for denied in Scope::VARIANTS.iter().map(|scope| Scopes::NONE.with(*scope)).chain([Scopes::ALL]) {
                let filter = Filter::new(&rules, denied);
                for (key, value) in (-1..400).flat_map(|key| values.iter().map(move |value| (key, value))) {
                    if filter.passes(key, value) {
                        passed += 1;
                        assert_eq!(filter.datum(key, value), Decision::Keep, "{mode:?} {strict} {denied:?} {key}");
                    }
                }
            }
        }
        assert!(passed > 1_000, "the quick look lets most numbers through: {passed}");
    }

    #[test]
    fn strict_rules_withhold_what_is_not_known() {
        let rules = rules(Mode::Enforce, Action::Invalid, true);
        let filter = Filter::new(&rules, LOCATION);
        let number = encoded(Typed::DoubleValue(5.0));
        for key in [Field::MilesToArrival.into(), 0, -1, 9_999] {
            assert_eq!(filter.datum(key, &number), Decision::Withhold(Action::Invalid), "{key}");
        }
        assert_eq!(filter.unknown(), Decision::Withhold(Action::Invalid));
        assert!(!filter.allows_opaque());
    }

    #[test]
    fn only_denied_and_enforced_scopes_are_withheld() {
        let mut rules = rules(Mode::Enforce, Action::Coarsen(2), true);
        let number = encoded(Typed::DoubleValue(5.0));
        let media = Scopes::NONE.with(Scope::Media);
        let filter = Filter::new(&rules, media);
        assert_eq!(filter.datum(Field::GpsHeading.into(), &number), Decision::Keep);
        assert_eq!(filter.datum(9_999, &number), Decision::Keep);
        assert_eq!(filter.datum(Field::MediaAudioVolume.into(), &number), Decision::Withhold(Action::Drop));
        rules.enforced = LOCATION;
        assert!(Filter::new(&rules, media).is_off());
        rules.mode = Mode::Off;
        assert!(Filter::new(&rules, Scopes::ALL).is_off());
    }

    #[test]
    fn audit_withholds_nothing() {
        let rules = rules(Mode::Audit, Action::Drop, true);
        let filter = Filter::new(&rules, Scopes::ALL);
        assert_eq!(filter.datum(Field::Location.into(), b""), Decision::Audit);
        assert_eq!(filter.unknown(), Decision::Audit);
        assert_eq!(filter.text(), Decision::Audit);
        assert!(filter.allows_opaque());
    }
}
