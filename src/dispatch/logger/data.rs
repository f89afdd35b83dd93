//! The values of a record as the log lines show them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::proto::vehicle_alerts::VehicleAlert;
use crate::proto::vehicle_connectivity::{ConnectivityEvent, VehicleConnectivity};
use crate::proto::vehicle_data::{Payload, TireLocation};
use crate::proto::vehicle_error::VehicleError;
use crate::record::Decoded;
use crate::record::decoded::field_name;
use crate::record::decoded::value::{Content, Enumerator, View};
use crate::record::json::plain;
use crate::record::json::text::{self, Object, member};
use crate::record::json::{timestamp, write_doors, write_location};

/// The member `data` of a record's log line: JSON with sorted members. `None` for topics whose payload is opaque.
///
/// `vin` is the device id of the certificate. With `verbose`, each value of `V` is an object that names its kind.
#[must_use]
pub fn data(decoded: &Decoded, vin: &str, verbose: bool) -> Option<String> {
    let mut out = String::new();
    match decoded {
        Decoded::V(payload) => Vehicle { vin, verbose }.write(&mut out, payload),
        Decoded::Alerts(alerts) => plain::write_list(&mut out, &alerts.alerts, write_alert),
        Decoded::Errors(errors) => plain::write_list(&mut out, &errors.errors, write_error),
        Decoded::Connectivity(connectivity) => write_connectivity(&mut out, connectivity, vin),
        Decoded::Opaque => return None,
    }
    Some(out)
}

/// What decides how a value is shown.
struct Vehicle<'a> {
    vin: &'a str,
    verbose: bool,
}

/// A member of the object that a `V` record becomes.
enum Member<'a> {
    CreatedAt,
    IsResend,
    Vin,
    Value(View<'a>),
}

impl Vehicle<'_> {
    fn write(&self, out: &mut String, payload: &Payload) {
        let fixed = [("CreatedAt", Member::CreatedAt), ("IsResend", Member::IsResend), ("Vin", Member::Vin)];
        let mut members: BTreeMap<_, _> =
            fixed.into_iter().map(|(name, member)| (Cow::Borrowed(name), member)).collect();
        // Of several data with one key, the last that has a value is shown.
        members.extend(
            payload
                .data
                .iter()
                .filter_map(|datum| Some((field_name(datum.key), Member::Value(datum.value.as_ref()?.view()?)))),
        );
        let mut object = Object::open(out);
        for (name, member) in &members {
            let out = object.member(name);
            match member {
                Member::CreatedAt => plain::write_date_time(out, payload.created_at.as_ref()),
                Member::IsResend => text::boolean(out, payload.is_resend),
                Member::Vin => text::log_safe_string(out, self.vin),
                Member::Value(view) => self.write_value(out, *view),
            }
        }
        object.close();
    }

    fn write_value(&self, out: &mut String, view: View<'_>) {
        if !self.verbose {
            return self.write_content(out, view.content);
        }
        let mut object = Object::open(out);
        self.write_content(object.member(view.label), view.content);
        object.close();
    }

    fn write_content(&self, out: &mut String, content: Content<'_>) {
        match content {
            Content::Text(value) => text::log_safe_string(out, value),
            Content::Int(value) => text::integer(out, value),
            Content::Long(value) => text::integer(out, value),
            Content::Float(value) => text::float32(out, value),
            Content::Double(value) => text::float64(out, value),
            Content::Bool(value) => text::boolean(out, value),
            // That the field is invalid is said by the kind, whatever the flag.
            Content::Invalid(_) if self.verbose => text::boolean(out, true),
            Content::Invalid(_) => text::log_safe_string(out, "<invalid>"),
            Content::Location(location) => write_location(out, location),
            Content::Doors(doors) => write_doors(out, doors),
            Content::Tires(tires) if self.is_semi_truck() => write_semi_truck_tires(out, tires),
            Content::Tires(tires) => write_tires(out, tires),
            Content::Time(time) => plain::write_time(out, time),
            Content::Enum(enumerator) => plain::write_enumerator(out, enumerator),
        }
    }

    /// The fourth character of a VIN is the model.
    fn is_semi_truck(&self) -> bool {
        self.vin.as_bytes().get(3) == Some(&b'T')
    }
}

fn write_tires(out: &mut String, tires: TireLocation) {
    text::flags!(out, {
        "FrontLeft": tires.front_left,
        "FrontRight": tires.front_right,
        "RearLeft": tires.rear_left,
        "RearRight": tires.rear_right,
    });
}

/// A semi-truck's middle axle comes in the fields of a car's rear axle.
fn write_semi_truck_tires(out: &mut String, tires: TireLocation) {
    text::flags!(out, {
        "FrontLeft": tires.front_left,
        "FrontRight": tires.front_right,
        "SemiMiddleAxleLeft": tires.rear_left,
        "SemiMiddleAxleLeft2": tires.semi_middle_axle_left_2,
        "SemiMiddleAxleRight": tires.rear_right,
        "SemiMiddleAxleRight2": tires.semi_middle_axle_right_2,
        "SemiRearAxleLeft": tires.semi_rear_axle_left,
        "SemiRearAxleLeft2": tires.semi_rear_axle_left_2,
        "SemiRearAxleRight": tires.semi_rear_axle_right,
        "SemiRearAxleRight2": tires.semi_rear_axle_right_2,
    });
}

fn write_alert(out: &mut String, alert: &VehicleAlert) {
    let mut object = Object::open(out);
    plain::write_audiences(member!(object, "Audiences"), &alert.audiences);
    if let Some(ended) = &alert.ended_at {
        text::integer(member!(object, "EndedAt"), timestamp::whole_seconds(ended));
    }
    text::log_safe_string(member!(object, "Name"), &alert.name);
    if let Some(started) = &alert.started_at {
        text::integer(member!(object, "StartedAt"), timestamp::whole_seconds(started));
    }
    object.close();
}

fn write_error(out: &mut String, error: &VehicleError) {
    let mut object = Object::open(out);
    text::log_safe_string(member!(object, "Body"), &error.body);
    if let Some(created) = &error.created_at {
        text::integer(member!(object, "CreatedAt"), timestamp::whole_seconds(created));
    }
    text::log_safe_string(member!(object, "Name"), &error.name);
    plain::write_tags(member!(object, "Tags"), &error.tags);
    object.close();
}

fn write_connectivity(out: &mut String, connectivity: &VehicleConnectivity, vin: &str) {
    let mut object = Object::open(out);
    text::log_safe_string(member!(object, "ConnectionID"), &connectivity.connection_id);
    let created = connectivity.created_at.as_ref().map_or(0, timestamp::whole_seconds);
    text::integer(member!(object, "CreatedAt"), created);
    text::log_safe_string(member!(object, "NetworkInterface"), &connectivity.network_interface);
    let status = Enumerator::new(connectivity.status, ConnectivityEvent::as_str_name);
    plain::write_enumerator(member!(object, "Status"), status);
    text::log_safe_string(member!(object, "Vin"), vin);
    object.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::vehicle_data::value::Value as Kind;
    use crate::proto::vehicle_data::{Datum, Field, Time, Value};

    fn shown(kind: Kind, vin: &str, verbose: bool) -> serde_json::Value {
        let value = Some(Value { value: Some(kind) });
        let payload = Payload { data: vec![Datum { key: Field::Soc.into(), value }], ..Payload::default() };
        let text = data(&Decoded::V(payload), vin, verbose).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["Soc"].take()
    }

    fn tires() -> Kind {
        Kind::TireLocationValue(TireLocation { rear_left: true, semi_rear_axle_left: true, ..TireLocation::default() })
    }

    #[test]
    fn semi_trucks_have_a_middle_axle_where_cars_have_the_rear_one() {
        let semi = shown(tires(), "7G2TEST", false);
        assert_eq!((&semi["SemiMiddleAxleLeft"], &semi["SemiRearAxleLeft"]), (&true.into(), &true.into()));
        assert_eq!(semi.as_object().unwrap().len(), 10);
        let car = shown(tires(), "5YJ3TEST", false);
        assert_eq!(car["RearLeft"], true);
        assert_eq!(car.as_object().unwrap().len(), 4);
    }

    #[test]
    fn device_ids_too_short_for_a_model_are_not_semi_trucks() {
        assert_eq!(shown(tires(), "TTT", false)["RearLeft"], true);
        assert_eq!(shown(tires(), "", false)["RearLeft"], true);
    }

    #[test]
    fn verbose_values_name_their_kind() {
        assert_eq!(
            shown(Kind::CableTypeValue(2), "v", true),
            serde_json::json!({ "chargingCableType": "CableTypeSAE" })
        );
        assert_eq!(shown(Kind::Invalid(false), "v", true), serde_json::json!({ "invalid": true }));
        assert_eq!(shown(Kind::CableTypeValue(99), "v", true), serde_json::json!({ "chargingCableType": "99" }));
    }

    #[test]
    fn times_of_day_are_padded_and_stay_valid_json_when_nonsensical() {
        let time = |hour, minute, second| Kind::TimeValue(Time { hour, minute, second });
        assert_eq!(shown(time(7, 5, 0), "v", false), "07:05:00");
        assert_eq!(shown(time(-1, 100, 0), "v", false), "-1:100:00");
    }

    #[test]
    fn numbers_that_json_lacks_are_strings() {
        assert_eq!(shown(Kind::DoubleValue(f64::NAN), "v", false), "NaN");
        assert_eq!(shown(Kind::FloatValue(f32::NEG_INFINITY), "v", false), "-Infinity");
    }

    #[test]
    fn markup_is_escaped() {
        let payload = Payload::default();
        let text = data(&Decoded::V(payload), "<&\u{2028}", false).unwrap();
        assert!(text.ends_with(r#""Vin":"\u003c\u0026\u2028"}"#), "{text}");
    }

    #[test]
    fn a_later_datum_without_value_does_not_hide_an_earlier_one() {
        let datum = |value| Datum { key: 8, value };
        let five = Value { value: Some(Kind::IntValue(5)) };
        let payload =
            Payload { data: vec![datum(Some(five)), datum(None), datum(Some(Value::default()))], ..Payload::default() };
        let text = data(&Decoded::V(payload), "v", false).unwrap();
        assert_eq!(text, r#"{"CreatedAt":"1970-01-01T00:00:00Z","IsResend":false,"Soc":5,"Vin":"v"}"#);
    }

    #[test]
    fn opaque_payloads_have_no_data() {
        assert_eq!(data(&Decoded::Opaque, "v", false), None);
    }
}
