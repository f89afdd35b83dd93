//! `kafka` and `kafka_options`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{ConfigError, Problems, Warning};
use super::file::FileConfig;
use super::json::Json;
use super::{AckRule, DispatcherName, InFlight, Kafka, Route};

/// Keys of the Go client that the reference server is built on; librdkafka does not know them.
const GO_CLIENT: &str = "go.";

/// A value in `kafka`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaValue {
    /// As librdkafka takes it.
    Text(String),
    /// No scalar; the type in the words of the reference server's decoder.
    Unusable(&'static str),
}

/// Reads the section.
pub(super) fn values(entries: Vec<(String, Json)>) -> Vec<(String, KafkaValue)> {
    entries.into_iter().map(|(key, json)| (key, KafkaValue::of(json))).collect()
}

impl KafkaValue {
    /// Numbers are cut to integers, since librdkafka has no others where JSON writes `1e6` or `10.0`.
    fn of(json: Json) -> Self {
        match json {
            Json::String(text) => Self::Text(text),
            Json::Bool(value) => Self::Text(value.to_string()),
            // Adding 0 turns -0 into 0.
            Json::Number(number) => Self::Text(match number.as_f64() {
                Some(float) if number.is_f64() => format!("{:.0}", float.trunc() + 0.0),
                _ => number.to_string(),
            }),
            Json::Null => Self::Unusable("<nil>"),
            Json::Array(_) => Self::Unusable("[]interface {}"),
            Json::Object(_) => Self::Unusable("map[string]interface {}"),
        }
    }
}

/// Fills in defaults and checks what only librdkafka would find, and late.
pub(super) fn resolve(file: &FileConfig, used: bool, routes: &[Route], problems: &mut Problems) -> Option<Kafka> {
    let options = &file.kafka_options;
    let max_unsettled = InFlight {
        // librdkafka's own bound on its queue.
        records: problems.number("kafka_options.max_unsettled", options.max_unsettled, 1..=10_000_000, 100_000),
        // 2.6 kB for each of those. librdkafka copies what it holds, so twice as much memory.
        bytes: problems.number(
            "kafka_options.max_unsettled_bytes",
            options.max_unsettled_bytes,
            1 << 20..=1 << 40,
            256 << 20,
        ),
    };
    let connect_timeout = problems.duration(
        "kafka_options.connect_timeout",
        options.connect_timeout,
        Duration::from_millis(10)..=Duration::from_secs(3600),
        Duration::from_secs(30),
    );
    if !used {
        return None;
    }
    let Some(entries) = &file.kafka else {
        problems.error(ConfigError::NotConfigured { dispatcher: "Kafka" });
        return None;
    };
    let properties = properties(entries, problems);
    check(&properties, routes, problems);
    Some(Kafka { properties, max_unsettled, connect_timeout })
}

fn properties(entries: &[(String, KafkaValue)], problems: &mut Problems) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (key, value) in entries {
        match value {
            KafkaValue::Unusable(found) => {
                problems.error(ConfigError::KafkaValue { property: crate::logging::escape(key.as_bytes(), 80), found });
            }
            KafkaValue::Text(_) if key.starts_with(GO_CLIENT) => {
                let why = "it configures the Go client, which this server does not use";
                problems.warn(Warning::NoEffect { key: format!("kafka.{key}"), why });
            }
            KafkaValue::Text(text) => {
                properties.insert(key.clone(), text.clone());
            }
        }
    }
    properties
}

fn check(properties: &BTreeMap<String, String>, routes: &[Route], problems: &mut Problems) {
    let value = |keys: [&str; 2]| keys.into_iter().find_map(|key| properties.get(key)).map(String::as_str);
    if value(["bootstrap.servers", "metadata.broker.list"]).unwrap_or_default().is_empty() {
        problems.error(ConfigError::Missing {
            key: "kafka.bootstrap.servers",
            remedy: "give the brokers, such as \"kafka-1:9092,kafka-2:9092\"",
        });
    }
    if properties.get("delivery.report.only.error").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        problems.error(ConfigError::Conflict {
            key: "kafka.delivery.report.only.error",
            problem: "true would hide successful deliveries, which acks wait for".to_owned(),
        });
    }
    let waits = routes.iter().any(|route| match route.ack {
        AckRule::OnReceipt => false,
        AckRule::AllDurable => route.dispatchers.contains(&DispatcherName::Kafka),
        AckRule::By(decider) => decider == DispatcherName::Kafka,
    });
    if waits && value(["acks", "request.required.acks"]) == Some("0") {
        problems.advise(
            "kafka.acks",
            "with 0 no broker confirms anything: vehicles are acked for records that may be lost",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_numbers_to_integers() {
        let of = |json: &str| KafkaValue::of(serde_json::from_str(json).unwrap());
        for (json, text) in
            [("1000000.0", "1000000"), ("1e6", "1000000"), ("-1.9", "-1"), ("-0.5", "0"), ("7", "7"), ("true", "true")]
        {
            assert_eq!(of(json), KafkaValue::Text(text.to_owned()));
        }
        assert_eq!(of("18446744073709551615"), KafkaValue::Text("18446744073709551615".to_owned()));
        assert_eq!(of(r#""x""#), KafkaValue::Text("x".to_owned()));
    }

    #[test]
    fn names_other_types_as_the_reference_does() {
        let of = |json: &str| KafkaValue::of(serde_json::from_str(json).unwrap());
        assert_eq!(of("null"), KafkaValue::Unusable("<nil>"));
        assert_eq!(of("[]"), KafkaValue::Unusable("[]interface {}"));
        assert_eq!(of("{}"), KafkaValue::Unusable("map[string]interface {}"));
    }
}
