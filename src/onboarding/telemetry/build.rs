//! A configuration from a few words: which fields, how often.

use serde_json::{Map, Value, json};

use crate::config::{RESEND_SECONDS, Telemetry};

/// What the configuration of the server wants.
///
/// # Errors
/// When `onboarding.telemetry.ca_file` cannot be read.
pub fn of_server(section: &Telemetry) -> Result<Map<String, Value>, String> {
    let path = &section.ca_file;
    let ca = std::fs::read_to_string(path)
        .map_err(|error| format!("onboarding.telemetry.ca_file: {}: {error}", path.display()))?;
    Ok(assemble(&section.hostname, section.port, &ca, section.fields.clone(), &section.alert_types))
}

/// `NAME=SECONDS`, or `NAME=SECONDS:DELTA`.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Of a field.
    pub name: String,
    /// Sent at most so often.
    pub interval_seconds: u64,
    /// Sent only when it has changed by so much.
    pub minimum_delta: Option<f64>,
}

/// Why a text does not say what is wanted.
#[derive(Debug, thiserror::Error)]
#[error("\"{text}\": must be NAME=SECONDS or NAME=SECONDS:DELTA, such as Soc=60 or Location=10:25")]
pub struct WantedError {
    text: String,
}

impl std::str::FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, WantedError> {
        let error = || WantedError { text: crate::escape::escape(text.as_bytes(), 100) };
        let (name, rest) = text.split_once('=').ok_or_else(error)?;
        let (seconds, delta) = rest.split_once(':').map_or((rest, None), |(seconds, delta)| (seconds, Some(delta)));
        let minimum_delta = delta.map(|delta| delta.parse::<f64>().map_err(|_| error())).transpose()?;
        let interval_seconds = seconds.parse().map_err(|_| error())?;
        Ok(Self { name: name.to_owned(), interval_seconds, minimum_delta })
    }
}

/// What vehicles are told. Whether it is good is up to [`super::judge()`].
#[must_use]
pub fn build(hostname: &str, port: u16, ca: &str, wanted: &[Wanted], alert_types: &[String]) -> Map<String, Value> {
    let fields = wanted.iter().map(|wanted| (wanted.name.clone(), field(wanted))).collect();
    assemble(hostname, port, ca, fields, alert_types)
}

fn assemble(
    hostname: &str,
    port: u16,
    ca: &str,
    fields: Map<String, Value>,
    alert_types: &[String],
) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("hostname".to_owned(), hostname.into());
    config.insert("port".to_owned(), port.into());
    config.insert("ca".to_owned(), ca.into());
    config.insert("fields".to_owned(), fields.into());
    config.insert("delivery_policy".to_owned(), "latest".into());
    if !alert_types.is_empty() {
        config.insert("alert_types".to_owned(), json!(alert_types));
    }
    config
}

fn field(wanted: &Wanted) -> Value {
    let resend = RESEND_SECONDS.max(wanted.interval_seconds);
    let mut field = json!({"interval_seconds": wanted.interval_seconds, "resend_interval_seconds": resend});
    if let Some(delta) = wanted.minimum_delta {
        field["minimum_delta"] = delta.into();
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_given_in_few_words() {
        let wanted: Vec<Wanted> =
            ["Soc=60", "Location=10:25", "Odometer=600"].map(|text| text.parse().unwrap()).to_vec();
        let config = build("t.example.com", 443, "PEM", &wanted, &["service".to_owned()]);
        assert_eq!(
            Value::Object(config),
            json!({
                "hostname": "t.example.com", "port": 443, "ca": "PEM", "delivery_policy": "latest", "alert_types": ["service"],
                "fields": {
                    "Soc": {"interval_seconds": 60, "resend_interval_seconds": 300},
                    "Location": {"interval_seconds": 10, "resend_interval_seconds": 300, "minimum_delta": 25.0},
                    "Odometer": {"interval_seconds": 600, "resend_interval_seconds": 600},
                },
            })
        );
        for bad in ["Soc", "Soc=", "Soc=x", "Soc=1:x", "=", ""] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }
}
