//! Takes out what may tell a place in the parts of a record that are not data: coordinates in texts, and
//! fields that the schema does not know. For payloads in the outgoing form. Off the hot path: only for `alerts`,
//! `errors` and `connectivity` records of vehicles without the permission, and for `V` records of such
//! vehicles that have unknown fields.

use super::schema::{self, Kind, Message};
use crate::permissions::filter::{Decision, Filter, Outcome, Subject, Tally, coordinates};
use crate::record::wire::{Field, Fields, Value, put_bytes};

/// What stands in the place of coordinates.
const MASK: &str = "[withheld]";

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
                (Some(Kind::Map(_)), Value::Bytes(entry)) => self.entry(&field, entry, out),
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
        put_bytes(out, field.number, self.masked(text).as_bytes());
    }

    /// An entry of a map is a key and a value, which together may say what neither does: `lat` and `37.4`.
    fn entry(&mut self, field: &Field<'_>, entry: &[u8], out: &mut Vec<u8>) {
        let mut fields = Fields::new(entry);
        let mut next = || match fields.next() {
            Ok(Some(Field { value: Value::Bytes(text), .. })) => text,
            _ => b"",
        };
        let (key, value) = (next(), next());
        let (key_text, value_text) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        let mut masked = Vec::with_capacity(entry.len());
        put_bytes(&mut masked, 1, self.masked(key).as_bytes());
        if coordinates::are_member(&key_text, &value_text) {
            self.note(Subject::Text, self.filter.text(), Outcome::Mask);
            put_bytes(&mut masked, 2, MASK.as_bytes());
        } else {
            put_bytes(&mut masked, 2, self.masked(value).as_bytes());
        }
        put_bytes(out, field.number, &masked);
    }

    fn masked(&mut self, text: &[u8]) -> String {
        let text = std::str::from_utf8(text).expect("texts of a valid payload are UTF-8");
        let mut out = String::with_capacity(text.len());
        if coordinates::mask(text, MASK, &mut out) {
            self.note(Subject::Text, self.filter.text(), Outcome::Mask);
        }
        out
    }

    fn note(&mut self, subject: Subject, decision: Decision, outcome: Outcome) {
        let outcome = if decision == Decision::Audit { Outcome::Audit } else { outcome };
        self.filter.note(self.tally, subject, outcome);
    }
}
