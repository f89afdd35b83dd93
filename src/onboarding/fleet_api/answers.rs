//! What the vehicle maker answers, in the forms that are known. Where clients in the field have seen two, both are read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// A vehicle in an owner's account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Vehicle {
    /// Its VIN.
    pub vin: String,
    /// What the owner calls it.
    #[serde(default)]
    pub display_name: Option<String>,
    /// `OWNER` or `DRIVER`.
    #[serde(default)]
    pub access_type: Option<String>,
    #[serde(default)]
    granular_access: Option<GranularAccess>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct GranularAccess {
    #[serde(default)]
    hide_private: bool,
}

impl Vehicle {
    /// Its place is not for us, whatever the scopes say.
    #[must_use]
    pub fn hides_place(&self) -> bool {
        self.granular_access.as_ref().is_some_and(|access| access.hide_private)
    }
}

/// What vehicles need before they stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FleetStatus {
    /// Those that have the application's key. Only this list means paired.
    #[serde(default)]
    pub key_paired_vins: Vec<String>,
    /// By VIN.
    #[serde(default)]
    pub vehicle_info: BTreeMap<String, VehicleInfo>,
}

/// Of one vehicle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct VehicleInfo {
    /// Its firmware.
    #[serde(default)]
    pub firmware_version: Option<String>,
    /// Whether it needs the key.
    #[serde(default)]
    pub vehicle_command_protocol_required: Option<bool>,
    /// Sold with a discount for data.
    #[serde(default)]
    pub discounted_device_data: Option<bool>,
    /// The toggle on its screen; `None`: it has none.
    #[serde(default)]
    pub safety_screen_streaming_toggle_enabled: Option<bool>,
}

/// What one vehicle needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// It has the key.
    Paired,
    /// The owner has to add the key.
    KeyNeeded,
    /// It needs none, and streams.
    ToggleOn,
    /// It needs none; the owner has to switch something on.
    ToggleOff,
    /// It needs none, and cannot stream with its hardware.
    NotCapable,
    /// It needs none, and newer firmware.
    UpdateNeeded,
    /// The maker says nothing of it.
    Unknown,
}

impl FleetStatus {
    /// What `vin` needs next.
    #[must_use]
    pub fn pairing(&self, vin: &str) -> Pairing {
        if self.key_paired_vins.iter().any(|paired| paired == vin) {
            return Pairing::Paired;
        }
        let Some(info) = self.vehicle_info.get(vin) else { return Pairing::Unknown };
        if info.vehicle_command_protocol_required != Some(false) {
            return Pairing::KeyNeeded;
        }
        // The first firmware with which vehicles without the protocol stream.
        const FIRST: &str = "2025.20";
        use crate::onboarding::telemetry::Version;
        let version = info.firmware_version.as_deref().and_then(Version::parse);
        if version.is_some_and(|version| Version::parse(FIRST).is_some_and(|first| version < first)) {
            return Pairing::UpdateNeeded;
        }
        match info.safety_screen_streaming_toggle_enabled {
            Some(true) => Pairing::ToggleOn,
            None => Pairing::NotCapable,
            Some(false) if info.discounted_device_data == Some(true) => Pairing::ToggleOff,
            Some(false) => Pairing::KeyNeeded,
        }
    }
}

/// Why a vehicle got no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Which.
    pub vin: String,
    /// `missing_key`, `unsupported_hardware`, `unsupported_firmware`, `max_configs`, or what else the maker says.
    pub reason: String,
}

/// What became of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// How many vehicles took it.
    pub updated: u64,
    /// Those that did not, although the answer was 200.
    pub skipped: Vec<Skipped>,
}

impl Pushed {
    pub(super) fn read(response: &Value) -> Self {
        let updated = response.get("updated_vehicles").and_then(Value::as_u64).unwrap_or(0);
        let Some(Value::Object(map)) = response.get("skipped_vehicles") else {
            return Self { updated, skipped: Vec::new() };
        };
        Self { updated, skipped: map.iter().flat_map(|(key, value)| skipped(key, value)).collect() }
    }
}

/// A reason and its VINs, or (in one client's words) a VIN and its reason.
fn skipped(key: &str, value: &Value) -> Vec<Skipped> {
    match value {
        Value::Array(vins) => {
            let vins = vins.iter().filter_map(Value::as_str);
            vins.map(|vin| Skipped { vin: vin.to_owned(), reason: key.to_owned() }).collect()
        }
        Value::String(reason) => vec![Skipped { vin: key.to_owned(), reason: reason.clone() }],
        _ => Vec::new(),
    }
}

/// What a vehicle is told now.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct CurrentConfig {
    /// The vehicle has it.
    #[serde(default)]
    pub synced: bool,
    /// `None`: it has none, whatever `synced` says.
    #[serde(default)]
    pub config: Option<Map<String, Value>>,
    /// As many applications as it takes have one already.
    #[serde(default)]
    pub limit_reached: bool,
    /// It has the application's key.
    #[serde(default)]
    pub key_paired: Option<bool>,
}

/// What a vehicle reports of its trouble with us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VehicleError {
    /// Whose.
    pub vin: Option<String>,
    /// `created_at`, RFC 3339.
    pub at: Option<String>,
    /// In the vehicle's words.
    pub error: String,
}

impl VehicleError {
    /// The list may be bare, or a member of the answer.
    pub(super) fn list(response: &Value) -> Vec<Self> {
        let list = response.get("fleet_telemetry_errors").unwrap_or(response);
        let text = |error: &Value, member: &str| error.get(member).and_then(Value::as_str).map(str::to_owned);
        let one = |error: &Value| {
            Some(Self { vin: text(error, "vin"), at: text(error, "created_at"), error: text(error, "error")? })
        };
        list.as_array().into_iter().flatten().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn skipped_vehicles_are_read_in_both_forms() {
        let both = json!({"updated_vehicles": 1, "skipped_vehicles": {"missing_key": ["A", "B"], "C": "max_configs"}});
        let mut skipped = Pushed::read(&both).skipped;
        skipped.sort_by(|a, b| a.vin.cmp(&b.vin));
        let skipped: Vec<_> = skipped.iter().map(|one| (one.vin.as_str(), one.reason.as_str())).collect();
        assert_eq!(skipped, [("A", "missing_key"), ("B", "missing_key"), ("C", "max_configs")]);
        assert_eq!(Pushed::read(&json!({"updated_vehicles": 2})), Pushed { updated: 2, skipped: vec![] });
    }

    #[test]
    fn which_way_a_vehicle_goes_follows_what_the_maker_says_of_it() {
        let pairing = |info: Value| {
            let status = json!({"key_paired_vins": ["P"], "vehicle_info": {"V": info}});
            serde_json::from_value::<FleetStatus>(status).unwrap().pairing("V")
        };
        let old = |toggle: Value, discounted: bool, firmware: &str| {
            pairing(json!({"vehicle_command_protocol_required": false, "firmware_version": firmware,
                "safety_screen_streaming_toggle_enabled": toggle, "discounted_device_data": discounted}))
        };
        assert_eq!(pairing(json!({"vehicle_command_protocol_required": true})), Pairing::KeyNeeded);
        assert_eq!(pairing(json!({})), Pairing::KeyNeeded, "what is not known needs a key");
        assert_eq!(old(json!(true), false, "2025.20"), Pairing::ToggleOn);
        assert_eq!(old(json!(null), false, "2025.20.1"), Pairing::NotCapable);
        assert_eq!(old(json!(false), true, "2026.2"), Pairing::ToggleOff);
        assert_eq!(old(json!(false), false, "2026.2"), Pairing::KeyNeeded);
        assert_eq!(old(json!(true), true, "2025.14.3"), Pairing::UpdateNeeded);
        let status: FleetStatus = serde_json::from_value(json!({"key_paired_vins": ["P"]})).unwrap();
        assert_eq!((status.pairing("P"), status.pairing("Q")), (Pairing::Paired, Pairing::Unknown));
    }

    #[test]
    fn errors_of_vehicles_are_a_list_or_a_member() {
        let error = json!({"vin": "V", "error": "EOF", "created_at": "2026-11-01T10:00:00Z", "port": "443"});
        for answer in [json!([error]), json!({"fleet_telemetry_errors": [error]})] {
            assert_eq!(VehicleError::list(&answer)[0].error, "EOF");
        }
        assert!(VehicleError::list(&json!({})).is_empty());
    }
}
