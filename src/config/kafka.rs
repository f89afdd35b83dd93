//! `kafka` and `kafka_options`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{ConfigError, Problems, Warning};
use super::file::{FileConfig, KafkaValue};
use super::{AckRule, DispatcherName, Kafka, Route};

/// Keys of the Go client that the reference server is built on; librdkafka does not know them.
const GO_CLIENT: &str = "go.";

pub(super) fn resolve(file: &FileConfig, used: bool, routes: &[Route], problems: &mut Problems) -> Option<Kafka> {
    let options = &file.kafka_options;
    // librdkafka's own bound on its queue.
    let max_unsettled = problems.number("kafka_options.max_unsettled", options.max_unsettled, 1..=10_000_000, 100_000);
    let connect_timeout = problems.duration(
        "kafka_options.connect_timeout",
        options.connect_timeout,
        Duration::from_millis(10)..=Duration::from_secs(3600),
        Duration::from_secs(30),
    );
    let Some(entries) = &file.kafka else {
        if used {
            problems.error(ConfigError::NotConfigured { dispatcher: "Kafka" });
        }
        return None;
    };
    let properties = properties(entries, problems);
    if used {
        check(&properties, routes, problems);
    }
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
