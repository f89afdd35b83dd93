//! Is a vehicle told what it should be told?

use std::collections::BTreeSet;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value};

use super::fleet_api::CurrentConfig;
use super::key::FleetKey;
use super::token;

/// What differs between `wanted` and what the maker says a vehicle is told; nothing when it is as wanted.
#[must_use]
pub fn drift(wanted: &Map<String, Value>, current: &CurrentConfig, key: &FleetKey) -> Vec<String> {
    let Some(config) = &current.config else { return vec!["it has no configuration of ours".to_owned()] };
    let mut differs = Vec::new();
    match config.get("iss").and_then(Value::as_str).map(token::issuer) {
        // Not every answer has it.
        None => {}
        Some(Some(issuer)) if issuer == key.public() => {}
        Some(_) => differs.push("iss: signed with another key than ours, so the vehicle will refuse it".to_owned()),
    }
    for member in ["hostname", "port", "alert_types", "exp"] {
        let (wanted, found) = (plain(wanted.get(member)), plain(config.get(member)));
        // `alert_types` may stand elsewhere in the answer.
        if wanted != found && !(member == "alert_types" && found == Value::Null) {
            differs.push(format!("{member}: {found}, wanted is {wanted}"));
        }
    }
    if authorities(wanted.get("ca")) != authorities(config.get("ca")) {
        differs.push("ca: other certificates than wanted".to_owned());
    }
    fields(wanted.get("fields"), config.get("fields"), &mut differs);
    differs
}

fn fields(wanted: Option<&Value>, found: Option<&Value>, differs: &mut Vec<String>) {
    let object = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let (wanted, found) = (object(wanted), object(found));
    let names: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    for name in names {
        match (wanted.get(name), found.get(name)) {
            (Some(_), None) => differs.push(format!("fields.{name}: is not there")),
            (None, Some(_)) => differs.push(format!("fields.{name}: is not wanted")),
            (wanted, found) if plain(wanted) != plain(found) => {
                differs.push(format!("fields.{name}: {}, wanted is {}", plain(found), plain(wanted)));
            }
            _ => {}
        }
    }
}

/// In one form: 1.0 is 1, a number in a text is a number, and what is null is not there.
fn plain(value: Option<&Value>) -> Value {
    match value {
        None | Some(Value::Null) => Value::Null,
        Some(Value::Number(number)) => number.as_f64().map_or(Value::Null, |number| format!("{number}").into()),
        Some(Value::String(text)) => Value::String(text.clone()),
        Some(Value::Array(list)) => {
            let mut list: Vec<_> = list.iter().map(|value| plain(Some(value))).collect();
            list.sort_by_key(ToString::to_string);
            list.into()
        }
        Some(Value::Object(object)) => {
            let members = object.iter().map(|(name, value)| (name.clone(), plain(Some(value))));
            members.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
        }
        Some(other) => other.clone(),
    }
}

/// The certificates, whatever their order and white space.
fn authorities(pem: Option<&Value>) -> BTreeSet<Vec<u8>> {
    let text = pem.and_then(Value::as_str).unwrap_or_default();
    CertificateDer::pem_slice_iter(text.as_bytes()).flatten().map(|der| der.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn only_what_differs_is_told() {
        let key = FleetKey::generate().unwrap();
        let iss = data_encoding::BASE64.encode(&key.point());
        let wanted = map(json!({
            "hostname": "t.example.com", "port": 443, "ca": "", "alert_types": ["service", "customer"],
            "fields": {"Soc": {"interval_seconds": 60}, "Location": {"interval_seconds": 10, "minimum_delta": 25}},
        }));
        let told = |config: Value| CurrentConfig { config: Some(map(config)), ..CurrentConfig::default() };
        let same = told(json!({
            "hostname": "t.example.com", "port": "443", "ca": "", "iss": iss, "aud": "x",
            "fields": {"Location": {"interval_seconds": 10.0, "minimum_delta": 25.0}, "Soc": {"interval_seconds": 60}},
        }));
        assert_eq!(drift(&wanted, &same, &key), [""; 0]);
        let other = told(json!({
            "hostname": "u.example.com", "port": 443, "ca": "", "iss": "AAAA", "alert_types": ["service"],
            "fields": {"Soc": {"interval_seconds": 30}, "Gear": {"interval_seconds": 1}},
        }));
        let found = drift(&wanted, &other, &key);
        let names: Vec<_> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(names, ["iss", "hostname", "alert_types", "fields.Gear", "fields.Location", "fields.Soc"]);
        let none = drift(&wanted, &CurrentConfig { synced: true, ..CurrentConfig::default() }, &key);
        assert_eq!(none, ["it has no configuration of ours"], "whatever synced says");
    }

    #[test]
    fn certificates_are_compared_by_what_they_are() {
        let one = rcgen::generate_simple_self_signed(vec!["one".to_owned()]).unwrap().cert.pem();
        let two = rcgen::generate_simple_self_signed(vec!["two".to_owned()]).unwrap().cert.pem();
        let both = |first: &str, second: &str| Some(json!(format!("{first}{second}")));
        assert_eq!(
            authorities(both(&one, &two).as_ref()),
            authorities(both(&two, &one.replace("\r\n", "\n")).as_ref())
        );
        assert_ne!(authorities(both(&one, "").as_ref()), authorities(both(&one, &two).as_ref()));
    }
}
