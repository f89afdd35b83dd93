//! Home Assistant's discovery messages: one for each field of a vehicle, retained, before its first value.
//!
//! A field whose consent has ended is taken back with an empty message under the same topics.

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::entities::{Entity, State, entity};
use super::messages::{Message, field_topic};
use crate::proto::vehicle_data::Field;
use crate::record::decoded::field_name;

/// What all discovery messages have in common.
#[derive(Clone, Debug)]
pub(super) struct Discovery {
    /// Where Home Assistant looks.
    pub(super) prefix: String,
    /// Connectivity records go to MQTT, so that it is known which vehicles are there.
    pub(super) has_connectivity: bool,
}

const YES_OR_NO: &str = "{{ 'None' if value_json is none else 'ON' if value_json|string|lower == 'true' else 'OFF' }}";
const IS_OPEN: &str = "{{ 'None' if value_json is none else 'OFF' if value_json|string|lower == 'true' else 'ON' }}";
/// A state has 255 characters at most.
const ANYTHING: &str = "{{ (value_json|string)[:255] }}";
const DOORS: [(&str, &str); 6] = [
    ("DriverFront", "door"),
    ("DriverRear", "door"),
    ("PassengerFront", "door"),
    ("PassengerRear", "door"),
    ("TrunkFront", "opening"),
    ("TrunkRear", "opening"),
];

impl Discovery {
    /// The messages that announce field `key` of the vehicle whose topics begin with `vehicle`; none for a field that
    /// the schema does not know or that says nothing.
    pub(super) fn announce(&self, vin: &str, vehicle: &str, key: i32) -> Vec<Message> {
        self.parts(vin, vehicle, key).into_iter().map(|part| part.message(self, vin, vehicle)).collect()
    }

    /// What takes them back.
    pub(super) fn withdraw(&self, vin: &str, vehicle: &str, key: i32) -> Vec<Message> {
        let parts = self.parts(vin, vehicle, key).into_iter();
        parts.map(|part| Message { topic: part.topic(self, vin), payload: String::new(), field: None }).collect()
    }

    fn parts(&self, vin: &str, vehicle: &str, key: i32) -> Vec<Part> {
        let Ok(field) = Field::try_from(key) else { return Vec::new() };
        let topic = field_topic(vehicle, key);
        let name = field_name(key);
        let part = |component, settings: Value| Part { component, object: name.to_string(), settings };
        match entity(field) {
            Entity::Nothing => Vec::new(),
            Entity::Measured { class, unit, state } => {
                let mut settings = json!({
                    "state_topic": topic, "value_template": "{{ value_json }}", "unit_of_measurement": unit,
                });
                set_unless_empty(&mut settings, "device_class", class);
                set_unless_empty(&mut settings, "state_class", state.label());
                vec![part("sensor", settings)]
            }
            Entity::Binary { class } => {
                let mut settings = json!({ "state_topic": topic, "value_template": YES_OR_NO });
                set_unless_empty(&mut settings, "device_class", class);
                vec![part("binary_sensor", settings)]
            }
            Entity::Lock => {
                let settings = json!({ "state_topic": topic, "value_template": IS_OPEN, "device_class": "lock" });
                vec![part("binary_sensor", settings)]
            }
            Entity::Doors => DOORS.map(|(door, class)| door_part(&name, door, class, &topic)).into(),
            // Home Assistant finds the zone from the coordinates.
            Entity::Place => {
                vec![part("device_tracker", json!({ "json_attributes_topic": topic, "source_type": "gps" }))]
            }
            Entity::Tires => {
                let count = "{{ 'None' if value_json is none else value_json|length }}";
                let settings = json!({ "state_topic": topic, "value_template": count, "json_attributes_topic": topic });
                vec![part("sensor", settings)]
            }
            Entity::Plain => vec![part("sensor", json!({ "state_topic": topic, "value_template": ANYTHING }))],
        }
        .into_iter()
        .map(|part| part.of(vin))
        .collect()
    }
}

impl State {
    fn label(self) -> &'static str {
        match self {
            Self::Measurement => "measurement",
            Self::Growing => "total_increasing",
            Self::Unclassed => "",
        }
    }
}

/// One entity of Home Assistant.
struct Part {
    component: &'static str,
    object: String,
    settings: Value,
}

impl Part {
    fn of(mut self, vin: &str) -> Self {
        self.settings["unique_id"] = json!(format!("{}_{}", node(vin), self.object));
        self.settings["name"] = json!(title(&self.object));
        self
    }

    fn topic(&self, discovery: &Discovery, vin: &str) -> String {
        let Self { component, object, .. } = self;
        format!("{}/{component}/{}/{object}/config", discovery.prefix, node(vin))
    }

    fn message(mut self, discovery: &Discovery, vin: &str, vehicle: &str) -> Message {
        let topic = self.topic(discovery, vin);
        self.settings["device"] = device(vin);
        self.settings["origin"] = json!({ "name": "fleet-telemetry", "sw_version": env!("CARGO_PKG_VERSION") });
        if discovery.has_connectivity {
            self.settings["availability"] = json!([{
                "topic": format!("{vehicle}connectivity"), "value_template": "{{ value_json.Status }}",
                "payload_available": "CONNECTED", "payload_not_available": "DISCONNECTED",
            }]);
        }
        Message { topic, payload: self.settings.to_string(), field: None }
    }
}

fn door_part(field: &str, door: &str, class: &str, topic: &str) -> Part {
    let template = format!(
        "{{{{ 'None' if value_json is none or value_json is string else 'ON' if value_json.{door} else 'OFF' }}}}"
    );
    let settings = json!({ "state_topic": topic, "value_template": template, "device_class": class });
    Part { component: "binary_sensor", object: format!("{field}_{door}"), settings }
}

fn set_unless_empty(settings: &mut Value, key: &str, value: &str) {
    if !value.is_empty() {
        settings[key] = json!(value);
    }
}

fn device(vin: &str) -> Value {
    let mut device = Map::new();
    device.insert("identifiers".to_owned(), json!([format!("fleet-telemetry_{}", node(vin))]));
    device.insert("manufacturer".to_owned(), json!("Tesla"));
    device.insert("name".to_owned(), json!(vin));
    device.insert("serial_number".to_owned(), json!(vin));
    if let Some(model) = model(vin) {
        device.insert("model".to_owned(), json!(model));
    }
    Value::Object(device)
}

/// The fourth character of a VIN.
fn model(vin: &str) -> Option<&'static str> {
    Some(match (vin.len(), vin.as_bytes().get(3)?) {
        (17, b'S') => "Model S",
        (17, b'3') => "Model 3",
        (17, b'X') => "Model X",
        (17, b'Y') => "Model Y",
        (17, b'C') => "Cybertruck",
        (17, b'R') => "Roadster",
        (17, b'T') => "Semi",
        _ => return None,
    })
}

/// The VIN in the letters that Home Assistant allows in an id; with a hash where that loses something.
fn node(vin: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !vin.is_empty() && vin.chars().all(is_allowed) {
        return vin.to_owned();
    }
    let replaced: String = vin.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
    format!("{replaced}_{:016x}", xxh3_64(vin.as_bytes()))
}

/// `DCChargingEnergyIn` becomes `DC charging energy in`.
fn title(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut title = String::with_capacity(name.len() + 8);
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let next_is_lower = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        let begins =
            letter.is_ascii_uppercase() && before.is_some_and(|before| !before.is_ascii_uppercase() || next_is_lower);
        if *letter == '_' || begins && before != Some('_') {
            title.push(' ');
        }
        match letter {
            '_' => {}
            letter if begins && next_is_lower => title.push(letter.to_ascii_lowercase()),
            letter => title.push(*letter),
        }
    }
    title
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn discovery() -> Discovery {
        Discovery { prefix: "homeassistant".to_owned(), has_connectivity: true }
    }

    fn announced(field: Field) -> Vec<(String, Value)> {
        let messages = discovery().announce("5YJ3E1EA1KF000001", "cars/5YJ3E1EA1KF000001/", field.into());
        messages.into_iter().map(|message| (message.topic, serde_json::from_str(&message.payload).unwrap())).collect()
    }

    #[test]
    fn a_measured_field_comes_with_its_unit_and_where_it_is_read() {
        let [(topic, config)] = &announced(Field::VehicleSpeed)[..] else { panic!("one entity") };
        assert_eq!(topic, "homeassistant/sensor/5YJ3E1EA1KF000001/VehicleSpeed/config");
        assert_eq!(
            *config,
            json!({
                "name": "Vehicle speed",
                "unique_id": "5YJ3E1EA1KF000001_VehicleSpeed",
                "state_topic": "cars/5YJ3E1EA1KF000001/v/VehicleSpeed",
                "value_template": "{{ value_json }}",
                "unit_of_measurement": "mph",
                "device_class": "speed",
                "state_class": "measurement",
                "device": {
                    "identifiers": ["fleet-telemetry_5YJ3E1EA1KF000001"], "manufacturer": "Tesla", "model": "Model 3",
                    "name": "5YJ3E1EA1KF000001", "serial_number": "5YJ3E1EA1KF000001",
                },
                "origin": { "name": "fleet-telemetry", "sw_version": env!("CARGO_PKG_VERSION") },
                "availability": [{
                    "topic": "cars/5YJ3E1EA1KF000001/connectivity", "value_template": "{{ value_json.Status }}",
                    "payload_available": "CONNECTED", "payload_not_available": "DISCONNECTED",
                }],
            })
        );
    }

    #[test]
    fn doors_are_six_entities_and_a_lock_says_on_when_it_is_open() {
        let doors = announced(Field::DoorState);
        assert_eq!(doors.len(), 6);
        assert_eq!(doors[5].0, "homeassistant/binary_sensor/5YJ3E1EA1KF000001/DoorState_TrunkRear/config");
        assert_eq!(doors[5].1["name"], "Door state trunk rear");
        let lock = &announced(Field::Locked)[0].1;
        assert_eq!(lock["device_class"], "lock");
        assert!(
            lock["value_template"].as_str().unwrap().contains("'OFF' if value_json|string|lower == 'true' else 'ON'")
        );
    }

    #[test]
    fn every_field_has_an_entity_of_its_own_that_can_be_taken_back() {
        let mut topics = HashSet::new();
        let mut ids = HashSet::new();
        let mut announced = 0;
        for key in 0..1_000 {
            let discovery = Discovery { has_connectivity: false, ..discovery() };
            let messages = discovery.announce("V", "b/V/", key);
            let withdrawn = discovery.withdraw("V", "b/V/", key);
            announced += usize::from(!messages.is_empty());
            assert_eq!(withdrawn.len(), messages.len());
            for (message, withdrawn) in messages.iter().zip(&withdrawn) {
                assert_eq!((&withdrawn.topic, withdrawn.payload.as_str()), (&message.topic, ""));
                let config: Value = serde_json::from_str(&message.payload).unwrap();
                assert!(topics.insert(message.topic.clone()) && ids.insert(config["unique_id"].to_string()), "{key}");
                assert!(config.get("availability").is_none(), "nobody says who is there");
                let is_read = config.get("state_topic").or(config.get("json_attributes_topic"));
                assert_eq!(is_read.unwrap().as_str().unwrap(), field_topic("b/V/", key));
            }
        }
        // All that the schema names, but `Unknown` and three that are deprecated.
        assert_eq!(announced, 268);
    }

    #[test]
    fn a_unit_is_one_that_its_class_allows() {
        let allowed = [
            ("speed", "mph"),
            ("distance", "mi"),
            ("distance", "m"),
            ("temperature", "°C"),
            ("pressure", "bar"),
            ("voltage", "V"),
            ("current", "A"),
            ("power", "kW"),
            ("energy", "kWh"),
            ("energy_storage", "kWh"),
            ("battery", "%"),
            ("duration", "h"),
            ("duration", "min"),
        ];
        for field in (0..1_000).filter_map(|key| Field::try_from(key).ok()) {
            if let Entity::Measured { class, unit, state } = entity(field) {
                assert!(class.is_empty() || allowed.contains(&(class, unit)), "{field:?}");
                assert!(class != "energy" || state == State::Growing, "{field:?}: statistics need a sum");
                assert!(!unit.is_empty(), "{field:?}");
            }
        }
    }

    #[test]
    fn names_are_words() {
        for (name, expected) in [
            ("Soc", "Soc"),
            ("DCChargingEnergyIn", "DC charging energy in"),
            ("HvacACEnabled", "Hvac AC enabled"),
            ("DiHeatsinkTREL", "Di heatsink TREL"),
            ("BMSState", "BMS state"),
            ("TpmsPressureFl", "Tpms pressure fl"),
            ("Setting24HourTime", "Setting24 hour time"),
        ] {
            assert_eq!(title(name), expected);
        }
    }

    #[test]
    fn ids_keep_to_the_letters_that_are_allowed_and_stay_apart() {
        assert_eq!(node("device-1"), "device-1");
        let (a, b) = (node("a/b"), node("a+b"));
        assert!(a.starts_with("a_b_") && b.starts_with("a_b_") && a != b, "{a} {b}");
    }
}
