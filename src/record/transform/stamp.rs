//! The walk over a payload that all kinds of records share: it puts in the certificate's VIN and hands the
//! record's items (data, alerts, errors) to the kind's own rule.

use super::PayloadError;
use super::check::{self, Form, Order};
use super::schema::{Kind, Message};
use super::splice::Splice;
use crate::protobuf::wire::{Field, Fields, Value, put_bytes};

/// An item of a record, such as a datum.
pub(super) struct Item<'a> {
    /// The item's message type.
    pub(super) message: &'static Message,
    /// The encoded item.
    pub(super) bytes: &'a [u8],
    /// Where the whole field, with tag and length, starts in the payload.
    pub(super) start: usize,
    /// Where the item ends in the payload.
    pub(super) end: usize,
}

impl Item<'_> {
    /// Where the item's bytes start in the payload.
    pub(super) fn base(&self) -> usize {
        self.end - self.bytes.len()
    }
}

/// Whether fields of the record itself that the schema does not know are part of the outgoing form. Those in
/// an item are the item's rule's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Kept,
    Refused,
}

/// Appends the rewritten payload to `out`. `rule` checks each item and replaces it in the copy or leaves it.
///
/// Returns [`Form::Other`] at the first thing that is not in the outgoing form; `out` is then incomplete.
pub(super) fn walk<'a>(
    message: &'static Message,
    payload: &'a [u8],
    vin: &str,
    unknown: Unknown,
    out: &mut Vec<u8>,
    mut rule: impl FnMut(&Item<'a>, &mut Splice<'a, '_>) -> Result<Form, PayloadError>,
) -> Result<Form, PayloadError> {
    let mut fields = Fields::new(payload);
    let mut order = Order::default();
    let mut splice = Splice::new(payload, out);
    let mut stamped = false;
    while let Some(field) = fields.next().map_err(PayloadError::malformed(0))? {
        let kind = message.kind(field.number, field.value);
        if !order.accepts(message, kind, &field) {
            return Ok(Form::Other);
        }
        let is_vin = kind.is_some() && field.number == message.vin;
        if !stamped && (kind.is_none() || field.number >= message.vin) {
            let end = if is_vin { field.end } else { field.start };
            splice.replace(field.start, end, |out| put_vin(out, message, vin));
            stamped = true;
        }
        let form = match (kind, field.value) {
            (None, _) => Form::Extended,
            (Some(Kind::Items(message)), Value::Bytes(bytes)) => {
                rule(&Item { message, bytes, start: field.start, end: field.end }, &mut splice)?
            }
            (Some(kind), value) => check::value(kind, value, is_vin, base(&field))?,
        };
        if form == Form::Other || (form == Form::Extended && unknown == Unknown::Refused) {
            return Ok(Form::Other);
        }
    }
    if !stamped {
        splice.replace(payload.len(), payload.len(), |out| put_vin(out, message, vin));
    }
    splice.finish();
    Ok(Form::Canonical)
}

/// The rule of records whose items do not change.
pub(super) fn keep(item: &Item<'_>, _: &mut Splice<'_, '_>) -> Result<Form, PayloadError> {
    check::message(item.message, item.bytes, item.base())
}

/// Like any field at its default value, an empty VIN is not written.
fn put_vin(out: &mut Vec<u8>, message: &Message, vin: &str) {
    if !vin.is_empty() {
        put_bytes(out, message.vin, vin.as_bytes());
    }
}

fn base(field: &Field<'_>) -> usize {
    field.end - check::value_len(field)
}
