//! What was withheld, counted by field and action.

use metrics::{Counter, counter};

use crate::config::rules::{Action, Mode};
use crate::proto::vehicle_data::Field;
use crate::scope::{self, FIELD_COUNT, Scopes};

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A datum, by its field number.
    Datum(i32),
    /// A field of a message that the schema does not know.
    UnknownField,
    /// A text of an `alerts`, `errors` or `connectivity` record.
    Text,
    /// A record of a topic whose payload this server cannot read.
    Opaque,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed; only counted.
    Audit,
    /// It is gone.
    Drop,
    /// Its key is left.
    Invalid,
    /// Its coordinates are rounded.
    Coarsen,
    /// `[withheld]` stands in its place.
    Mask,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Audit, Self::Drop, Self::Invalid, Self::Coarsen, Self::Mask];

    /// What has no coordinates to round, and what nobody knows how to mark invalid, is dropped.
    fn possible(mode: Mode, action: Action) -> &'static [Self] {
        match (mode, action) {
            (Mode::Off, _) => &[],
            (Mode::Audit, _) => &[Self::Audit],
            (Mode::Enforce, Action::Drop) => &[Self::Drop, Self::Mask],
            (Mode::Enforce, Action::Invalid) => &[Self::Drop, Self::Invalid, Self::Mask],
            (Mode::Enforce, Action::Coarsen(_)) => &[Self::Drop, Self::Coarsen, Self::Mask],
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Drop => "drop",
            Self::Invalid => "invalid",
            Self::Coarsen => "coarsen",
            Self::Mask => "mask",
        }
    }
}

/// Pre-labelled handles of `permission_withheld_total{field,action}`. `field` is the name of a field that
/// belongs to an enforced scope, `other` for a field that does not and had a location in it, `unknown` for one
/// that the schema does not know, `text` for a part of a text, or `opaque`.
pub struct Withheld {
    /// By field number, where its counters are.
    rows: Box<[u16; FIELD_COUNT]>,
    counters: Box<[[Counter; Outcome::ALL.len()]]>,
}

impl std::fmt::Debug for Withheld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Withheld").finish_non_exhaustive()
    }
}

const FAMILY: &str = "permission_withheld_total";

const UNKNOWN: u16 = 0;
const OTHER: u16 = 1;
const TEXT: u16 = 2;
const OPAQUE: u16 = 3;
const FIXED: [&str; 4] = ["unknown", "other", "text", "opaque"];

impl Withheld {
    /// Registers the counters that these rules can use with the current recorder.
    #[must_use]
    pub fn register(mode: Mode, action: Action, enforced: Scopes) -> Self {
        let outcomes = Outcome::possible(mode, action);
        let counters_of = |field: &'static str| {
            Outcome::ALL.map(|outcome| match outcomes.contains(&outcome) {
                true => counter!(FAMILY, "field" => field, "action" => outcome.label()),
                false => Counter::noop(),
            })
        };
        let mut counters: Vec<_> = FIXED.into_iter().map(counters_of).collect();
        let mut rows = Box::new([OTHER; FIELD_COUNT]);
        rows[0] = UNKNOWN;
        for (row, key) in rows.iter_mut().zip(0_i32..).skip(1) {
            let is_enforced = scope::of(key, true).is_some_and(|scopes| !scopes.and(enforced).is_empty());
            if let (true, Ok(field)) = (is_enforced, Field::try_from(key)) {
                *row = u16::try_from(counters.len()).expect("fewer than 65,536 fields");
                counters.push(counters_of(field.as_str_name()));
            }
        }
        Self { rows, counters: counters.into() }
    }

    pub(super) fn count(&self, tally: &Tally) {
        for lost in tally.first[..tally.len].iter().chain(&tally.more) {
            self.counters[usize::from(lost.row)][lost.outcome as usize].increment(1);
        }
    }

    pub(super) fn note(&self, tally: &mut Tally, subject: Subject, outcome: Outcome) {
        tally.add(Lost { row: self.row(subject), outcome });
    }

    fn row(&self, subject: Subject) -> u16 {
        match subject {
            Subject::Datum(key) => {
                usize::try_from(key).ok().and_then(|key| self.rows.get(key)).copied().unwrap_or(UNKNOWN)
            }
            Subject::UnknownField => UNKNOWN,
            Subject::Text => TEXT,
            Subject::Opaque => OPAQUE,
        }
    }
}

/// What one record lost. Counted when the record is done: a walk that is given up for another has not
/// withheld anything yet.
#[derive(Debug)]
pub struct Tally {
    first: [Lost; Self::INLINE],
    len: usize,
    /// Those that do not fit; allocates only then.
    more: Vec<Lost>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    row: u16,
    outcome: Outcome,
}

impl Default for Tally {
    fn default() -> Self {
        Self { first: [Lost { row: UNKNOWN, outcome: Outcome::Audit }; Self::INLINE], len: 0, more: Vec::new() }
    }
}

impl Tally {
    const INLINE: usize = 15;

    /// Forgets all.
    pub fn clear(&mut self) {
        self.len = 0;
        self.more.clear();
    }

    /// Whether nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn add(&mut self, lost: Lost) {
        match self.first.get_mut(self.len) {
            Some(free) => {
                *free = lost;
                self.len += 1;
            }
            None => self.more.push(lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use prost::Message as _;

    use super::*;
    use crate::permissions::{Filter, Rules};
    use crate::proto::vehicle_data::value::Value as Typed;
    use crate::proto::vehicle_data::{Datum, LocationValue, Payload, Value};
    use crate::proto::vehicle_error::{VehicleError, VehicleErrors};
    use crate::record::RecordKind;
    use crate::record::transform::rewrite;
    use crate::scope::Scope;

    const LOCATION: Scopes = Scopes::NONE.with(Scope::VehicleLocation);

    /// The counters that are not zero after a record.
    fn counted(mode: Mode, action: Action, records: &[(RecordKind, Vec<u8>)]) -> Vec<String> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let withheld = metrics::with_local_recorder(&recorder, || Withheld::register(mode, action, LOCATION));
        let rules = Rules { mode, action, strict: true, deny_unknown: true, enforced: LOCATION, ..Rules::off() };
        let filter = Filter::new(&rules, Scopes::ALL).counted_by(&withheld);
        for (kind, payload) in records {
            rewrite(*kind, payload, "VIN", &filter, &mut Vec::new()).unwrap();
        }
        assert_eq!(filter.allows_opaque(), mode == Mode::Audit);
        let page = recorder.handle().render();
        let mut lines: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(FAMILY)).collect();
        lines.retain(|line| !line.ends_with(" 0"));
        lines.sort_unstable();
        lines.into_iter().map(str::to_owned).collect()
    }

    fn record() -> Vec<u8> {
        let place = Typed::LocationValue(LocationValue { latitude: 37.412_374, longitude: -122.145_867 });
        let datum = |key: i32, value: Typed| Datum { key, value: Some(Value { value: Some(value) }) };
        let data = vec![
            datum(Field::Location.into(), place.clone()),
            datum(Field::GpsHeading.into(), Typed::DoubleValue(5.0)),
            datum(Field::VehicleName.into(), place),
            datum(Field::Soc.into(), Typed::DoubleValue(71.0)),
            datum(9_999, Typed::BooleanValue(true)),
        ];
        Payload { data, ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn data_are_counted_by_field_and_action() {
        let records = [(RecordKind::V, record())];
        assert_eq!(
            counted(Mode::Enforce, Action::Coarsen(2), &records),
            [
                r#"{field="GpsHeading",action="drop"} 1"#,
                r#"{field="Location",action="coarsen"} 1"#,
                r#"{field="opaque",action="drop"} 1"#,
                r#"{field="other",action="coarsen"} 1"#,
                r#"{field="unknown",action="drop"} 1"#,
            ]
        );
        assert_eq!(
            counted(Mode::Audit, Action::Drop, &records),
            [
                r#"{field="GpsHeading",action="audit"} 1"#,
                r#"{field="Location",action="audit"} 1"#,
                r#"{field="opaque",action="audit"} 1"#,
                r#"{field="other",action="audit"} 1"#,
                r#"{field="unknown",action="audit"} 1"#,
            ]
        );
    }

    #[test]
    fn a_record_in_an_odd_encoding_is_counted_once() {
        // An unknown field, then the flag `is_resend`, which should have come before it.
        let payload = [record(), b"\xf8\x03\x05\x20\x01".to_vec()].concat();
        let counted = counted(Mode::Enforce, Action::Invalid, &[(RecordKind::V, payload)]);
        assert!(counted.contains(&r#"{field="Location",action="invalid"} 1"#.to_owned()), "{counted:?}");
        assert!(counted.contains(&r#"{field="unknown",action="drop"} 1"#.to_owned()), "{counted:?}");
        assert!(counted.contains(&r#"{field="unknown",action="invalid"} 1"#.to_owned()), "{counted:?}");
    }

    #[test]
    fn more_data_than_fit_in_place_are_all_counted() {
        // Repeated fields of concatenated messages are concatenated.
        let payload = record().repeat(30);
        let counted = counted(Mode::Enforce, Action::Drop, &[(RecordKind::V, payload)]);
        assert!(counted.contains(&r#"{field="Location",action="drop"} 30"#.to_owned()), "{counted:?}");
    }

    #[test]
    fn masked_texts_are_counted() {
        let error = VehicleError { name: "1".into(), body: "at 37.41,-122.14".into(), ..Default::default() };
        let payload = VehicleErrors { errors: vec![error], ..Default::default() }.encode_to_vec();
        let records = [(RecordKind::Errors, payload)];
        let counted = counted(Mode::Enforce, Action::Drop, &records);
        assert!(counted.contains(&r#"{field="text",action="mask"} 1"#.to_owned()), "{counted:?}");
    }
}
