//! The operator's librdkafka properties over our defaults.
//!
//! | property | default here | librdkafka's |
//! |---|---|---|
//! | `client.id` | `fleet-telemetry` | `rdkafka` |
//! | `enable.idempotence` | `true`, unless `acks`, `retries`, `max.in.flight` or `queuing.strategy` rule it out | `false` |
//! | `acks` | `all` | `all` |
//! | `max.in.flight` | at most 5; without idempotence 1 | 1,000,000 |
//! | `message.timeout.ms` | 0: records do not expire | 300,000 |
//! | `message.max.bytes` | 1,048,588 | 1,000,000 |
//! | `queue.buffering.max.messages` | twice the outbox, at least 100,000 | 100,000 |
//! | `reconnect.backoff.max.ms` | 1000 | 10,000 |
//! | `socket.connection.setup.timeout.ms` | 5000: a host that has vanished is given up soon | 30,000 |
//!
//! What the operator's values mean for acks and order, and which of them are refused, is judged in
//! [`crate::config::kafka_properties`]. Ignored: `go.*`. All else passes verbatim.

use rdkafka::ClientConfig;

use crate::config::Kafka;
use crate::config::kafka_properties::{self, Meaning};
use crate::kafka;

/// All properties, and what they amount to, checked as far as librdkafka does not; it checks the rest itself.
pub(super) fn client_config(config: &Kafka) -> Result<(ClientConfig, Meaning), String> {
    let properties = &config.properties;
    if kafka_properties::bootstrap_servers(properties).is_none_or(|servers| servers.trim().is_empty()) {
        return Err("property bootstrap.servers is missing or empty".to_owned());
    }
    let meaning = kafka_properties::judge(properties);
    if let Some(finding) = meaning.errors.first() {
        return Err(format!("property {}: {}", finding.property, finding.text));
    }
    for key in properties.keys().filter(|key| key.starts_with("go.")) {
        tracing::info!(key, "kafka property of the Go client ignored");
    }
    let mut client = kafka::config("fleet-telemetry", properties, &[]);
    for (key, value) in defaults(config, meaning.idempotent) {
        if client.get(key).is_none() {
            client.set(key, value);
        }
    }
    Ok((client, meaning))
}

/// Properties go by two names; our default must not fight the operator's value under the other one.
const ACKS: [&str; 2] = ["acks", "request.required.acks"];
const IN_FLIGHT: [&str; 2] = ["max.in.flight.requests.per.connection", "max.in.flight"];
const EXPIRY: [&str; 2] = ["message.timeout.ms", "delivery.timeout.ms"];

/// Ours, as far as the operator says nothing about the same matter.
fn defaults(config: &Kafka, idempotent: bool) -> Vec<(&'static str, String)> {
    let properties = &config.properties;
    let twice = |number: usize| number.saturating_mul(2);
    let mut defaults = vec![
        // The outbox is the bound on records; librdkafka's own two must not be the first to bite.
        ("queue.buffering.max.messages", twice(config.max_unsettled.records).clamp(100_000, MAX_QUEUE).to_string()),
        ("queue.buffering.max.kbytes", twice(config.max_unsettled.bytes >> 10).clamp(1 << 20, MAX_QUEUE).to_string()),
        // The brokers' default for `message.max.bytes`. librdkafka's 1,000,000 includes the headers, so it would
        // refuse a record of the longest length that vehicles send.
        ("message.max.bytes", "1048588".to_owned()),
        ("socket.connection.setup.timeout.ms", "5000".to_owned()),
    ];
    let mut unless_set = |names: &[&'static str], value: &str| {
        if kafka_properties::read(properties, names).is_none() {
            defaults.push((names[0], value.to_owned()));
        }
    };
    // 0: records do not expire. The dispatcher's documentation says why.
    unless_set(&EXPIRY, "0");
    unless_set(&ACKS, "all");
    if idempotent {
        unless_set(&["enable.idempotence"], "true");
    } else {
        unless_set(&IN_FLIGHT, "1");
    }
    defaults
}

/// librdkafka's own limit.
const MAX_QUEUE: usize = i32::MAX as usize;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::kafka_values;

    fn config(properties: &[(&str, &str)]) -> Kafka {
        let bootstrap = [("bootstrap.servers", "127.0.0.1:1")];
        Kafka {
            properties: bootstrap.iter().chain(properties).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            max_unsettled: crate::config::InFlight { records: 1000, bytes: 1 << 20 },
            connect_timeout: Duration::from_secs(1),
            unhealthy_after: Duration::from_secs(30),
        }
    }

    /// librdkafka itself must take what we make of the operator's properties.
    fn accepted(properties: &[(&str, &str)]) -> ClientConfig {
        let (client, _) = client_config(&config(properties)).unwrap();
        client.create::<rdkafka::producer::BaseProducer>().unwrap();
        client
    }

    #[test]
    fn is_idempotent_and_never_expires_by_default() {
        let client = accepted(&[]);
        assert_eq!(client.get("enable.idempotence"), Some("true"));
        assert_eq!(client.get("acks"), Some("all"));
        assert_eq!(client.get("message.timeout.ms"), Some("0"));
    }

    #[test]
    fn the_operators_value_wins_under_either_name() {
        let client = accepted(&[("delivery.timeout.ms", "9000"), ("reconnect.backoff.ms", "4000")]);
        assert_eq!(client.get("delivery.timeout.ms"), Some("9000"));
        assert_eq!(client.get("message.timeout.ms"), None);
        assert_eq!(client.get("reconnect.backoff.max.ms"), None);
    }

    #[test]
    fn gives_up_idempotence_for_what_the_operator_asks_and_keeps_the_order() {
        for (key, value) in [("acks", "1"), ("request.required.acks", "1"), ("retries", "0")] {
            let client = accepted(&[(key, value)]);
            assert_eq!(client.get("enable.idempotence"), None, "{key}");
            assert_eq!(client.get("max.in.flight.requests.per.connection"), Some("1"), "{key}");
        }
        let client = accepted(&[("enable.idempotence", "false")]);
        assert_eq!(client.get("max.in.flight.requests.per.connection"), Some("1"));
        let client = accepted(&[("max.in.flight", "100")]);
        assert_eq!(client.get("enable.idempotence"), None);
        assert_eq!(client.get("max.in.flight"), Some("100"));
    }

    #[test]
    fn ignores_the_go_clients_own_keys() {
        assert_eq!(accepted(&[("go.events.channel.size", "10")]).get("go.events.channel.size"), None);
    }

    #[test]
    fn refuses_properties_that_break_the_promise_of_an_ack() {
        let refuse = |key, value| client_config(&config(&[(key, value)])).unwrap_err();
        assert!(refuse("delivery.report.only.error", "t").contains("delivery.report.only.error"));
        assert!(refuse("transactional.id", "x").contains("transactional.id"));
        assert!(refuse("bootstrap.servers", "").contains("bootstrap.servers"));
        assert!(client_config(&config(&[("delivery.report.only.error", "false")])).is_ok());
    }

    /// The judge reads values as librdkafka does: what it takes for true or for a number, librdkafka takes for the
    /// same, and what it finds no value in, librdkafka refuses.
    #[test]
    fn agrees_with_librdkafka_about_values() {
        let of = |property: &str, value: &str| {
            let mut client = ClientConfig::new();
            client.set(property, value);
            client.create_native_config().ok().map(|native| native.get(property).unwrap())
        };
        for value in ["true", "TRUE", "t", "T", "1", "false", "f", "F", "0", " true", "yes", "01", "", "on", "2"] {
            let properties = [("enable.gapless.guarantee".to_owned(), value.to_owned())].into();
            let ours = kafka_values::flag(&properties, "enable.gapless.guarantee").map(|flag| flag.to_string());
            assert_eq!(ours, of("enable.gapless.guarantee", value), "{value:?}");
        }
        for value in
            ["0", " 7", "\u{b}7", "010", "0x10", "0X1f", "+5", "5x", "4294967297", "x", "", "-", "0x", "08", "1e6"]
        {
            let ours = kafka_values::integer(value).map(|number| number.to_string());
            assert_eq!(ours, of("queue.buffering.max.messages", value), "{value:?}");
        }
    }
}
