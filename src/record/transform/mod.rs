//! Rewrites a vehicle's payload in one walk over its wire fields.
//!
//! The outgoing form is what the reference server's decode and encode make of a payload: known fields in
//! order of their numbers, unknown fields kept after them. A vehicle's encoder writes that form to begin
//! with, so the walk copies everything but the VIN and the few values that change. A payload in another
//! form is first brought into this one (`canonical`), which costs a second walk and allocations.
//!
//! `schema` says which fields a message has, `check` validates a message and says whether it is in the
//! outgoing form, `splice` copies with changes, `stamp` walks a payload, and `vehicle_data` and `alerts`
//! decide what changes in an item of the record. What the owner has not allowed is withheld on the way: data
//! of a `V` record in the walk, texts of the other records and unknown fields by `scrub`. `created` finds out
//! when a record was made before any of this.

mod alerts;
mod canonical;
mod check;
mod created;
mod schema;
mod scrub;
mod splice;
mod stamp;
mod vehicle_data;
#[cfg(test)]
mod withheld;

use super::RecordKind;
use crate::permissions::filter::{Decision, Filter, Tally};
use crate::protobuf::wire::Malformed;
use check::Form;
pub use created::created_ms;
use schema::Message;
use stamp::Unknown;

/// Why a payload was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not valid protobuf.
    #[error("malformed protobuf at byte {at}: {reason}")]
    Malformed {
        /// Offset within the payload.
        at: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// A string that is not text.
    #[error("field {field} at byte {at} is not UTF-8")]
    InvalidUtf8 {
        /// The string field's name.
        field: &'static str,
        /// Offset within the payload.
        at: usize,
    },
}

/// Appends the outgoing form of `payload` to `out`, without what `filter` withholds. Payloads of topics that
/// this server cannot read are not changed; [`Filter::allows_opaque`] decides about those.
///
/// # Errors
/// [`PayloadError`] when the payload is not the message that its topic promises; `out` is then as before.
pub fn rewrite(
    kind: RecordKind,
    payload: &[u8],
    vin: &str,
    filter: &Filter<'_>,
    out: &mut Vec<u8>,
) -> Result<(), PayloadError> {
    let Some(message) = schema::of(kind) else {
        out.extend_from_slice(payload);
        return Ok(());
    };
    let before = out.len();
    out.reserve(payload.len() + vin.len() + HEADROOM);
    let mut walk = Walk { kind, message, vin, filter, tally: Tally::default() };
    walk.rewrite(payload, out).inspect_err(|_| out.truncate(before))?;
    if !walk.tally.is_empty() {
        filter.count(&walk.tally);
    }
    Ok(())
}

/// Bytes that a record commonly grows by: the VIN's tag, and a location or timestamp that is longer than
/// what it replaces.
const HEADROOM: usize = 32;

struct Walk<'a> {
    kind: RecordKind,
    message: &'static Message,
    vin: &'a str,
    filter: &'a Filter<'a>,
    tally: Tally,
}

impl Walk<'_> {
    fn rewrite(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), PayloadError> {
        let before = out.len();
        let looks_at_unknown = self.filter.unknown() != Decision::Keep;
        let takes = if looks_at_unknown { Unknown::Refused } else { Unknown::Kept };
        if self.walk(payload, takes, out)? == Form::Other {
            out.truncate(before);
            self.tally.clear();
            let mut canonical = canonical::of(self.message, payload)?;
            if looks_at_unknown && self.kind == RecordKind::V {
                canonical = scrub::scrubbed(self.message, canonical, self.filter, &mut self.tally);
            }
            self.walk(&canonical, Unknown::Kept, out)?;
        }
        if self.kind != RecordKind::V && self.filter.text() != Decision::Keep {
            let scrubbed = scrub::scrubbed(self.message, out.split_off(before), self.filter, &mut self.tally);
            out.extend_from_slice(&scrubbed);
        }
        Ok(())
    }

    /// Stops early, with [`Form::Other`], at the first thing that is not in the outgoing form.
    fn walk(&mut self, payload: &[u8], unknown: Unknown, out: &mut Vec<u8>) -> Result<Form, PayloadError> {
        let Self { kind, message, vin, filter, tally } = self;
        match kind {
            RecordKind::V => {
                let mut rewrite = vehicle_data::Rewrite::new(filter, tally);
                stamp::walk(message, payload, vin, unknown, out, |item, out| rewrite.datum(item, out))
            }
            RecordKind::Alerts => stamp::walk(message, payload, vin, Unknown::Kept, out, alerts::alert),
            _ => stamp::walk(message, payload, vin, Unknown::Kept, out, stamp::keep),
        }
    }
}

impl PayloadError {
    /// An error of bytes that start at `base` in the payload.
    fn malformed(base: usize) -> impl Fn(Malformed) -> Self {
        move |Malformed { at, reason }| Self::Malformed { at: base + at, reason }
    }
}
