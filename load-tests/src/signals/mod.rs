//! What a vehicle has to say: a small model of a car that drives, charges and parks.

pub mod car;
pub mod collector;
pub mod reading;

use std::time::SystemTime;

use fleet_telemetry::proto::vehicle_alerts::{Audience, VehicleAlert, VehicleAlerts};
use fleet_telemetry::proto::vehicle_data::Payload;
use fleet_telemetry::proto::vehicle_error::{VehicleError, VehicleErrors};
use prost::Message as _;

use self::car::Car;
use self::collector::Collector;
use self::reading::Form;
use crate::record::timestamp;

/// Ticks of 500 ms between two alerts and between two errors of one vehicle, on average.
const TICKS_PER_ALERT: u32 = 600;
const TICKS_PER_ERROR: u32 = 2_000;

const ALERTS: [(&str, Audience); 4] = [
    ("VCFRONT_a192_lowVoltageBattery", Audience::Customer),
    ("APP_w222_vehicleSpeedLimited", Audience::Customer),
    ("UI_a137_tirePressureLow", Audience::Customer),
    ("BMS_a066_serviceSoon", Audience::Service),
];

/// A vehicle's telemetry client with the car around it.
#[derive(Debug)]
pub struct Drive {
    vin: String,
    car: Car,
    collector: Collector,
    rng: fastrand::Rng,
}

impl Drive {
    /// This share of all vehicles speaks the old, string form.
    #[must_use]
    pub fn new(vin: &str, mut rng: fastrand::Rng, string_share: f64) -> Self {
        let form = if rng.f64() < string_share { Form::Text } else { Form::Typed };
        Self { vin: vin.to_owned(), car: Car::new(rng.fork()), collector: Collector::new(form), rng }
    }

    /// Lets 500 ms pass; returns topics and payloads of the messages that they bring.
    pub fn tick(&mut self, now: SystemTime) -> Vec<(&'static str, Vec<u8>)> {
        self.car.step();
        let mut messages = Vec::new();
        let data = self.collector.collect(&self.car.readings());
        if !data.is_empty() {
            let payload = Payload { data, created_at: Some(timestamp(now)), vin: self.vin.clone(), is_resend: false };
            messages.push(("V", payload.encode_to_vec()));
        }
        if self.rng.u32(..TICKS_PER_ALERT) == 0 {
            messages.push(("alerts", self.alert(now).encode_to_vec()));
        }
        if self.rng.u32(..TICKS_PER_ERROR) == 0 {
            messages.push(("errors", self.error(now).encode_to_vec()));
        }
        messages
    }

    fn alert(&mut self, now: SystemTime) -> VehicleAlerts {
        let (name, audience) = ALERTS[self.rng.usize(..ALERTS.len())];
        let alert = VehicleAlert {
            name: name.to_owned(),
            audiences: vec![audience.into()],
            started_at: Some(timestamp(now)),
            ended_at: None,
        };
        VehicleAlerts { alerts: vec![alert], created_at: Some(timestamp(now)), vin: self.vin.clone() }
    }

    fn error(&mut self, now: SystemTime) -> VehicleErrors {
        let error = VehicleError {
            created_at: Some(timestamp(now)),
            name: "signal_unavailable".to_owned(),
            tags: [("field".to_owned(), "OutsideTemp".to_owned())].into_iter().collect(),
            body: "no value on the bus for 60 s".to_owned(),
        };
        VehicleErrors { errors: vec![error], created_at: Some(timestamp(now)), vin: self.vin.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use fleet_telemetry::proto::vehicle_data::{Datum, Field, value};

    use super::*;

    fn hours(seed: u64, string_share: f64) -> Vec<(&'static str, Vec<u8>)> {
        let mut drive = Drive::new("VIN", fastrand::Rng::with_seed(seed), string_share);
        let start = SystemTime::now();
        (0..14_400).flat_map(|tick| drive.tick(start + Duration::from_millis(500 * tick))).collect()
    }

    fn by_topic(messages: &[(&'static str, Vec<u8>)]) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (topic, _) in messages {
            *counts.entry(*topic).or_default() += 1;
        }
        counts
    }

    fn data(messages: &[(&'static str, Vec<u8>)]) -> Vec<Datum> {
        let of_v = messages.iter().filter(|(topic, _)| *topic == "V");
        of_v.flat_map(|(_, payload)| Payload::decode(&payload[..]).expect("topic V").data).collect()
    }

    #[test]
    fn two_hours_bring_data_alerts_and_errors() {
        let counts = by_topic(&hours(1, 0.0));
        assert!(counts["V"] > 1_000 && counts["V"] < 14_400, "{counts:?}");
        assert!(counts["alerts"] > 5 && counts["errors"] > 1, "{counts:?}");
    }

    #[test]
    fn the_same_seed_brings_the_same_day() {
        let vins = |seed| hours(seed, 0.5).len();
        assert_eq!(vins(4), vins(4));
        assert_ne!(vins(4), vins(5));
    }

    #[test]
    fn old_vehicles_send_locations_and_numbers_as_strings() {
        let data = data(&hours(2, 1.0));
        let text = |datum: &Datum| match datum.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(value::Value::StringValue(text)) => text.clone(),
            other => panic!("not a string: {other:?}"),
        };
        let location = data.iter().find(|datum| datum.key == i32::from(Field::Location)).map(text);
        assert!(
            location.is_some_and(|text| text.starts_with("(37.") && text.ends_with(" W)") && text.contains(" N, "))
        );
        assert!(data.iter().map(text).any(|text| text.contains("e-") && text.contains('.')), "scientific notation");
    }

    #[test]
    fn new_vehicles_send_a_typed_location() {
        let data = data(&hours(2, 0.0));
        let location = data.iter().find(|datum| datum.key == i32::from(Field::Location)).expect("a location");
        let value = location.value.as_ref().and_then(|value| value.value.as_ref());
        assert!(matches!(value, Some(value::Value::LocationValue(at)) if (37.0..38.0).contains(&at.latitude)));
    }
}
