//! proto3 JSON, as the reference server's JSON mode writes it.
//!
//! Every field is written, in the order of the schema: absent messages as `null`, empty lists, strings and
//! numbers as themselves; only a oneof without content is left out. Enums are names, or bare numbers when the
//! schema has no name; 64-bit integers are strings; timestamps are RFC 3339.

pub(crate) mod plain;
pub(crate) mod text;
pub(crate) mod timestamp;

use std::collections::HashMap;

use prost_types::Timestamp;

use super::RecordKind;
use super::decoded::Decoded;
use super::decoded::value::{Content, Enumerator};
use super::transform::PayloadError;
use crate::proto::vehicle_alerts::{Audience, VehicleAlert, VehicleAlerts};
use crate::proto::vehicle_connectivity::{ConnectivityEvent, VehicleConnectivity};
use crate::proto::vehicle_data::{Datum, Doors, Field, LocationValue, Payload, Time, TireLocation, Value};
use crate::proto::vehicle_error::{VehicleError, VehicleErrors};
use crate::work;
use text::{List, Object, member};

/// Why a payload has no JSON form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The payload is not valid.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Timestamps outside years 1 to 9999 have no RFC 3339 form.
    #[error("timestamp of {seconds} s, {nanos} ns has no JSON form (years 1 to 9999, 0 to 999999999 ns)")]
    Timestamp {
        /// Seconds since the epoch.
        seconds: i64,
        /// Nanoseconds.
        nanos: i32,
    },
}

/// Renders an outgoing payload (protobuf) as one line of JSON; `{}` for custom topics.
///
/// # Errors
/// [`JsonError`].
pub fn render(kind: RecordKind, payload: &[u8]) -> Result<Vec<u8>, JsonError> {
    write(&Decoded::decode(kind, payload)?, payload.len())
}

/// Renders a decoded payload, which was `encoded_len` bytes long, as one line of JSON.
///
/// # Errors
/// [`JsonError::Timestamp`].
pub fn write(decoded: &Decoded, encoded_len: usize) -> Result<Vec<u8>, JsonError> {
    let errors = if let Decoded::Errors(errors) = decoded { errors.errors.len() } else { 0 };
    let mut out = String::with_capacity(encoded_len * TYPICAL_GROWTH + errors * EMPTY_ERROR + ENVELOPE);
    match decoded {
        Decoded::V(payload) => write_payload(&mut out, payload)?,
        Decoded::Alerts(alerts) => write_alerts(&mut out, alerts)?,
        Decoded::Errors(errors) => write_errors(&mut out, errors)?,
        Decoded::Connectivity(connectivity) => write_connectivity(&mut out, connectivity)?,
        Decoded::Opaque => out.push_str("{}"),
    }
    work::took(out.len());
    Ok(out.into_bytes())
}

/// Bytes of JSON per byte of protobuf, for a datum such as `{"key":"Soc","value":{"doubleValue":75.5}}`.
const TYPICAL_GROWTH: usize = 4;

/// Bytes of the members that every error has.
const EMPTY_ERROR: usize = 48;

/// Bytes of the members that every record has.
const ENVELOPE: usize = 96;

fn write_payload(out: &mut String, payload: &Payload) -> Result<(), JsonError> {
    let mut object = Object::open(out);
    let mut data = List::open(member!(object, "data"));
    for datum in &payload.data {
        write_datum(data.item(), datum);
    }
    data.close();
    write_timestamp(member!(object, "createdAt"), payload.created_at.as_ref())?;
    text::string(member!(object, "vin"), &payload.vin);
    text::boolean(member!(object, "isResend"), payload.is_resend);
    object.close();
    Ok(())
}

fn write_datum(out: &mut String, datum: &Datum) {
    let mut object = Object::open(out);
    write_enumerator(member!(object, "key"), Enumerator::new(datum.key, Field::as_str_name));
    match &datum.value {
        Some(value) => write_value(member!(object, "value"), value),
        None => member!(object, "value").push_str("null"),
    }
    object.close();
}

fn write_value(out: &mut String, value: &Value) {
    let mut object = Object::open(out);
    if let Some(view) = value.view() {
        write_content(object.member(view.member), view.content);
    }
    object.close();
}

fn write_content(out: &mut String, content: Content<'_>) {
    match content {
        Content::Text(value) => text::string(out, value),
        Content::Int(value) => text::integer(out, value),
        Content::Long(value) => {
            out.push('"');
            text::integer(out, value);
            out.push('"');
        }
        Content::Float(value) => text::float32(out, value),
        Content::Double(value) => text::float64(out, value),
        Content::Bool(value) | Content::Invalid(value) => text::boolean(out, value),
        Content::Location(location) => write_location(out, location),
        Content::Doors(doors) => write_doors(out, doors),
        Content::Tires(tires) => write_tires(out, tires),
        Content::Time(time) => write_time(out, time),
        Content::Enum(enumerator) => write_enumerator(out, enumerator),
    }
}

pub(crate) fn write_location(out: &mut String, location: LocationValue) {
    let mut object = Object::open(out);
    text::float64(member!(object, "latitude"), location.latitude);
    text::float64(member!(object, "longitude"), location.longitude);
    object.close();
}

pub(crate) fn write_doors(out: &mut String, doors: Doors) {
    text::flags!(out, {
        "DriverFront": doors.driver_front,
        "DriverRear": doors.driver_rear,
        "PassengerFront": doors.passenger_front,
        "PassengerRear": doors.passenger_rear,
        "TrunkFront": doors.trunk_front,
        "TrunkRear": doors.trunk_rear,
    });
}

fn write_tires(out: &mut String, tires: TireLocation) {
    text::flags!(out, {
        "frontLeft": tires.front_left,
        "frontRight": tires.front_right,
        "rearLeft": tires.rear_left,
        "rearRight": tires.rear_right,
        "semiMiddleAxleLeft2": tires.semi_middle_axle_left_2,
        "semiMiddleAxleRight2": tires.semi_middle_axle_right_2,
        "semiRearAxleLeft": tires.semi_rear_axle_left,
        "semiRearAxleRight": tires.semi_rear_axle_right,
        "semiRearAxleLeft2": tires.semi_rear_axle_left_2,
        "semiRearAxleRight2": tires.semi_rear_axle_right_2,
    });
}

fn write_time(out: &mut String, time: Time) {
    let mut object = Object::open(out);
    text::integer(member!(object, "hour"), time.hour);
    text::integer(member!(object, "minute"), time.minute);
    text::integer(member!(object, "second"), time.second);
    object.close();
}

fn write_alerts(out: &mut String, alerts: &VehicleAlerts) -> Result<(), JsonError> {
    let mut object = Object::open(out);
    let mut list = List::open(member!(object, "alerts"));
    for alert in &alerts.alerts {
        write_alert(list.item(), alert)?;
    }
    list.close();
    write_timestamp(member!(object, "createdAt"), alerts.created_at.as_ref())?;
    text::string(member!(object, "vin"), &alerts.vin);
    object.close();
    Ok(())
}

fn write_alert(out: &mut String, alert: &VehicleAlert) -> Result<(), JsonError> {
    let mut object = Object::open(out);
    text::string(member!(object, "name"), &alert.name);
    let mut audiences = List::open(member!(object, "audiences"));
    for audience in &alert.audiences {
        write_enumerator(audiences.item(), Enumerator::new(*audience, Audience::as_str_name));
    }
    audiences.close();
    write_timestamp(member!(object, "startedAt"), alert.started_at.as_ref())?;
    write_timestamp(member!(object, "endedAt"), alert.ended_at.as_ref())?;
    object.close();
    Ok(())
}

fn write_errors(out: &mut String, errors: &VehicleErrors) -> Result<(), JsonError> {
    let mut object = Object::open(out);
    let mut list = List::open(member!(object, "errors"));
    for error in &errors.errors {
        write_error(list.item(), error)?;
    }
    list.close();
    write_timestamp(member!(object, "createdAt"), errors.created_at.as_ref())?;
    text::string(member!(object, "vin"), &errors.vin);
    object.close();
    Ok(())
}

fn write_error(out: &mut String, error: &VehicleError) -> Result<(), JsonError> {
    let mut object = Object::open(out);
    write_timestamp(member!(object, "createdAt"), error.created_at.as_ref())?;
    text::string(member!(object, "name"), &error.name);
    write_tags(member!(object, "tags"), &error.tags);
    text::string(member!(object, "body"), &error.body);
    object.close();
    Ok(())
}

fn write_tags(out: &mut String, tags: &HashMap<String, String>) {
    let mut sorted: Vec<_> = tags.iter().collect();
    sorted.sort_unstable();
    let mut object = Object::open(out);
    for (key, value) in sorted {
        text::string(object.member_with(|out| text::string(out, key)), value);
    }
    object.close();
}

fn write_connectivity(out: &mut String, connectivity: &VehicleConnectivity) -> Result<(), JsonError> {
    let mut object = Object::open(out);
    text::string(member!(object, "vin"), &connectivity.vin);
    text::string(member!(object, "connectionId"), &connectivity.connection_id);
    let status = Enumerator::new(connectivity.status, ConnectivityEvent::as_str_name);
    write_enumerator(member!(object, "status"), status);
    write_timestamp(member!(object, "createdAt"), connectivity.created_at.as_ref())?;
    text::string(member!(object, "networkInterface"), &connectivity.network_interface);
    object.close();
    Ok(())
}

fn write_enumerator(out: &mut String, enumerator: Enumerator) {
    match enumerator.name {
        Some(name) => text::plain_string(out, name),
        None => text::integer(out, enumerator.number),
    }
}

fn write_timestamp(out: &mut String, timestamp: Option<&Timestamp>) -> Result<(), JsonError> {
    let Some(&Timestamp { seconds, nanos }) = timestamp else {
        out.push_str("null");
        return Ok(());
    };
    let fraction = u32::try_from(nanos).ok().filter(|nanos| *nanos < timestamp::NANOS_PER_SECOND);
    let (Some(fraction), true) = (fraction, timestamp::YEARS_1_TO_9999.contains(&seconds)) else {
        return Err(JsonError::Timestamp { seconds, nanos });
    };
    out.push('"');
    timestamp::date_time(out, seconds);
    timestamp::fraction(out, fraction);
    out.push_str("Z\"");
    Ok(())
}
