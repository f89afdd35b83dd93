//! All rules over one document.

use serde_json::{Map, Value};

use super::{Document, Version, fields, shape, trust};

/// What is known besides the document.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The registered domain of the application.
    pub domain: Option<String>,
    /// Scopes that the owner has given; `None`: not known.
    pub scopes: Option<Vec<String>>,
    /// The owner has location turned off for others (`granular_access.hide_private`).
    pub hide_private: bool,
    /// The vehicle's firmware.
    pub firmware: Option<Version>,
    /// Seconds since the epoch.
    pub now: i64,
}

/// What was found, each with the member that is to blame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The maker, or the vehicle, would refuse it.
    pub errors: Vec<String>,
    /// It may not do what is wanted.
    pub warnings: Vec<String>,
}

impl Judgement {
    /// Nothing keeps it from being sent.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn refuse(&mut self, member: &str, problem: impl AsRef<str>) {
        self.errors.push(format!("{member}: {}", problem.as_ref()));
    }

    pub(super) fn warn(&mut self, member: &str, advice: impl AsRef<str>) {
        self.warnings.push(format!("{member}: {}", advice.as_ref()));
    }
}

/// Judges `document`, and says everything at once.
#[must_use]
pub fn judge(document: &Document, facts: &Facts) -> Judgement {
    let mut found = Judgement::default();
    let config = &document.config;
    vins(&document.vins, &mut found);
    shape::hostname(config.get("hostname"), facts.domain.as_deref(), &mut found);
    shape::port(config.get("port"), &mut found);
    trust::ca(config.get("ca"), facts.now, &mut found);
    fields::fields(config.get("fields"), facts, &mut found);
    shape::alert_types(config.get("alert_types"), &mut found);
    shape::delivery_policy(config.get("delivery_policy"), facts, &mut found);
    shape::exp(config.get("exp"), facts.now, &mut found);
    strangers(config, &mut found);
    consent(document, facts, &mut found);
    found
}

/// Whether `vin` has the form of one.
fn is_vin(vin: &str) -> bool {
    vin.len() == 17 && vin.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

fn vins(vins: &[String], found: &mut Judgement) {
    for (at, vin) in vins.iter().enumerate() {
        if !is_vin(vin) {
            let vin = crate::escape::escape(vin.as_bytes(), 40);
            found.refuse(
                &format!("vins[{at}]"),
                format!("\"{vin}\" is no VIN, which has 17 digits and capital letters"),
            );
        }
        if vins[..at].contains(vin) {
            found.warn(&format!("vins[{at}]"), format!("{vin} is listed twice"));
        }
    }
}

/// Members that have no place in a configuration.
fn strangers(config: &Map<String, Value>, found: &mut Judgement) {
    const KNOWN: [&str; 7] = ["hostname", "port", "ca", "fields", "alert_types", "delivery_policy", "exp"];
    for member in config.keys().filter(|member| !KNOWN.contains(&member.as_str())) {
        match member.as_str() {
            "iss" | "aud" => found.refuse(member, "is set by whoever signs; leave it out"),
            "prefer_typed" => found.warn(member, "is obsolete: vehicles always send typed values; leave it out"),
            other => {
                let other = crate::escape::escape(other.as_bytes(), 60);
                found.refuse(&other, format!("unknown member; there are {}", KNOWN.join(", ")));
            }
        }
    }
}

/// The whole configuration is taken away from a vehicle whose owner has not allowed all of it.
fn consent(document: &Document, facts: &Facts, found: &mut Judgement) {
    let location: Vec<_> = document.location_fields().collect();
    let Some(first) = location.first() else { return };
    let names = location.join(", ");
    let lacks = facts.scopes.as_ref().is_some_and(|scopes| !scopes.iter().any(|scope| scope == "vehicle_location"));
    if lacks {
        found.refuse(
            &format!("fields.{first}"),
            format!(
                "the owner has not given the scope vehicle_location, which {names} need; ask for it, or leave them out"
            ),
        );
    }
    if facts.hide_private {
        found.refuse(
            &format!("fields.{first}"),
            format!(
                "the owner keeps the place of this shared vehicle private, so {names} cannot be had; leave them out"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_decides_whether_location_can_be_asked_for() {
        let document = Document::parse(br#"{"fields": {"Location": {"interval_seconds": 1}}}"#).unwrap();
        let about = |facts: &Facts| {
            let found = judge(&document, facts);
            found.errors.into_iter().filter(|error| error.starts_with("fields.Location")).collect::<Vec<_>>()
        };
        assert!(about(&Facts::default()).is_empty());
        let scopes = |scopes: &[&str]| Some(scopes.iter().map(|scope| (*scope).to_owned()).collect());
        let all = scopes(&["vehicle_device_data", "vehicle_location"]);
        assert!(about(&Facts { scopes: all.clone(), ..Facts::default() }).is_empty());
        let without = about(&Facts { scopes: scopes(&["vehicle_device_data"]), ..Facts::default() });
        assert!(without[0].contains("has not given the scope vehicle_location"), "{without:?}");
        let hidden = about(&Facts { scopes: all, hide_private: true, ..Facts::default() });
        assert!(hidden[0].contains("keeps the place of this shared vehicle private"), "{hidden:?}");
    }
}
