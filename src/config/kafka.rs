//! `kafka` and `kafka_options`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::error::{ConfigError, Problems, Warning};
use super::file::FileConfig;
use super::json::Json;
use super::kafka_properties::{self, Acks};
use super::section::{FromJson, Section};
use super::targets::FileTarget;
use super::{AckRule, DispatcherName, Env, InFlight, Route, secret};

/// Keys of the Go client that the reference server is built on; librdkafka does not know them.
const GO_CLIENT: &str = "go.";

/// A value in `kafka`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaValue {
    /// As librdkafka takes it.
    Text(String),
    /// A list of texts, as brokers are written elsewhere; librdkafka has none.
    List(Vec<String>),
    /// No scalar; the type in the words of the reference server's decoder.
    Unusable(&'static str),
}

/// A list in the words of the reference server's decoder.
const GO_LIST: &str = "[]interface {}";

/// `kafka_options`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileKafkaOptions {
    /// As for every dispatcher.
    pub target: FileTarget,
    /// Records taken and not confirmed.
    pub max_unsettled: Option<i64>,
    /// Their bytes.
    pub max_unsettled_bytes: Option<i64>,
    /// How long to look for a broker at start-up.
    pub connect_timeout: Option<Duration>,
    /// How long nothing may be delivered before the dispatcher counts as unhealthy.
    pub unhealthy_after: Option<Duration>,
}

/// Kafka.
#[derive(Clone)]
pub struct Kafka {
    /// librdkafka properties, verbatim, over our defaults. May hold passwords.
    pub properties: BTreeMap<String, String>,
    /// Taken and not confirmed; above, vehicles wait.
    pub max_unsettled: InFlight,
    /// How long to look for a broker at start-up.
    pub connect_timeout: Duration,
    /// Without any delivery for so long, though there was something to deliver, the dispatcher is unhealthy.
    pub unhealthy_after: Duration,
}

impl fmt::Debug for Kafka {
    /// Names of properties only: some values are passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("properties", &self.properties.keys())
            .field("max_unsettled", &self.max_unsettled)
            .field("connect_timeout", &self.connect_timeout)
            .field("unhealthy_after", &self.unhealthy_after)
            .finish()
    }
}

impl FileKafkaOptions {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            target: FileTarget::read_with_form(section),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
            connect_timeout: section.duration("connect_timeout"),
            unhealthy_after: section.duration("unhealthy_after"),
        }
    }
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
            Json::Array(items) => Vec::<String>::from_json(&Json::Array(items))
                .filter(|items| !items.is_empty())
                .map_or(Self::Unusable(GO_LIST), Self::List),
            Json::Object(_) => Self::Unusable("map[string]interface {}"),
        }
    }
}

/// Puts values of the environment where a property is `"${NAME}"`.
pub(super) fn take_from_env(entries: &mut [(String, KafkaValue)], env: &Env, problems: &mut Problems) {
    for (property, value) in entries {
        let KafkaValue::Text(text) = value else { continue };
        match secret::from_text(text, env) {
            Ok(found) => *text = found,
            Err(problem) => {
                let key = format!("kafka.{}", crate::escape::escape(property.as_bytes(), 80));
                problems.error(ConfigError::Secret { key, problem });
            }
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
    // Longer than an election of leaders or a broker's restart takes, and than what librdkafka waits for a topic to
    // be made (30 s): nothing that passes by itself.
    let unhealthy_after = problems.duration(
        "kafka_options.unhealthy_after",
        options.unhealthy_after,
        Duration::from_secs(1)..=Duration::from_secs(3600),
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
    let given = |(key, value): &(String, KafkaValue)| {
        kafka_properties::is_bootstrap_servers(key) && !matches!(value, KafkaValue::Text(_))
    };
    check(&properties, entries.iter().any(given), routes, problems);
    Some(Kafka { properties, max_unsettled, connect_timeout, unhealthy_after })
}

/// Whether Kafka, as the file configures it, says when a record is safe.
pub(super) fn confirms(file: &FileConfig) -> bool {
    // Properties that are not usable have their own errors.
    let properties = properties(file.kafka.as_deref().unwrap_or_default(), &mut Problems::default());
    kafka_properties::judge(&properties).acks != Acks::Nobody
}

fn properties(entries: &[(String, KafkaValue)], problems: &mut Problems) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (key, value) in entries {
        match value {
            KafkaValue::Unusable(found) => {
                let property = crate::escape::escape(key.as_bytes(), 80);
                problems.error(ConfigError::KafkaValue { property, found, remedy: String::new() });
            }
            KafkaValue::List(items) => {
                let property = crate::escape::escape(key.as_bytes(), 80);
                let joined = crate::escape::escape(items.join(",").as_bytes(), 200);
                let remedy = format!("; write it as one text, with commas: \"{joined}\"");
                problems.error(ConfigError::KafkaValue { property, found: GO_LIST, remedy });
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

/// `brokers_are_blamed`: they are given, in a form that cannot be used.
fn check(properties: &BTreeMap<String, String>, brokers_are_blamed: bool, routes: &[Route], problems: &mut Problems) {
    let servers = kafka_properties::bootstrap_servers(properties);
    if !brokers_are_blamed && servers.is_none_or(|servers| servers.trim().is_empty()) {
        problems.error(ConfigError::Missing {
            key: "kafka.bootstrap.servers",
            remedy: "give the brokers, such as \"kafka-1:9092,kafka-2:9092\"",
        });
    }
    let meaning = kafka_properties::judge(properties);
    for finding in meaning.errors {
        problems.error(ConfigError::KafkaProperty { property: finding.property, problem: finding.text });
    }
    // The grants have properties of their own for what follows, and no records.
    if !routes.iter().any(|route| route.dispatchers.contains(&DispatcherName::Kafka)) {
        return;
    }
    for finding in meaning.advice {
        problems.advise(format!("kafka.{}", finding.property), finding.text);
    }
    if meaning.acks == Acks::Nobody {
        let property = kafka_properties::acks_property(properties).unwrap_or_default();
        for route in routes.iter().filter(|route| route.ack == AckRule::By(DispatcherName::Kafka)) {
            problems.error(ConfigError::AckByUnconfirmed { record: route.topic.clone(), property });
        }
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
        assert_eq!(of("[1]"), KafkaValue::Unusable("[]interface {}"));
        assert_eq!(of("{}"), KafkaValue::Unusable("map[string]interface {}"));
    }
}
