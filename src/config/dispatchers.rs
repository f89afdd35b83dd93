//! The dispatchers that there are, and what those that the routes use need.

use std::collections::BTreeMap;

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::error::{ConfigError, Problems};
use super::file::FileConfig;
use super::{
    Env, Kafka, Logger, Mqtt, Postgres, Redis, Route, Sqlite, Target, Webhook, Zmq, logger, mqtt, postgres, redis,
    sqlite, targets, webhook, zmq,
};

/// The dispatchers that a configuration can name.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum DispatcherName {
    /// Log lines.
    Logger,
    /// Kafka topics.
    Kafka,
    /// Google Pub/Sub topics.
    Pubsub,
    /// AWS Kinesis streams.
    Kinesis,
    /// A ZeroMQ PUB socket.
    Zmq,
    /// An MQTT broker.
    Mqtt,
    /// Redis channels.
    Redis,
    /// Posts to a URL.
    Http,
    /// Tables in PostgreSQL.
    Postgres,
    /// The embedded store.
    Sqlite,
}

/// What dispatchers need. Their sections are present exactly if a route uses them.
#[derive(Clone, Debug, Default)]
pub struct Dispatchers {
    /// Prefix of topics and streams: `<namespace>_<topic>`.
    pub namespace: String,
    /// Kafka.
    pub kafka: Option<Kafka>,
    /// The embedded store.
    pub sqlite: Option<Sqlite>,
    /// An MQTT broker.
    pub mqtt: Option<Mqtt>,
    /// A URL.
    pub http: Option<Webhook>,
    /// Tables in PostgreSQL.
    pub postgres: Option<Postgres>,
    /// Redis servers.
    pub redis: Option<Redis>,
    /// A ZeroMQ socket.
    pub zmq: Option<Zmq>,
    /// Log lines.
    pub logger: Logger,
    /// How each is treated; [`Target::default`] for one that is not there.
    pub targets: BTreeMap<DispatcherName, Target>,
}

impl DispatcherName {
    /// As the configuration spells it.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// By its exact name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Whether this build has it.
    #[must_use]
    pub fn is_built(self) -> bool {
        match self {
            Self::Logger => true,
            Self::Kafka => cfg!(feature = "kafka"),
            Self::Sqlite => cfg!(feature = "sqlite"),
            Self::Mqtt => cfg!(feature = "mqtt"),
            Self::Http => cfg!(feature = "http"),
            Self::Postgres => cfg!(feature = "postgres"),
            Self::Redis => cfg!(feature = "redis"),
            Self::Zmq => cfg!(feature = "zmq"),
            Self::Pubsub | Self::Kinesis => false,
        }
    }

    /// For one that this build lacks, which build has it.
    pub(super) fn where_built(self) -> &'static str {
        match self {
            Self::Zmq => "; builds with the cargo feature zmq, or full, have it",
            _ => "",
        }
    }

    /// Whether "delivered" means that the record survives a crash of this process, unless its own configuration
    /// says otherwise (Kafka with `acks` 0, MQTT with `qos` 0, Redis
    /// without `streams`).
    #[must_use]
    pub fn is_durable(self) -> bool {
        matches!(
            self,
            Self::Kafka
                | Self::Pubsub
                | Self::Kinesis
                | Self::Mqtt
                | Self::Redis
                | Self::Http
                | Self::Postgres
                | Self::Sqlite
        )
    }
}

impl Dispatchers {
    /// How a dispatcher is treated.
    #[must_use]
    pub fn target(&self, name: DispatcherName) -> Target {
        self.targets.get(&name).copied().unwrap_or_default()
    }
}

pub(super) fn resolve(
    file: &FileConfig,
    routes: &[Route],
    kafka: Option<Kafka>,
    env: &Env,
    problems: &mut Problems,
) -> Dispatchers {
    let uses = |name| routes.iter().any(|route| route.dispatchers.contains(&name));
    if uses(DispatcherName::Kafka) {
        check_namespace(file.namespace.as_deref().unwrap_or_default(), problems);
    }
    Dispatchers {
        namespace: file.namespace.clone().unwrap_or_default(),
        kafka: kafka.filter(|_| uses(DispatcherName::Kafka)),
        sqlite: Some(sqlite::resolve(&file.sqlite, problems)).filter(|_| uses(DispatcherName::Sqlite)),
        mqtt: mqtt::resolve(file, routes, env, problems),
        http: webhook::resolve(file, routes, env, problems),
        postgres: postgres::resolve(file, routes, env, problems),
        redis: redis::resolve(file, routes, env, problems),
        zmq: zmq::resolve(file, routes, problems),
        logger: logger::resolve(&file.logger, problems),
        targets: targets::resolve(
            [
                (DispatcherName::Kafka, "kafka_options", &file.kafka_options.target),
                (DispatcherName::Sqlite, "sqlite", &file.sqlite.target),
                (DispatcherName::Mqtt, "mqtt", &file.mqtt.as_ref().map(|mqtt| mqtt.target.clone()).unwrap_or_default()),
                (
                    DispatcherName::Http,
                    "http",
                    &file.http.as_ref().map(super::file::FileWebhook::target).unwrap_or_default(),
                ),
                (
                    DispatcherName::Postgres,
                    "postgres",
                    &file.postgres.as_ref().map(|section| section.target.clone()).unwrap_or_default(),
                ),
                (
                    DispatcherName::Redis,
                    "redis",
                    &file.redis.as_ref().map(|redis| redis.target.clone()).unwrap_or_default(),
                ),
                (DispatcherName::Zmq, "zmq", &file.zmq.as_ref().map(|zmq| zmq.target.clone()).unwrap_or_default()),
                (DispatcherName::Logger, "logger", &file.logger.target),
            ],
            routes,
            file.transmit_decoded_records.unwrap_or(false),
            problems,
        ),
    }
}

/// With other characters every topic name would be invalid.
fn check_namespace(namespace: &str, problems: &mut Problems) {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(c) = namespace.chars().find(|c| !valid(*c)) {
        let problem =
            format!("{namespace:?}: {c:?} cannot stand in a topic name, only ASCII letters, digits, '.', '_' and '-'");
        problems.error(ConfigError::Conflict { key: "namespace", problem });
    }
}
