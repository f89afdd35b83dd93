//! Rewrites a vehicle's payload in one walk over its wire fields.
//!
//! The outgoing form is what the reference server's decode and encode make of a payload: known fields in
//! order of their numbers, unknown fields kept after them. A vehicle's encoder writes that form to begin
//! with, so the walk copies everything but the VIN and the few values that change. A payload in another
//! form is first brought into this one (`canonical`), which costs a second walk and allocations.
//!
//! `schema` says which fields a message has, `check` validates a message and says whether it is in the
//! outgoing form, `splice` copies with changes, `stamp` walks a payload, and `vehicle_data` and `alerts`
//! decide what changes in an item of the record; `location`, `number` and `decimal` read what old firmware
//! sends as text.

mod alerts;
mod canonical;
mod check;
mod decimal;
mod location;
mod number;
mod schema;
mod splice;
mod stamp;
mod vehicle_data;

use super::RecordKind;
use super::wire::Malformed;
use check::Form;

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

/// Appends the outgoing form of `payload` to `out`.
///
/// # Errors
/// [`PayloadError`] when the payload is not the message that its topic promises; `out` is then as before.
pub fn rewrite(kind: RecordKind, payload: &[u8], vin: &str, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    let message = match kind {
        RecordKind::V => &schema::PAYLOAD,
        RecordKind::Alerts => &schema::VEHICLE_ALERTS,
        RecordKind::Errors => &schema::VEHICLE_ERRORS,
        RecordKind::Connectivity => &schema::VEHICLE_CONNECTIVITY,
        RecordKind::Custom(_) | RecordKind::Other => {
            out.extend_from_slice(payload);
            return Ok(());
        }
    };
    let before = out.len();
    out.reserve(payload.len() + vin.len() + HEADROOM);
    let form = walk(kind, payload, vin, out).inspect_err(|_| out.truncate(before))?;
    if form == Form::Canonical {
        return Ok(());
    }
    out.truncate(before);
    let canonical = canonical::of(message, payload)?;
    walk(kind, &canonical, vin, out).inspect_err(|_| out.truncate(before))?;
    Ok(())
}

/// Bytes that a record commonly grows by: the VIN's tag, and a location or timestamp that is longer than
/// what it replaces.
const HEADROOM: usize = 32;

/// Stops early, with [`Form::Other`], at the first thing that is not in the outgoing form.
fn walk(kind: RecordKind, payload: &[u8], vin: &str, out: &mut Vec<u8>) -> Result<Form, PayloadError> {
    match kind {
        RecordKind::V => {
            let mut rewrite = vehicle_data::Rewrite::default();
            stamp::walk(&schema::PAYLOAD, payload, vin, out, |item, out| rewrite.datum(item, out))
        }
        RecordKind::Alerts => stamp::walk(&schema::VEHICLE_ALERTS, payload, vin, out, alerts::alert),
        RecordKind::Errors => stamp::walk(&schema::VEHICLE_ERRORS, payload, vin, out, stamp::keep),
        RecordKind::Connectivity => stamp::walk(&schema::VEHICLE_CONNECTIVITY, payload, vin, out, stamp::keep),
        RecordKind::Custom(_) | RecordKind::Other => unreachable!("opaque payloads are not walked"),
    }
}

impl PayloadError {
    /// An error of bytes that start at `base` in the payload.
    fn malformed(base: usize) -> impl Fn(Malformed) -> Self {
        move |Malformed { at, reason }| Self::Malformed { at: base + at, reason }
    }
}
