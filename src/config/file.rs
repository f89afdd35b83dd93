//! The JSON as operators write it: the reference server's keys and ours.
//!
//! Every field is optional here; defaults and limits belong to `resolve`. Durations take integer
//! nanoseconds, as the reference server's do, or strings with a unit (`"5s"`).

use super::SyntaxError;
use super::error::Problems;
use super::kafka;
use super::section::Section;

pub use super::admin::{FileAdmin, FileMonitoring};
pub use super::client_tls::FileClientTls;
pub use super::http::FileHttpLimits;
pub use super::kafka::{FileKafkaOptions, KafkaValue};
pub use super::limits::FileLimits;
pub use super::listener::{FileListener, FileListenerLimits};
pub use super::log::{FileLog, FileLogLimits};
pub use super::logger::FileLogger;
pub use super::mqtt::{FileHomeAssistant, FileMqtt};
pub use super::onboarding::{
    FileApplication, FileMaker, FileOnboarding, FilePublic, FilePublicTls, FileTelemetry, FileTokens,
};
pub use super::permissions::{FileAction, FileApi, FileApiTls, FilePath, FilePermissions, FileStore, FileTopic};
pub use super::policy::{FilePolicy, FileRateLimit};
pub use super::postgres::FilePostgres;
pub use super::redis::{FileRedis, FileRedisTls, FileStreams};
pub use super::routes::FileRoutes;
pub use super::secret::FileSecret;
pub use super::session::FileSessionLimits;
pub use super::shutdown::FileShutdown;
pub use super::sqlite::FileSqlite;
pub use super::targets::FileTarget;
pub use super::tls::FileTls;
pub use super::webhook::FileWebhook;
pub use super::workers::FileWorkers;
pub use super::zmq::FileZmq;

/// A configuration file, read but not judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileConfig {
    /// Where the mTLS port is.
    pub listener: FileListener,
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
    /// An MQTT broker.
    pub mqtt: Option<FileMqtt>,
    /// Tables in PostgreSQL (ours).
    pub postgres: Option<FilePostgres>,
    /// Posting to a URL (ours).
    pub http: Option<FileWebhook>,
    /// Redis servers.
    pub redis: Option<FileRedis>,
    /// A ZeroMQ socket.
    pub zmq: Option<FileZmq>,
    /// Bounds (ours).
    pub limits: FileLimits,
    /// `X-TXID` becomes the connection id when it is a UUID (ours).
    pub connection_id_from_header: Option<bool>,
    /// How the process ends (ours).
    pub shutdown: FileShutdown,
    /// The threads that run sessions (ours).
    pub workers: FileWorkers,
    /// Location permission (ours).
    pub permissions: Option<FilePermissions>,
    /// Bringing vehicles here (ours).
    pub onboarding: Option<FileOnboarding>,
    /// What was found while reading; `resolve` reports it with the rest.
    pub(super) problems: Problems,
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
            listener: FileListener::read(section),
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
            mqtt: section.object("mqtt", FileMqtt::read),
            postgres: section.object("postgres", FilePostgres::read),
            http: section.object("http", FileWebhook::read),
            redis: section.object("redis", FileRedis::read),
            zmq: section.object("zmq", FileZmq::read),
            limits: section.object("limits", FileLimits::read).unwrap_or_default(),
            connection_id_from_header: section.value("connection_id_from_header"),
            shutdown: section.object("shutdown", FileShutdown::read).unwrap_or_default(),
            workers: section.object("workers", FileWorkers::read).unwrap_or_default(),
            permissions: section.object("permissions", FilePermissions::read),
            onboarding: section.object("onboarding", FileOnboarding::read),
            problems: Problems::default(),
        };
        for dispatcher in ["kinesis", "pubsub"] {
            section.accept(dispatcher); // routing to one of them is the error
        }
        section.ineffective("airbrake", "this build sends no error reports");
        section.ineffective("reliable_ack", "use \"ack\" or \"reliable_ack_sources\"");
        section.ineffective("reliable_ack_workers", "acks need no workers");
        for key in ["hostname", "ca", "fields", "alert_types", "delivery_policy", "vins"] {
            section.ineffective(key, "it belongs into the telemetry configuration that vehicles are sent");
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert_eq!(config.listener.port, Some(443));
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
        assert_eq!(config.listener.port, Some(2));
        let keys: Vec<_> = config.problems.warnings.iter().map(ToString::to_string).collect();
        assert!(keys[0].starts_with("TLS: given more than once"), "{keys:?}");
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn reads_durations_as_nanoseconds_or_with_units() {
        let config =
            parse(r#"{"limits": {"idle_timeout": 5000000000, "ping_interval": "250ms", "write_timeout": "2m"}}"#);
        assert_eq!(config.limits.session.idle_timeout, Some(Duration::from_secs(5)));
        assert_eq!(config.limits.session.ping_interval, Some(Duration::from_millis(250)));
        assert_eq!(config.limits.session.write_timeout, Some(Duration::from_secs(120)));
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
                "host: expected a string, found 1; write \"1\"",
                "port: expected an integer, found \"443\"; write 443",
                "status_port: expected an integer, found 80.5",
                "tls: expected an object, found a list",
                "records.V: expected a list of strings, found \"kafka\"; write [\"kafka\"]",
            ]
        );
        assert_eq!(errors("null"), ["the document: expected an object, found null"]);
    }
}
