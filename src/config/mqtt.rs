//! `mqtt`: a broker, and what is published there.

use std::fmt;
use std::time::Duration;

use super::address::host_port;
use super::client_tls::FileClientTls;
use super::error::{ConfigError, Problems};
use super::file::FileConfig;
use super::secret::FileSecret;
use super::section::Section;
use super::targets::FileTarget;
use super::{AckRule, ClientTls, DispatcherName, Env, InFlight, Route, Secret};

/// `mqtt`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileMqtt {
    /// As for every dispatcher.
    pub target: FileTarget,
    /// `host:port`, or a URL.
    pub broker: Option<String>,
    /// Of this server.
    pub client_id: Option<String>,
    /// Credentials.
    pub username: Option<String>,
    /// Credentials.
    pub password: FileSecret,
    /// Towards the broker (ours).
    pub tls: Option<FileClientTls>,
    /// First level or levels of every topic.
    pub topic_base: Option<String>,
    /// 0, 1 or 2.
    pub qos: Option<i64>,
    /// The broker keeps the last message of each topic.
    pub retained: Option<bool>,
    /// For a connection, at the start in all.
    pub connect_timeout_ms: Option<i64>,
    /// Without an answer to what was published.
    pub publish_timeout_ms: Option<i64>,
    /// For saying goodbye.
    pub disconnect_timeout_ms: Option<i64>,
    /// Between attempts to connect, at most.
    pub connect_retry_interval_ms: Option<i64>,
    /// After so much silence the broker gives a client up.
    pub keep_alive_seconds: Option<i64>,
    /// The broker forgets a client that has gone (ours).
    pub clean_session: Option<bool>,
    /// Discovery messages (ours).
    pub home_assistant: Option<FileHomeAssistant>,
    /// Vehicles that are remembered (ours).
    pub max_vehicles: Option<i64>,
    /// Records taken and not confirmed (ours).
    pub max_unsettled: Option<i64>,
    /// Their bytes (ours).
    pub max_unsettled_bytes: Option<i64>,
}

/// `mqtt.home_assistant`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileHomeAssistant {
    /// First level of the topics of discovery.
    pub discovery_prefix: Option<String>,
}

/// How surely a message arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum QoS {
    /// Sent once; nobody says whether it has arrived.
    #[default]
    AtMostOnce = 0,
    /// Sent until the broker has it.
    AtLeastOnce = 1,
    /// The broker has it once, as long as the session lasts.
    ExactlyOnce = 2,
}

/// A broker, and what is published there.
#[derive(Clone)]
pub struct Mqtt {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Over TLS; `None`: in the clear.
    pub tls: Option<ClientTls>,
    /// Empty: made up at each start.
    pub client_id: String,
    /// Credentials.
    pub username: Option<String>,
    /// Credentials.
    pub password: Option<Secret>,
    /// First level or levels of every topic.
    pub topic_base: String,
    /// Of every message.
    pub qos: QoS,
    /// The broker keeps the last message of each topic.
    pub retained: bool,
    /// The broker forgets what was on its way when a connection ends.
    pub clean_session: bool,
    /// For a connection, at the start in all.
    pub connect_timeout: Duration,
    /// Without an answer to what was published.
    pub publish_timeout: Duration,
    /// For saying goodbye.
    pub disconnect_timeout: Duration,
    /// Between attempts to connect, at most.
    pub connect_retry_interval: Duration,
    /// In seconds.
    pub keep_alive: u16,
    /// Discovery messages; `None`: none.
    pub home_assistant: Option<HomeAssistant>,
    /// Vehicles that are remembered, to announce their fields once.
    pub max_vehicles: usize,
    /// Taken and not confirmed; above, vehicles wait.
    pub max_unsettled: InFlight,
}

/// Discovery messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeAssistant {
    /// First level of the topics of discovery.
    pub discovery_prefix: String,
    /// Connectivity records go to MQTT as well, so that it is known who is there.
    pub has_connectivity: bool,
}

impl fmt::Debug for Mqtt {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mqtt")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("topic_base", &self.topic_base)
            .field("qos", &self.qos)
            .finish_non_exhaustive()
    }
}

impl FileMqtt {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            target: FileTarget::read(section),
            broker: section.value("broker"),
            client_id: section.value("client_id"),
            username: section.value("username"),
            password: FileSecret::read(section, "password", "password_file"),
            tls: section.object("tls", FileClientTls::read),
            topic_base: section.value("topic_base"),
            qos: section.value("qos"),
            retained: section.value("retained"),
            connect_timeout_ms: section.value("connect_timeout_ms"),
            publish_timeout_ms: section.value("publish_timeout_ms"),
            disconnect_timeout_ms: section.value("disconnect_timeout_ms"),
            connect_retry_interval_ms: section.value("connect_retry_interval_ms"),
            keep_alive_seconds: section.value("keep_alive_seconds"),
            clean_session: section.value("clean_session"),
            home_assistant: section.object("home_assistant", |section| FileHomeAssistant {
                discovery_prefix: section.value("discovery_prefix"),
            }),
            max_vehicles: section.value("max_vehicles"),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
        }
    }
}

/// Whether the broker, as the file has it, says when it has a record.
pub(super) fn confirms(file: &FileConfig) -> bool {
    file.mqtt.as_ref().and_then(|mqtt| mqtt.qos).is_some_and(|qos| qos > 0)
}

/// Judged where a route uses it.
pub(super) fn resolve(file: &FileConfig, routes: &[Route], env: &Env, problems: &mut Problems) -> Option<Mqtt> {
    if !routes.iter().any(|route| route.dispatchers.contains(&DispatcherName::Mqtt)) {
        return None;
    }
    let Some(file) = &file.mqtt else {
        problems.error(ConfigError::NotConfigured { dispatcher: "MQTT" });
        return None;
    };
    let (host, port, is_tls) = broker(file.broker.as_deref(), file.tls.is_some(), problems);
    let qos = qos(file, routes, problems);
    let clean_session = file.clean_session.unwrap_or(true);
    let client_id = file.client_id.clone().unwrap_or_default();
    if client_id.len() > MAX_NAME {
        problems.out_of_range("mqtt.client_id", client_id.len(), format!("at most {MAX_NAME} bytes"));
    }
    if !clean_session && client_id.is_empty() {
        problems.error(ConfigError::Missing {
            key: "mqtt.client_id",
            remedy: "with clean_session false the broker remembers this server by it; give each instance its own",
        });
    }
    let tls = is_tls.then(|| file.tls.clone().unwrap_or_default().resolve("mqtt.tls", problems));
    let password = file.password.resolve("mqtt.password", env, problems);
    let mut milliseconds = |key, value: Option<i64>, most, default: u64| {
        // As in the reference server, 0 means the default.
        let value = value.filter(|value| *value != 0);
        Duration::from_millis(problems.number(key, value, 1..=most, default))
    };
    Some(Mqtt {
        host,
        port,
        tls,
        client_id,
        username: file.username.clone().filter(|name| !name.is_empty()),
        password,
        connect_timeout: milliseconds("mqtt.connect_timeout_ms", file.connect_timeout_ms, HOUR_MS, 30_000),
        publish_timeout: milliseconds("mqtt.publish_timeout_ms", file.publish_timeout_ms, HOUR_MS, 2_500),
        disconnect_timeout: milliseconds("mqtt.disconnect_timeout_ms", file.disconnect_timeout_ms, 60_000, 250),
        connect_retry_interval: milliseconds(
            "mqtt.connect_retry_interval_ms",
            file.connect_retry_interval_ms,
            HOUR_MS,
            10_000,
        ),
        topic_base: topic_base(file.topic_base.as_deref(), problems),
        qos,
        retained: file.retained.unwrap_or(file.home_assistant.is_some()),
        clean_session,
        keep_alive: problems.number(
            "mqtt.keep_alive_seconds",
            file.keep_alive_seconds.filter(|seconds| *seconds != 0),
            // The protocol has 16 bits.
            1..=65_535,
            30_u16,
        ),
        home_assistant: file.home_assistant.as_ref().map(|home| home_assistant(home, file, routes, problems)),
        // Some 200 bytes each.
        max_vehicles: problems.number("mqtt.max_vehicles", file.max_vehicles, 1..=10_000_000, 100_000),
        max_unsettled: InFlight {
            // Ten batches.
            records: problems.number("mqtt.max_unsettled", file.max_unsettled, 1..=10_000_000, 10_000),
            bytes: problems.number("mqtt.max_unsettled_bytes", file.max_unsettled_bytes, 1 << 20..=1 << 40, 64 << 20),
        },
    })
}

/// An hour.
const HOUR_MS: i64 = 3_600_000;
/// Bytes of a client id, and of what topics begin with.
const MAX_NAME: usize = 1024;

fn qos(file: &FileMqtt, routes: &[Route], problems: &mut Problems) -> QoS {
    match file.qos {
        None | Some(0) => {
            for route in routes.iter().filter(|route| route.ack == AckRule::By(DispatcherName::Mqtt)) {
                let key = format!("reliable_ack_sources.{}", route.topic);
                problems
                    .advise(key, "with mqtt.qos 0 no broker confirms a record, so what was acked can be lost; use 1");
            }
            QoS::AtMostOnce
        }
        Some(1) => QoS::AtLeastOnce,
        Some(2) => QoS::ExactlyOnce,
        Some(other) => {
            problems.out_of_range("mqtt.qos", other, "0, 1 or 2");
            QoS::AtMostOnce
        }
    }
}

fn topic_base(base: Option<&str>, problems: &mut Problems) -> String {
    let base = base.unwrap_or_default();
    if base.len() > MAX_NAME || base.contains(|c: char| matches!(c, '+' | '#') || c.is_control()) {
        problems.not_allowed(
            "mqtt.topic_base",
            base,
            "a topic of at most 1,024 bytes without +, # and control characters",
        );
    }
    base.to_owned()
}

fn home_assistant(
    home: &FileHomeAssistant,
    file: &FileMqtt,
    routes: &[Route],
    problems: &mut Problems,
) -> HomeAssistant {
    let discovery_prefix = home.discovery_prefix.clone().unwrap_or_else(|| "homeassistant".to_owned());
    if discovery_prefix.is_empty() || discovery_prefix.contains(|c: char| matches!(c, '+' | '#') || c.is_control()) {
        problems.not_allowed("mqtt.home_assistant.discovery_prefix", &discovery_prefix, "a topic without + and #");
    }
    if file.retained == Some(false) {
        problems.advise(
            "mqtt.retained",
            "with false, Home Assistant knows no value after its restart until the vehicle sends it again; leave it out",
        );
    }
    let goes_to_mqtt =
        |route: &Route| route.topic == "connectivity" && route.dispatchers.contains(&DispatcherName::Mqtt);
    let has_connectivity = routes.iter().any(goes_to_mqtt);
    if !has_connectivity {
        problems.advise(
            "records.connectivity",
            "does not name mqtt, so Home Assistant shows the last values of vehicles that are gone as if they were there",
        );
    }
    HomeAssistant { discovery_prefix, has_connectivity }
}

/// Schemes, and whether they mean TLS.
const SCHEMES: [(&str, bool); 7] = [
    ("tcp", false),
    ("mqtt", false),
    ("ssl", true),
    ("tls", true),
    ("mqtts", true),
    ("mqtt+ssl", true),
    ("tcps", true),
];

/// Host, port, and whether over TLS: by the scheme, and without one by the section `tls`.
fn broker(broker: Option<&str>, has_tls: bool, problems: &mut Problems) -> (String, u16, bool) {
    let nowhere = (String::new(), 0, false);
    let broker = broker.unwrap_or_default();
    if broker.is_empty() {
        let remedy = "give host and port, such as \"broker.example:1883\" or \"ssl://broker.example:8883\"";
        problems.error(ConfigError::Missing { key: "mqtt.broker", remedy });
        return nowhere;
    }
    // Whatever stands before an @ may be a secret.
    if broker.contains('@') {
        let problem = "holds credentials; put them into mqtt.username and mqtt.password".to_owned();
        problems.error(ConfigError::Conflict { key: "mqtt.broker", problem });
        return nowhere;
    }
    let scheme = if has_tls { "ssl" } else { "tcp" };
    let url = if broker.contains("://") { broker.to_owned() } else { format!("{scheme}://{broker}") };
    let address = address(&url).unwrap_or_else(|| {
        let allowed = "host:port, and tcp://, mqtt://, ssl://, tls:// or mqtts:// before it (no WebSockets)";
        problems.not_allowed("mqtt.broker", broker, allowed);
        nowhere
    });
    if has_tls && !address.2 && address.1 != 0 {
        let problem = "means no TLS, but there is mqtt.tls; begin it with ssl://, or leave mqtt.tls out".to_owned();
        problems.error(ConfigError::Conflict { key: "mqtt.broker", problem });
    }
    address
}

fn address(broker: &str) -> Option<(String, u16, bool)> {
    let (scheme, rest) = broker.split_once("://")?;
    let (_, tls) = SCHEMES.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(scheme))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = host_port(rest, if tls { 8883 } else { 1883 })?;
    Some((host, port, tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_addresses_or_urls() {
        for (broker, expected) in [
            ("tcp://broker:1884", Some(("broker", 1884, false))),
            ("broker:1884", None),
            ("tcp://:1883", Some(("127.0.0.1", 1883, false))),
            ("tcp://10.0.0.1:1", Some(("10.0.0.1", 1, false))),
            ("SSL://broker/", Some(("broker", 8883, true))),
            ("mqtts://[::1]:8884", Some(("::1", 8884, true))),
            ("tcp://[::1]", Some(("::1", 1883, false))),
            ("ws://broker:80", None),
            ("tcp://broker:0", None),
            ("tcp://broker:65536", None),
            ("tcp://broker:1883/path", None),
            ("tcp://a:b:1", None),
        ] {
            let expected = expected.map(|(host, port, tls)| (host.to_owned(), port, tls));
            assert_eq!(address(broker), expected, "{broker}");
        }
    }
}
