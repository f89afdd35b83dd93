//! The JSON as operators write it: the reference server's keys and ours.
//!
//! Every field is optional here; defaults and limits belong to `resolve`. Durations take integer
//! nanoseconds, as the reference server's do, or strings with a unit (`"5s"`).

use std::time::Duration;

use super::SyntaxError;
use super::error::Problems;
use super::kafka;
use super::section::Section;

pub use super::admin::{FileAdmin, FileMonitoring};
pub use super::kafka::{FileKafkaOptions, KafkaValue};
pub use super::log::FileLog;
pub use super::logger::FileLogger;
pub use super::permissions::file as permissions;
pub use super::policy::{FilePolicy, FileRateLimit};
pub use super::routes::FileRoutes;
pub use super::shutdown::FileShutdown;
pub use super::sqlite::FileSqlite;
pub use super::targets::FileTarget;
pub use super::tls::FileTls;
pub use super::workers::FileWorkers;

/// A configuration file, read but not judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileConfig {
    /// Bind host of the mTLS port; empty is all interfaces.
    pub host: Option<String>,
    /// The mTLS port.
    pub port: Option<i64>,
    /// The plain-HTTP listeners for operators.
    pub admin: FileAdmin,
    /// Certificates.
    pub tls: Option<FileTls>,
    /// Vehicles' certificates come from the engineering authorities.
    pub use_default_eng_ca: Option<bool>,
    /// What is accepted from vehicles.
    pub policy: FilePolicy,
    /// Where records go.
    pub routes: FileRoutes,
    /// Payloads as proto3 JSON.
    pub transmit_decoded_records: Option<bool>,
    /// Prefix of topics and streams.
    pub namespace: Option<String>,
    /// VINs whose signals are counted.
    pub vins_signal_tracking_enabled: Vec<String>,
    /// What is logged.
    pub log: FileLog,
    /// The logger dispatcher.
    pub logger: FileLogger,
    /// librdkafka properties.
    pub kafka: Option<Vec<(String, KafkaValue)>>,
    /// Kafka settings that are not librdkafka's (ours).
    pub kafka_options: FileKafkaOptions,
    /// The embedded store (ours).
    pub sqlite: FileSqlite,
    /// Bounds (ours).
    pub limits: Limits,
    /// `X-TXID` becomes the connection id when it is a UUID (ours).
    pub connection_id_from_header: Option<bool>,
    /// How the process ends (ours).
    pub shutdown: FileShutdown,
    /// The threads that run sessions (ours).
    pub workers: FileWorkers,
    /// Location permission (ours).
    pub permissions: Option<permissions::Permissions>,
    /// What was found while reading; `resolve` reports it with the rest.
    pub(super) problems: Problems,
}

/// `limits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// From accept to the end of the ClientHello.
    pub client_hello_timeout: Option<Duration>,
    /// From the ClientHello to the end of the TLS handshake.
    pub handshake_timeout: Option<Duration>,
    /// From the handshake to the end of the request headers.
    pub header_timeout: Option<Duration>,
    /// Sessions in all.
    pub max_connections: Option<i64>,
    /// Connections that are not sessions yet.
    pub max_pending_connections: Option<i64>,
    /// Connections per client address.
    pub max_connections_per_address: Option<i64>,
    /// TLS handshakes that are computed at the same time.
    pub max_handshakes: Option<i64>,
    /// Connections of each plain-HTTP listener.
    pub max_http_connections: Option<i64>,
    /// Of those, per client address.
    pub max_http_connections_per_address: Option<i64>,
    /// Headers of a request to a plain-HTTP listener.
    pub http_header_timeout: Option<Duration>,
    /// Longest message that is processed.
    pub max_message_bytes: Option<i64>,
    /// Longest message that is read.
    pub max_frame_bytes: Option<i64>,
    /// Frames per message.
    pub max_fragments: Option<i64>,
    /// Pings from a client per second.
    pub max_pings_per_second: Option<i64>,
    /// Silence after which a connection is closed.
    pub idle_timeout: Option<Duration>,
    /// Silence after which the server pings.
    pub ping_interval: Option<Duration>,
    /// Silence after which TCP probes.
    pub tcp_keepalive: Option<Duration>,
    /// How long TCP waits for an acknowledgement.
    pub tcp_user_timeout: Option<Duration>,
    /// Records handed off and not settled, per connection.
    pub max_unsettled: Option<i64>,
    /// Their bytes.
    pub max_unsettled_bytes: Option<i64>,
    /// Bytes that all connections together may keep.
    pub max_kept_bytes: Option<i64>,
    /// Bytes of replies that a vehicle has not taken.
    pub max_unread_reply_bytes: Option<i64>,
    /// A reply must leave within this time.
    pub write_timeout: Option<Duration>,
    /// Log lines that wait to be written.
    pub max_log_lines: Option<i64>,
    /// The same in bytes.
    pub max_log_bytes: Option<i64>,
}

impl FileConfig {
    /// Reads one JSON document. Wrong types and unknown keys are kept for `resolve` to report.
    ///
    /// # Errors
    /// When the bytes are not exactly one JSON document.
    pub fn parse(bytes: &[u8]) -> Result<Self, SyntaxError> {
        let json = serde_json::from_slice(bytes).map_err(|error| SyntaxError::at(bytes, &error))?;
        let mut problems = Problems::default();
        let mut config = Section::document(json, &mut problems, Self::read);
        config.problems = problems;
        Ok(config)
    }

    fn read(section: &mut Section<'_>) -> Self {
        let config = Self {
            host: section.value("host"),
            port: section.value("port"),
            admin: FileAdmin::read(section),
            tls: section.object("tls", FileTls::read),
            use_default_eng_ca: section.value("use_default_eng_ca"),
            policy: FilePolicy::read(section),
            routes: FileRoutes::read(section),
            transmit_decoded_records: section.value("transmit_decoded_records"),
            namespace: section.value("namespace"),
            vins_signal_tracking_enabled: section.value("vins_signal_tracking_enabled").unwrap_or_default(),
            log: FileLog::read(section),
            logger: section.object("logger", FileLogger::read).unwrap_or_default(),
            kafka: section.map("kafka").map(kafka::values),
            kafka_options: section.object("kafka_options", FileKafkaOptions::read).unwrap_or_default(),
            sqlite: section.object("sqlite", FileSqlite::read).unwrap_or_default(),
            limits: section.object("limits", Limits::read).unwrap_or_default(),
            connection_id_from_header: section.value("connection_id_from_header"),
            shutdown: section.object("shutdown", FileShutdown::read).unwrap_or_default(),
            workers: section.object("workers", FileWorkers::read).unwrap_or_default(),
            permissions: section.object("permissions", permissions::Permissions::read),
            problems: Problems::default(),
        };
        for dispatcher in ["kinesis", "pubsub", "zmq", "mqtt", "redis"] {
            section.accept(dispatcher); // routing to one of them is the error
        }
        section.ineffective("airbrake", "this build sends no error reports");
        section.ineffective("reliable_ack", "use \"ack\" or \"reliable_ack_sources\"");
        config
    }
}

impl Limits {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            client_hello_timeout: section.duration("client_hello_timeout"),
            handshake_timeout: section.duration("handshake_timeout"),
            header_timeout: section.duration("header_timeout"),
            max_connections: section.value("max_connections"),
            max_pending_connections: section.value("max_pending_connections"),
            max_connections_per_address: section.value("max_connections_per_address"),
            max_handshakes: section.value("max_handshakes"),
            max_http_connections: section.value("max_http_connections"),
            max_http_connections_per_address: section.value("max_http_connections_per_address"),
            http_header_timeout: section.duration("http_header_timeout"),
            max_message_bytes: section.value("max_message_bytes"),
            max_frame_bytes: section.value("max_frame_bytes"),
            max_fragments: section.value("max_fragments"),
            max_pings_per_second: section.value("max_pings_per_second"),
            idle_timeout: section.duration("idle_timeout"),
            ping_interval: section.duration("ping_interval"),
            tcp_keepalive: section.duration("tcp_keepalive"),
            tcp_user_timeout: section.duration("tcp_user_timeout"),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
            max_kept_bytes: section.value("max_kept_bytes"),
            max_unread_reply_bytes: section.value("max_unread_reply_bytes"),
            write_timeout: section.duration("write_timeout"),
            max_log_lines: section.value("max_log_lines"),
            max_log_bytes: section.value("max_log_bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, Warning};

    fn parse(text: &str) -> FileConfig {
        FileConfig::parse(text.as_bytes()).unwrap()
    }

    fn warnings(text: &str) -> Vec<String> {
        parse(text).problems.warnings.iter().map(Warning::to_string).collect()
    }

    fn errors(text: &str) -> Vec<String> {
        parse(text).problems.errors.iter().map(ConfigError::to_string).collect()
    }

    #[test]
    fn matches_struct_keys_whatever_their_case() {
        let config = parse(r#"{"PORT": 443, "Tls": {"CA_File": "x"}, "Records": {"V": ["kafka"]}}"#);
        assert_eq!(config.port, Some(443));
        assert_eq!(config.tls.unwrap().ca_file.as_deref(), Some("x"));
        assert_eq!(config.routes.records, [("V".to_owned(), vec!["kafka".to_owned()])]);
        assert_eq!(config.problems, Problems::default());
    }

    #[test]
    fn keeps_the_case_of_keys_that_are_data() {
        let config =
            parse(r#"{"records": {"v": ["kafka"], "V": ["logger"], "v": ["zmq"]}, "kafka": {"A.b": "1", "a.b": "2"}}"#);
        let routes = [("v".to_owned(), vec!["zmq".to_owned()]), ("V".to_owned(), vec!["logger".to_owned()])];
        assert_eq!(config.routes.records, routes);
        assert_eq!(config.problems.warnings, [Warning::RepeatedKey { key: "records.v".to_owned() }]);
        assert_eq!(config.kafka.unwrap().len(), 2);
    }

    #[test]
    fn lets_null_leave_the_default() {
        let config = parse(r#"{"port": null, "logger": null, "kafka": null, "records": {"V": null}}"#);
        let routes = FileRoutes { records: vec![("V".to_owned(), vec![])], ..FileRoutes::default() };
        let expected = FileConfig { routes, ..FileConfig::default() };
        assert_eq!(config, expected);
    }

    #[test]
    fn merges_repeated_sections_and_says_so() {
        let config =
            parse(r#"{"tls": {"ca_file": "a", "server_key": "k"}, "TLS": {"ca_file": "b"}, "port": 1, "port": 2}"#);
        assert_eq!(config.tls.as_ref().unwrap().ca_file.as_deref(), Some("b"));
        assert_eq!(config.tls.as_ref().unwrap().server_key.as_deref(), Some("k"));
        assert_eq!(config.port, Some(2));
        let keys: Vec<_> = config.problems.warnings.iter().map(ToString::to_string).collect();
        assert!(keys[0].starts_with("TLS: given more than once"), "{keys:?}");
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn reads_durations_as_nanoseconds_or_with_units() {
        let config =
            parse(r#"{"limits": {"idle_timeout": 5000000000, "ping_interval": "250ms", "write_timeout": "2m"}}"#);
        assert_eq!(config.limits.idle_timeout, Some(Duration::from_secs(5)));
        assert_eq!(config.limits.ping_interval, Some(Duration::from_millis(250)));
        assert_eq!(config.limits.write_timeout, Some(Duration::from_secs(120)));
        assert_eq!(
            warnings(r#"{"shutdown": {"drain": 5}}"#),
            ["shutdown.drain: the integer 5 means 5 nanoseconds; write a unit, such as \"5s\""]
        );
        assert_eq!(
            errors(r#"{"shutdown": {"drain": "5 sec"}}"#),
            [
                "shutdown.drain: expected a duration such as \"250ms\", \"5s\" or \"1h30m\" (or integer nanoseconds), found \"5 sec\""
            ]
        );
    }

    #[test]
    fn names_the_path_of_an_unknown_key_and_the_nearest_known_one() {
        assert_eq!(
            warnings(r#"{"prot": 1, "tls": {"ca_flie": "x"}, "zzz": 1, "limits": {"max_conections": 5}}"#),
            [
                "tls.ca_flie: unknown key, did you mean \"ca_file\"?",
                "limits.max_conections: unknown key, did you mean \"max_connections\"?",
                "prot: unknown key, did you mean \"port\"?",
                "zzz: unknown key",
            ]
        );
    }

    #[test]
    fn explains_keys_that_do_nothing() {
        let found =
            warnings(r#"{"reliable_ack": true, "airbrake": {}, "monitoring": {"statsd": {}, "profiler_port": 1}}"#);
        assert_eq!(found.len(), 4);
        assert!(found.contains(&"reliable_ack: has no effect; use \"ack\" or \"reliable_ack_sources\"".to_owned()));
    }

    #[test]
    fn reports_every_wrong_type_at_once() {
        assert_eq!(
            errors(r#"{"port": "443", "tls": [], "records": {"V": "kafka"}, "status_port": 80.5, "host": 1}"#),
            [
                "host: expected a string, found 1",
                "port: expected an integer, found \"443\"",
                "status_port: expected an integer, found 80.5",
                "tls: expected an object, found a list",
                "records.V: expected a list of strings, found \"kafka\"",
            ]
        );
        assert_eq!(errors("null"), ["the document: expected an object, found null"]);
    }
}
