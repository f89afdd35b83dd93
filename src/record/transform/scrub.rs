//! Takes out what may tell a place in the parts of a record that are not data: coordinates in texts, and
//! fields that the schema does not know. For payloads in the outgoing form. Off the hot path: only for `alerts`,
//! `errors` and `connectivity` records of vehicles without the permission, and for `V` records of such
//! vehicles that have unknown fields.

use std::collections::HashMap;

use super::schema::{self, Kind, Message};
use crate::permissions::filter::{Decision, Filter, MASK, Outcome, Subject, Tally, coordinates};
use crate::protobuf::wire::{Field, Fields, Value, put_bytes};
use crate::work;

/// The payload without what `filter` withholds; the payload itself if that is to be counted only.
pub(super) fn scrubbed(message: &Message, payload: Vec<u8>, filter: &Filter<'_>, tally: &mut Tally) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len());
    Scrub { filter, tally }.message(message, &payload, &mut out);
    if filter.text() == Decision::Audit { payload } else { out }
}

struct Scrub<'a> {
    filter: &'a Filter<'a>,
    tally: &'a mut Tally,
}

impl Scrub<'_> {
    fn message(&mut self, message: &Message, bytes: &[u8], out: &mut Vec<u8>) {
        let mut keys = Keys::default();
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next().expect("a payload in the outgoing form is valid") {
            let whole = &bytes[field.start..field.end];
            match (message.kind(field.number, field.value), field.value) {
                (None, _) => self.unknown(whole, out),
                // The VIN is the certificate's.
                (Some(Kind::Text(_)), Value::Bytes(text)) if field.number != message.vin => {
                    self.text(&field, text, out);
                }
                // Data have their own rule.
                (Some(Kind::Items(inner)), _) if std::ptr::eq(inner, &raw const schema::DATUM) => {
                    out.extend_from_slice(whole);
                }
                (Some(Kind::Message(inner) | Kind::Items(inner)), Value::Bytes(bytes)) => {
                    let mut scrubbed = Vec::with_capacity(bytes.len());
                    self.message(inner, bytes, &mut scrubbed);
                    put_bytes(out, field.number, &scrubbed);
                }
                (Some(Kind::Map(_)), Value::Bytes(entry)) => self.entry(&field, entry, &mut keys, out),
                _ => out.extend_from_slice(whole),
            }
        }
    }

    fn unknown(&mut self, whole: &[u8], out: &mut Vec<u8>) {
        match self.filter.unknown() {
            Decision::Keep => out.extend_from_slice(whole),
            decision => self.note(Subject::UnknownField, decision, Outcome::Drop),
        }
    }

    fn text(&mut self, field: &Field<'_>, text: &[u8], out: &mut Vec<u8>) {
        put_bytes(out, field.number, self.masked(text_of(text)).as_bytes());
    }

    /// An entry of a map is a key and a value, which together may say what neither does: `lat` and `37.4`.
    /// `keys` are those of the entries before it.
    fn entry(&mut self, field: &Field<'_>, entry: &[u8], keys: &mut Keys, out: &mut Vec<u8>) {
        let mut fields = Fields::new(entry);
        let mut next = || match fields.next() {
            Ok(Some(Field { value: Value::Bytes(text), .. })) => text_of(text),
            _ => "",
        };
        let (key, value) = (next(), next());
        let masked_key = keys.unique(self.masked(key));
        let masked_value = if coordinates::are_member(key, value) {
            self.note(Subject::Text, self.filter.text(), Outcome::Mask);
            MASK.to_owned()
        } else {
            self.masked(value)
        };
        let mut masked = Vec::with_capacity(entry.len());
        put_bytes(&mut masked, 1, masked_key.as_bytes());
        put_bytes(&mut masked, 2, masked_value.as_bytes());
        put_bytes(out, field.number, &masked);
    }

    fn masked(&mut self, text: &str) -> String {
        let Some(masked) = self.filter.masked(text) else { return text.to_owned() };
        self.note(Subject::Text, self.filter.text(), Outcome::Mask);
        masked
    }

    fn note(&mut self, subject: Subject, decision: Decision, outcome: Outcome) {
        let outcome = if decision == Decision::Audit { Outcome::Audit } else { outcome };
        self.filter.note(self.tally, subject, outcome);
    }
}

fn text_of(bytes: &[u8]) -> &str {
    work::took(bytes.len());
    std::str::from_utf8(bytes).expect("texts of a valid payload are UTF-8")
}

/// The keys of a map so far, and for each the number that its next namesake gets unless that is a key, too.
#[derive(Default)]
struct Keys(HashMap<String, u64>);

impl Keys {
    /// Keys that differed in what was masked are numbered, so that no entry is lost. What is tried in vain is a key
    /// that somebody sent with that number, and is tried for no other: so all keys together take as many tries as
    /// there are keys, twice.
    fn unique(&mut self, key: String) -> String {
        work::took(key.len());
        let Some(first) = self.0.get(&key).copied() else {
            self.0.insert(key.clone(), FIRST_NUMBER);
            return key;
        };
        let numbered = (first..).map(|number| (number, format!("{key} {number}")));
        let free = numbered.inspect(|(_, key)| work::took(key.len())).find(|(_, key)| !self.0.contains_key(key));
        let (number, free) = free.expect("there are more numbers than keys");
        self.0.insert(key, number + 1);
        self.0.insert(free.clone(), FIRST_NUMBER);
        free
    }
}

const FIRST_NUMBER: u64 = 2;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;

    use crate::permissions::{Action, Filter, Mode, Rules};
    use crate::proto::vehicle_alerts::{VehicleAlert, VehicleAlerts};
    use crate::proto::vehicle_error::{VehicleError, VehicleErrors};
    use crate::record::RecordKind;
    use crate::record::transform::rewrite;
    use crate::scope::Scopes;

    fn filtered(kind: RecordKind, payload: &[u8]) -> Vec<u8> {
        let rules =
            Rules { mode: Mode::Enforce, action: Action::Drop, strict: true, enforced: Scopes::ALL, ..Rules::off() };
        let mut out = Vec::new();
        rewrite(kind, payload, "VIN", &Filter::new(&rules, Scopes::ALL), &mut out).unwrap();
        out
    }

    #[test]
    fn coordinates_in_errors_are_masked_in_names_bodies_and_tags() {
        let tags = [
            ("lat", "37.412374"),
            ("at", "37.412374,-122.145867"),
            ("37.4,-122.1", "x"),
            ("37.5,-122.2", "y"),
            ("module", "bms"),
        ];
        let error = VehicleError {
            name: "lost at (37.412374 N, 122.145867 W)".into(),
            body: "no signal near 37°24'44.5\"N".into(),
            tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Default::default()
        };
        let mut payload = VehicleErrors { errors: vec![error], ..Default::default() }.encode_to_vec();
        payload.extend(b"\xfa\x03\x01x");
        let out = VehicleErrors::decode(&*filtered(RecordKind::Errors, &payload)).unwrap();
        let error = &out.errors[0];
        assert_eq!(error.name, "lost at [withheld]");
        assert_eq!(error.body, "no signal near [withheld]");
        let mut values: HashMap<_, _> = error.tags.clone();
        let mut masked = [values.remove("[withheld]").unwrap(), values.remove("[withheld] 2").unwrap()];
        masked.sort();
        assert_eq!(masked, ["x", "y"]);
        let expected = [("lat", "[withheld]"), ("at", "[withheld]"), ("module", "bms")];
        assert_eq!(values, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(out.vin, "VIN");
    }

    #[test]
    fn what_the_configured_patterns_match_is_masked_too() {
        let patterns = ["what3words: \\S+", "depot [0-9]+"].map(|pattern| regex::Regex::new(pattern).unwrap());
        let rules =
            Rules { mode: Mode::Enforce, enforced: Scopes::ALL, patterns: patterns.to_vec().into(), ..Rules::off() };
        let error = VehicleError {
            body: "at what3words: a.b.c, then depot 17".into(),
            name: "depot".into(),
            ..Default::default()
        };
        let payload = VehicleErrors { errors: vec![error], ..Default::default() }.encode_to_vec();
        let mut out = Vec::new();
        rewrite(RecordKind::Errors, &payload, "VIN", &Filter::new(&rules, Scopes::ALL), &mut out).unwrap();
        let error = &VehicleErrors::decode(&*out).unwrap().errors[0];
        assert_eq!((error.body.as_str(), error.name.as_str()), ("at [withheld] then [withheld]", "depot"));
    }

    #[test]
    fn a_number_that_somebody_sent_is_given_to_no_other_key() {
        let mut keys = super::Keys::default();
        let sent = ["a 3", "a", "a", "a", "b", "a", "a 3", "a 2", "b", "a", "a 3 2"];
        let unique = sent.map(|key| keys.unique(key.to_owned()));
        assert_eq!(unique, ["a 3", "a", "a 2", "a 4", "b", "a 5", "a 3 2", "a 2 2", "b 2", "a 6", "a 3 2 2"]);
    }

    #[test]
    fn an_alert_without_coordinates_is_not_touched() {
        let alert = VehicleAlert { name: "BMS_a066 (75 %)".into(), audiences: vec![1, 2], ..Default::default() };
        let payload = VehicleAlerts { alerts: vec![alert], vin: "VIN".into(), ..Default::default() }.encode_to_vec();
        assert_eq!(filtered(RecordKind::Alerts, &payload), payload);
    }
}
