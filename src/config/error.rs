//! What can be wrong with a configuration.

use std::path::PathBuf;

use super::{DispatcherName, SyntaxError};

/// Why a configuration was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not one JSON document.
    #[error("{}: {error}", file.display())]
    Syntax {
        /// Which.
        file: PathBuf,
        /// Where and what.
        #[source]
        error: SyntaxError,
    },
    /// It is JSON, but not a usable configuration.
    #[error("{}: {problems}", file.display())]
    Invalid {
        /// Which.
        file: PathBuf,
        /// All of them.
        #[source]
        problems: Problems,
    },
}

/// A mistake of the operator; the server does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The document or a section has the wrong JSON type.
    #[error("{key}: expected {expected}, found {found}{remedy}")]
    WrongType {
        /// The key's path.
        key: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
        /// How it is written, behind a semicolon; empty when nothing can be told.
        remedy: String,
    },
    /// The value lies outside its limits.
    #[error("{key}: {value} is out of range, allowed is {allowed}")]
    OutOfRange {
        /// The key's path.
        key: String,
        /// As given.
        value: String,
        /// The limits.
        allowed: String,
    },
    /// The value is none of a closed set.
    #[error("{key}: unknown value \"{value}\", allowed are {allowed}")]
    NotAllowed {
        /// The key's path.
        key: String,
        /// As given.
        value: String,
        /// The set.
        allowed: String,
    },
    /// Something that must be given is not.
    #[error("{key}: missing; {remedy}")]
    Missing {
        /// The key's path.
        key: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// No `tls` section.
    #[error("tls config is empty - telemetry server is mTLS only, make sure to provide certificates in the config")]
    NoTls,
    /// A record type goes nowhere.
    #[error("unknown_dispatch_rule record: {record}, dispatchRule:[]")]
    NoDispatchers {
        /// The record type.
        record: String,
    },
    /// The dispatcher exists, but not in this build.
    #[error("{}: this build has no dispatcher \"{dispatcher}\"; it has {built}{}", keys_of(records), dispatcher.where_built())]
    NotBuilt {
        /// The record types that are routed to it.
        records: Vec<String>,
        /// Which.
        dispatcher: DispatcherName,
        /// What can be used instead.
        built: String,
    },
    /// A dispatcher is used without its section.
    #[error("expected {dispatcher} to be configured")]
    NotConfigured {
        /// Its name as prose.
        dispatcher: &'static str,
    },
    /// `reliable_ack_sources` names `connectivity`.
    #[error("reliable ack not needed for txType: connectivity")]
    AckForConnectivity,
    /// `reliable_ack_sources` names the logger.
    #[error("logger cannot be configured as reliable ack for record: {record}")]
    AckByLogger {
        /// The record type.
        record: String,
    },
    /// `reliable_ack_sources` names a record type that is not routed.
    #[error("{dispatcher} cannot be configured as reliable ack for record: {record} since no record mapping exists")]
    AckWithoutRoute {
        /// The record type.
        record: String,
        /// As given.
        dispatcher: String,
    },
    /// `reliable_ack_sources` names a dispatcher that the record does not go to.
    #[error(
        "{dispatcher} cannot be configured as reliable ack for record: {record}. Valid datastores configured [{valid}]"
    )]
    AckByStranger {
        /// The record type.
        record: String,
        /// As given.
        dispatcher: String,
        /// Where it does go, separated by spaces.
        valid: String,
    },
    /// A librdkafka property that is not a scalar.
    #[error("kafka: Invalid value type {found} for key {property} (expected string,bool,int,ConfigMap){remedy}")]
    KafkaValue {
        /// The property.
        property: String,
        /// Its type, in the reference server's words.
        found: &'static str,
        /// How it is written, behind a semicolon; empty when nothing can be told.
        remedy: String,
    },
    /// A librdkafka property that would break a promise.
    #[error("kafka.{property}: {problem}")]
    KafkaProperty {
        /// The property.
        property: &'static str,
        /// What would happen, and the remedy.
        problem: String,
    },
    /// `reliable_ack_sources` names Kafka, which confirms nothing.
    #[error(
        "kafka.{property}: with 0 no broker confirms a record, but reliable_ack_sources makes the ack of {record} wait \
         for Kafka; leave it out, set it to all, or name another dispatcher"
    )]
    AckByUnconfirmed {
        /// The record type.
        record: String,
        /// `acks`, or its other name.
        property: &'static str,
    },
    /// Too many tracked VINs.
    #[error("set the value of `vins_signal_tracking_enabled` less than 20 unique vins")]
    TooManyTrackedVins,
    /// Two values that do not go together.
    #[error("{key}: {problem}")]
    Conflict {
        /// The key's path.
        key: &'static str,
        /// With which other one, and why.
        problem: String,
    },
    /// A value that would break a promise of another one.
    #[error("{key}: \"{value}\" cannot be: {why}")]
    Policy {
        /// The key's path.
        key: String,
        /// Its value.
        value: String,
        /// Which promise, and the remedy.
        why: String,
    },
    /// A secret, or what goes with one, that cannot be had.
    #[error("{key}: {problem}")]
    Secret {
        /// The key's path.
        key: String,
        /// What is wrong, without the secret.
        problem: String,
    },
    /// An environment variable.
    #[error("environment variable {name}: \"{value}\" is not one of {allowed}")]
    Environment {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

/// Something that an operator should know; the server starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Probably a typing mistake.
    #[error("{key}: unknown key{}", nearest.map(|name| format!(", did you mean \"{name}\"?")).unwrap_or_default())]
    UnknownKey {
        /// The key's path.
        key: String,
        /// The nearest known name beside it.
        nearest: Option<&'static str>,
    },
    /// The same key again, perhaps in another case.
    #[error("{key}: given more than once; the last value counts")]
    RepeatedKey {
        /// The key's path.
        key: String,
    },
    /// A known key that changes nothing.
    #[error("{key}: has no effect; {why}")]
    NoEffect {
        /// The key's path.
        key: String,
        /// Why, and what to use instead.
        why: &'static str,
    },
    /// A bare integer where seconds were probably meant.
    #[error("{key}: the integer {nanos} means {nanos} nanoseconds; write a unit, such as \"{nanos}s\"")]
    TinyDuration {
        /// The key's path.
        key: String,
        /// As given.
        nanos: u64,
    },
    /// `log_level`.
    #[error("log_level: not a valid level: \"{value}\"; using info (allowed: {allowed})", allowed = super::log::LEVELS)]
    InvalidLevel {
        /// As given.
        value: String,
    },
    /// Valid, but perhaps not what was meant.
    #[error("{key}: {advice}")]
    Advice {
        /// The key's path.
        key: String,
        /// What happens, and how to change it.
        advice: String,
    },
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Problems {
    /// What keeps the server from starting.
    pub errors: Vec<ConfigError>,
    /// What does not; warnings often explain the errors.
    pub warnings: Vec<Warning>,
}

/// The keys of these record types.
fn keys_of(records: &[String]) -> String {
    records.iter().map(|record| format!("records.{record}")).collect::<Vec<_>>().join(", ")
}

impl Problems {
    /// Whether something is wrong with a key already, so that what follows from that need not be said.
    pub(super) fn blame(&self, key: &str) -> bool {
        let of_key =
            |error: &ConfigError| error.to_string().strip_prefix(key).is_some_and(|rest| rest.starts_with([':', '.']));
        self.errors.iter().any(of_key)
    }

    pub(super) fn error(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    pub(super) fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }

    pub(super) fn advise(&mut self, key: impl Into<String>, advice: impl Into<String>) {
        self.warn(Warning::Advice { key: key.into(), advice: advice.into() });
    }
}
