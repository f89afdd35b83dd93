//! A record as MQTT messages.
//!
//! | record | topic | payload (JSON) |
//! |---|---|---|
//! | `V`, per field | `<base>/<vin>/v/<field>` | the value alone |
//! | `alerts`, per name | `<base>/<vin>/alerts/<name>/current` | the alert that began last |
//! | | `<base>/<vin>/alerts/<name>/history` | all of them |
//! | `errors`, per error | `<base>/<vin>/errors/<name>` | the error |
//! | `connectivity` | `<base>/<vin>/connectivity` | the event |

use std::collections::{HashMap, HashSet};

use super::topic;
use crate::proto::vehicle_alerts::{VehicleAlert, VehicleAlerts};
use crate::proto::vehicle_connectivity::{ConnectivityEvent, VehicleConnectivity};
use crate::proto::vehicle_data::{Datum, Payload, TireLocation};
use crate::proto::vehicle_error::{VehicleError, VehicleErrors};
use crate::record::Decoded;
use crate::record::decoded::field_name;
use crate::record::decoded::value::{Content, Enumerator, View};
use crate::record::json::text::{self, Object, member};
use crate::record::json::{plain, timestamp, write_doors, write_location};
use crate::work;

/// One message, and whether it is the value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Complete.
    pub topic: String,
    /// JSON; empty: what is retained under the topic is to be removed.
    pub payload: String,
    /// The number of the field whose value it is.
    pub field: Option<i32>,
}

/// All messages of a record, in the order of the record; `None` for topics whose payload is opaque.
#[must_use]
pub fn messages(decoded: &Decoded, base: &str, vin: &str) -> Option<Vec<Message>> {
    let mut into = Messages { prefix: vehicle(base, vin), messages: Vec::new() };
    match decoded {
        Decoded::V(payload) => into.values(payload),
        Decoded::Alerts(alerts) => into.alerts(alerts),
        Decoded::Errors(errors) => into.errors(errors),
        Decoded::Connectivity(connectivity) => into.connectivity(connectivity),
        Decoded::Opaque => return None,
    }
    Some(into.messages)
}

/// The topic of everything about a vehicle, up to the last slash.
pub(super) fn vehicle(base: &str, vin: &str) -> String {
    format!("{base}/{}/", topic::level(vin))
}

/// Where the value of a field is published.
pub(super) fn field_topic(vehicle: &str, key: i32) -> String {
    [vehicle, "v/", &field_name(key)].concat()
}

struct Messages {
    prefix: String,
    messages: Vec<Message>,
}

impl Messages {
    fn push(&mut self, path: &[&str], write: impl FnOnce(&mut String)) {
        let mut payload = String::new();
        write(&mut payload);
        let topic = self.prefix.clone() + &path.concat();
        work::took(topic.len() + payload.len());
        self.messages.push(Message { topic, payload, field: None });
    }

    /// Of several data with one key, the last counts.
    fn values(&mut self, payload: &Payload) {
        let mut seen = HashSet::with_capacity(payload.data.len());
        let last: Vec<&Datum> = payload.data.iter().rev().filter(|datum| seen.insert(datum.key)).collect();
        for datum in last.into_iter().rev() {
            let mut payload = String::new();
            write_value(&mut payload, datum);
            let topic = field_topic(&self.prefix, datum.key);
            work::took(topic.len() + payload.len());
            self.messages.push(Message { topic, payload, field: Some(datum.key) });
        }
    }

    fn alerts(&mut self, alerts: &VehicleAlerts) {
        let mut names: HashMap<&str, usize> = HashMap::with_capacity(alerts.alerts.len());
        let mut groups: Vec<(&str, Vec<&VehicleAlert>)> = Vec::new();
        for alert in &alerts.alerts {
            let at = *names.entry(&alert.name).or_insert(groups.len());
            if at == groups.len() {
                groups.push((&alert.name, Vec::new()));
            }
            groups[at].1.push(alert);
        }
        for (name, alerts) in groups {
            let name = topic::level(name);
            if let Some(current) = current(&alerts) {
                self.push(&["alerts/", &name, "/current"], |out| write_alert(out, &current));
            }
            self.push(&["alerts/", &name, "/history"], |out| plain::write_list(out, &alerts, write_alert));
        }
    }

    fn errors(&mut self, errors: &VehicleErrors) {
        for error in &errors.errors {
            self.push(&["errors/", &topic::level(&error.name)], |out| write_error(out, error));
        }
    }

    fn connectivity(&mut self, connectivity: &VehicleConnectivity) {
        self.push(&["connectivity"], |out| write_connectivity(out, connectivity));
    }
}

/// The alert that began last; the first of those that began together.
fn current<'a>(alerts: &[&'a VehicleAlert]) -> Option<&'a VehicleAlert> {
    let started = |alert: &VehicleAlert| {
        let started = alert.started_at.as_ref()?;
        Some((timestamp::whole_seconds(started), started.nanos.rem_euclid(1_000_000_000)))
    };
    // Of equals, the last one wins there.
    alerts.iter().rev().copied().filter(|alert| alert.started_at.is_some()).max_by_key(|alert| started(alert))
}

fn write_value(out: &mut String, datum: &Datum) {
    // No value at all says what an invalid one says.
    let Some(value) = &datum.value else { return out.push_str("null") };
    let Some(View { member, content, .. }) = value.view() else { return out.push_str("{}") };
    match content {
        Content::Text(value) => text::log_safe_string(out, value),
        Content::Int(value) => text::integer(out, value),
        Content::Long(value) => text::integer(out, value),
        Content::Float(value) => text::float32(out, value),
        Content::Double(value) => text::float64(out, value),
        Content::Bool(value) => text::boolean(out, value),
        Content::Invalid(_) => out.push_str("null"),
        Content::Location(location) => write_location(out, location),
        Content::Doors(doors) => write_doors(out, doors),
        Content::Tires(tires) => write_tires(out, tires),
        Content::Time(time) => plain::write_time(out, time),
        Content::Enum(Enumerator { number, name: None }) if BARE_NUMBERS.contains(&member) => {
            text::integer(out, number);
        }
        Content::Enum(enumerator) => plain::write_enumerator(out, enumerator),
    }
}

/// The kinds of which the reference server writes a number that the schema does not know as a number; of the others as
/// a string of digits.
const BARE_NUMBERS: [&str; 19] = [
    "chargingValue",
    "hvacAutoModeValue",
    "cabinOverheatProtectionModeValue",
    "cabinOverheatProtectionTemperatureLimitValue",
    "defrostModeValue",
    "climateKeeperModeValue",
    "hvacPowerValue",
    "fastChargerValue",
    "cableTypeValue",
    "tonneauTentModeValue",
    "tonneauPositionValue",
    "powershareTypeValue",
    "powershareStateValue",
    "powershareStopReasonValue",
    "displayStateValue",
    "distanceUnitValue",
    "temperatureUnitValue",
    "pressureUnitValue",
    "chargeUnitPreferenceValue",
];

/// Only those that are set.
fn write_tires(out: &mut String, tires: TireLocation) {
    let flags = [
        ("front_left", tires.front_left),
        ("front_right", tires.front_right),
        ("rear_left", tires.rear_left),
        ("rear_right", tires.rear_right),
        ("semi_middle_axle_left_2", tires.semi_middle_axle_left_2),
        ("semi_middle_axle_right_2", tires.semi_middle_axle_right_2),
        ("semi_rear_axle_left", tires.semi_rear_axle_left),
        ("semi_rear_axle_left_2", tires.semi_rear_axle_left_2),
        ("semi_rear_axle_right", tires.semi_rear_axle_right),
        ("semi_rear_axle_right_2", tires.semi_rear_axle_right_2),
    ];
    let mut object = Object::open(out);
    for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
        text::boolean(object.member_with(|out| text::plain_string(out, name)), true);
    }
    object.close();
}

fn write_alert(out: &mut String, alert: &&VehicleAlert) {
    let mut object = Object::open(out);
    plain::write_audiences(member!(object, "Audiences"), &alert.audiences);
    if alert.ended_at.is_some() {
        plain::write_date_time(member!(object, "EndedAt"), alert.ended_at.as_ref());
    }
    if alert.started_at.is_some() {
        plain::write_date_time(member!(object, "StartedAt"), alert.started_at.as_ref());
    }
    object.close();
}

fn write_error(out: &mut String, error: &VehicleError) {
    let mut object = Object::open(out);
    text::log_safe_string(member!(object, "Body"), &error.body);
    if error.created_at.is_some() {
        plain::write_date_time(member!(object, "CreatedAt"), error.created_at.as_ref());
    }
    plain::write_tags(member!(object, "Tags"), &error.tags);
    object.close();
}

fn write_connectivity(out: &mut String, connectivity: &VehicleConnectivity) {
    let mut object = Object::open(out);
    text::log_safe_string(member!(object, "ConnectionId"), &connectivity.connection_id);
    plain::write_date_time(member!(object, "CreatedAt"), connectivity.created_at.as_ref());
    let status = Enumerator::new(connectivity.status, ConnectivityEvent::as_str_name);
    plain::write_enumerator(member!(object, "Status"), status);
    object.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::vehicle_data::value::Value as Kind;
    use crate::proto::vehicle_data::{Field, Value};

    fn value(kind: Kind) -> String {
        let datum = Datum { key: Field::Soc.into(), value: Some(Value { value: Some(kind) }) };
        let payload = Payload { data: vec![datum], ..Payload::default() };
        messages(&Decoded::V(payload), "b", "V").unwrap()[0].payload.clone()
    }

    #[test]
    fn a_datum_without_a_value_is_null() {
        let data = vec![Datum { key: 8, value: None }, Datum { key: 5, value: Some(Value::default()) }];
        let messages = messages(&Decoded::V(Payload { data, ..Payload::default() }), "b", "V").unwrap();
        let payloads: Vec<_> = messages.iter().map(|message| message.payload.as_str()).collect();
        assert_eq!(payloads, ["null", "{}"]);
    }

    /// As in the reference server, whose explicit cases and whose general one differ.
    #[test]
    fn numbers_that_an_enum_does_not_know_are_text_or_bare_by_its_kind() {
        assert_eq!(value(Kind::ShiftStateValue(99)), "\"99\"");
        assert_eq!(value(Kind::DetailedChargeStateValue(99)), "\"99\"");
        assert_eq!(value(Kind::MediaStatusValue(99)), "\"99\"");
        assert_eq!(value(Kind::HvacPowerValue(99)), "99");
        assert_eq!(value(Kind::ChargeUnitPreferenceValue(99)), "99");
        assert_eq!(value(Kind::CableTypeValue(2)), "\"CableTypeSAE\"");
    }

    #[test]
    fn without_a_base_topics_begin_with_a_slash() {
        let alerts = VehicleAlerts { alerts: vec![VehicleAlert::default()], ..VehicleAlerts::default() };
        let messages = messages(&Decoded::Alerts(alerts), "", "V").unwrap();
        let topics: Vec<_> = messages.iter().map(|message| message.topic.as_str()).collect();
        assert_eq!(topics, ["/V/alerts//history"], "one that never began is not current");
    }
}
