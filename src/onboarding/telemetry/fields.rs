//! `fields`: what is sent, how often, and from which change on.

use serde_json::{Map, Value};

use super::Document;
use super::cost::{Cost, SIGNALS_PER_DOLLAR};
use super::firmware::{self, DELTA, INCLUDE, LATEST};
use super::judge::{Facts, Judgement};
use crate::escape::escape;
use crate::proto::vehicle_data::Field;

/// Signals a second above which the maker refused a configuration in 2024; today's limit is not known.
const MAX_RATE: f64 = 10.0;

pub(super) fn fields(value: Option<&Value>, facts: &Facts, found: &mut Judgement) {
    let fields = match value {
        None => return found.refuse("fields", "missing; name what is to be sent"),
        Some(Value::Object(fields)) => fields,
        Some(other) => return found.refuse("fields", format!("expected an object, found {other}")),
    };
    if fields.is_empty() {
        found.warn("fields", "empty: nothing will be sent");
    }
    for (name, value) in fields {
        let member = format!("fields.{}", escape(name.as_bytes(), 60));
        let Some(number) = number(name) else {
            found.refuse(&member, unknown(name));
            continue;
        };
        supported(&member, number, facts, found);
        match value {
            Value::Object(field) => settings(&member, name, field, facts, found),
            other => found.refuse(&member, format!("expected an object with interval_seconds, found {other}")),
        }
    }
    rate(fields, found);
}

/// Of a field that vehicles know; the obsolete ones are not among them.
fn number(name: &str) -> Option<i32> {
    let field = Field::from_str_name(name)?;
    (field != Field::Unknown && !name.starts_with("Deprecated")).then_some(field as i32)
}

fn unknown(name: &str) -> String {
    const SIMILAR: f64 = 0.85;
    let names = (1..crate::scope::FIELD_COUNT).filter_map(|number| Field::try_from(i32::try_from(number).ok()?).ok());
    let nearest = names
        .map(|field| field.as_str_name())
        .map(|known| (known, strsim::jaro_winkler(&known.to_ascii_lowercase(), &name.to_ascii_lowercase())))
        .filter(|(_, similarity)| *similarity >= SIMILAR)
        .max_by(|(_, a), (_, b)| a.total_cmp(b));
    let nearest = nearest.map(|(known, _)| format!("; did you mean \"{known}\"?")).unwrap_or_default();
    format!("no field that vehicles know (case matters){nearest}")
}

fn supported(member: &str, number: i32, facts: &Facts, found: &mut Judgement) {
    if firmware::is_semi_only(number) {
        found.warn(member, "only the truck (Semi) sends it");
    }
    let (Some(version), Some(floor)) = (&facts.firmware, firmware::floor(number)) else { return };
    if firmware::is_below(version, floor) {
        found.warn(member, format!("needs firmware {floor}, the vehicle has {version}"));
    }
}

fn settings(member: &str, name: &str, field: &Map<String, Value>, facts: &Facts, found: &mut Judgement) {
    let interval = interval(member, field.get("interval_seconds"), found);
    let needs = |setting: &str, floor: &str, found: &mut Judgement| {
        if facts.firmware.as_ref().is_some_and(|version| firmware::is_below(version, floor)) {
            found.warn(&format!("{member}.{setting}"), format!("needs firmware {floor}"));
        }
    };
    for (setting, value) in field {
        let path = format!("{member}.{}", escape(setting.as_bytes(), 60));
        match setting.as_str() {
            "interval_seconds" => {}
            "minimum_delta" => {
                delta(&path, name, value, found);
                needs(setting, if name == "Location" { LATEST } else { DELTA }, found);
            }
            "resend_interval_seconds" => {
                resend(&path, value, interval, found);
                needs(setting, DELTA, found);
            }
            "include_fields" => {
                found.warn(&path, "its meaning is not documented; it is passed on as it is");
                needs(setting, INCLUDE, found);
            }
            _ => found.refuse(
                &path,
                "unknown; there are interval_seconds, minimum_delta, resend_interval_seconds, include_fields",
            ),
        }
    }
    if name == "SelfDrivingMilesSinceReset" && !field.contains_key("minimum_delta") {
        found.refuse(&format!("{member}.minimum_delta"), "missing; this field needs at least 1");
    }
}

fn interval(member: &str, value: Option<&Value>, found: &mut Judgement) -> Option<u64> {
    let path = format!("{member}.interval_seconds");
    let Some(value) = value else {
        found.refuse(&path, "missing; give integer seconds, at least 1");
        return None;
    };
    let seconds = value.as_u64().filter(|seconds| *seconds >= 1);
    if seconds.is_none() {
        found.refuse(&path, format!("{value} is not an integer of at least 1"));
    }
    seconds
}

fn delta(path: &str, name: &str, value: &Value, found: &mut Judgement) {
    match value.as_f64() {
        None => found.refuse(path, format!("expected a number, found {value}")),
        Some(delta) if delta < 0.0 => found.refuse(path, format!("{delta} is below 0")),
        Some(delta) if name == "SelfDrivingMilesSinceReset" && delta < 1.0 => {
            found.refuse(path, format!("{delta} is below 1, the least for this field"));
        }
        Some(_) => {}
    }
}

fn resend(path: &str, value: &Value, interval: Option<u64>, found: &mut Judgement) {
    match (value.as_u64(), interval) {
        (None | Some(0), _) => found.refuse(path, format!("{value} is not an integer of at least 1")),
        (Some(resend), Some(interval)) if resend < interval => {
            found.refuse(path, format!("{resend} is below interval_seconds = {interval}, which makes no sense"));
        }
        _ => {}
    }
}

fn rate(fields: &Map<String, Value>, found: &mut Judgement) {
    let document =
        Document { config: Map::from_iter([("fields".to_owned(), fields.clone().into())]), vins: Vec::new() };
    let rate = Cost::of(&document, SIGNALS_PER_DOLLAR).signals_per_second;
    if rate > MAX_RATE {
        found.warn(
            "fields",
            format!("up to {rate:.1} signals a second; above {MAX_RATE} the maker has refused (\"Total transfer rate too high\")"),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Version;
    use super::*;

    fn judged(fields: Value, firmware: Option<&str>) -> Judgement {
        let facts = Facts { firmware: firmware.and_then(Version::parse), ..Facts::default() };
        let mut found = Judgement::default();
        super::fields(Some(&fields), &facts, &mut found);
        found
    }

    #[test]
    fn good_fields_are_good() {
        let fields = json!({
            "Soc": {"interval_seconds": 60, "resend_interval_seconds": 300},
            "Location": {"interval_seconds": 10, "minimum_delta": 25},
            "SelfDrivingMilesSinceReset": {"interval_seconds": 60, "minimum_delta": 1},
        });
        assert_eq!(judged(fields, Some("2026.32")), Judgement::default());
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let found = judged(
            json!({
                "soc": {"interval_seconds": 60},
                "Nonsense": {"interval_seconds": 60},
                "Gear": {},
                "Odometer": {"interval_seconds": 0},
                "Location": {"interval_seconds": 1.5, "minimum_delta": "far"},
                "RatedRange": {"interval_seconds": 60, "resend_interval_seconds": 30, "minimum_delta": -1},
                "SelfDrivingMilesSinceReset": {"interval_seconds": 60},
                "Locked": 5,
                "BatteryLevel": {"interval_seconds": 1, "every": 2},
            }),
            None,
        );
        let mut errors: Vec<_> = found.errors.iter().map(|error| error.split(": ").next().unwrap()).collect();
        errors.sort_unstable();
        assert_eq!(
            errors,
            [
                "fields.BatteryLevel.every",
                "fields.Gear.interval_seconds",
                "fields.Location.interval_seconds",
                "fields.Location.minimum_delta",
                "fields.Locked",
                "fields.Nonsense",
                "fields.Odometer.interval_seconds",
                "fields.RatedRange.minimum_delta",
                "fields.RatedRange.resend_interval_seconds",
                "fields.SelfDrivingMilesSinceReset.minimum_delta",
                "fields.soc",
            ]
        );
        let soc = found.errors.iter().find(|error| error.starts_with("fields.soc")).unwrap();
        assert!(soc.ends_with("did you mean \"Soc\"?"), "{soc}");
    }

    #[test]
    fn old_firmware_and_high_rates_are_warned_of() {
        let found = judged(
            json!({"LocatedAtHome": {"interval_seconds": 60, "minimum_delta": 1}, "SemitruckTpmsPressureRe1L0": {"interval_seconds": 1}}),
            Some("2024.26.1"),
        );
        assert!(found.errors.is_empty(), "{found:?}");
        let warned = found.warnings.join("\n");
        for text in ["LocatedAtHome: needs firmware 2024.44.32", "minimum_delta: needs firmware", "only the truck"] {
            assert!(warned.contains(text), "{text} in {warned}");
        }
        let names = ["Soc", "Gear", "Locked", "Odometer", "BatteryLevel", "RatedRange", "VehicleSpeed", "ChargeState"];
        let more = ["PedalPosition", "BrakePedal", "DoorState"];
        let fast: Map<_, _> =
            names.iter().chain(&more).map(|name| ((*name).to_owned(), json!({"interval_seconds": 1}))).collect();
        assert!(judged(fast.into(), None).warnings[0].contains("up to 11.0 signals a second"));
        assert!(judged(json!({}), None).warnings[0].contains("nothing will be sent"));
    }
}
