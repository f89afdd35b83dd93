//! `permissions`, as operators write it.

use std::time::Duration;

use crate::config::json::Json;
use crate::config::section::{FromJson, Section};

/// `permissions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// `off`, `audit` or `enforce`.
    pub mode: Option<String>,
    /// `deny` or `allow`, for a vehicle without an entry.
    pub default: Option<String>,
    /// Also the fields that reveal a place indirectly, and unknown field numbers.
    pub strict: Option<bool>,
    /// What becomes of a datum that is withheld.
    pub action: Option<Action>,
    /// `deliver` or `skip`, for a `V` record of which nothing is left.
    pub empty_records: Option<String>,
    /// Regular expressions of what else counts as coordinates in texts.
    pub patterns: Option<Vec<String>>,
    /// The scopes that are enforced.
    pub scopes: Option<Vec<String>>,
    /// Where grants live.
    pub store: Option<Store>,
    /// How long the last known grants are kept when the store is lost.
    pub max_stale: Option<Duration>,
    /// How grants are changed.
    pub api: Option<Api>,
    /// A Kafka topic that every change is also written to.
    pub audit_topic: Option<String>,
}

/// `permissions.action`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `drop` or `invalid`.
    Named(String),
    /// `{"coarsen": decimals}`.
    Coarsen(i64),
}

/// `permissions.store`: one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    /// `file`.
    pub file: Option<PathOnly>,
    /// `sqlite`.
    pub sqlite: Option<PathOnly>,
    /// `kafka`.
    pub kafka: Option<Topic>,
}

/// A section that only has a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathOnly {
    /// The file.
    pub path: Option<String>,
}

/// `permissions.store.kafka`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// The topic, as it is; no namespace is put before it.
    pub topic: Option<String>,
}

/// `permissions.api`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Api {
    /// Bind host; loopback by default.
    pub host: Option<String>,
    /// Bind port.
    pub port: Option<i64>,
    /// The bearer token.
    pub token: Option<String>,
    /// A file with the bearer token.
    pub token_file: Option<String>,
    /// TLS.
    pub tls: Option<ApiTls>,
}

impl std::fmt::Debug for Api {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, token, token_file, tls } = self;
        f.debug_struct("Api")
            .field("host", host)
            .field("port", port)
            .field("has_token", &token.is_some())
            .field("token_file", token_file)
            .field("tls", tls)
            .finish()
    }
}

/// `permissions.api.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiTls {
    /// PEM chain, leaf first.
    pub cert: Option<String>,
    /// PEM private key.
    pub key: Option<String>,
    /// PEM bundle that clients' certificates must chain to.
    pub client_ca: Option<String>,
}

impl Permissions {
    pub(in crate::config) fn read(section: &mut Section<'_>) -> Self {
        Self {
            mode: section.value("mode"),
            default: section.value("default"),
            strict: section.value("strict"),
            action: section.value("action"),
            empty_records: section.value("empty_records"),
            patterns: section.value("patterns"),
            scopes: section.value("scopes"),
            store: section.object("store", Store::read),
            max_stale: section.duration("max_stale"),
            api: section.object("api", Api::read),
            audit_topic: section.value("audit_topic"),
        }
    }

    /// Whether the section `kafka` is needed.
    #[must_use]
    pub fn uses_kafka(&self) -> bool {
        self.audit_topic.is_some() || self.store.as_ref().is_some_and(|store| store.kafka.is_some())
    }
}

impl Store {
    fn read(section: &mut Section<'_>) -> Self {
        let path = |section: &mut Section<'_>| PathOnly { path: section.value("path") };
        Self {
            file: section.object("file", path),
            sqlite: section.object("sqlite", path),
            kafka: section.object("kafka", |section| Topic { topic: section.value("topic") }),
        }
    }
}

impl Api {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            host: section.value("host"),
            port: section.value("port"),
            token: section.value("token"),
            token_file: section.value("token_file"),
            tls: section.object("tls", |section| ApiTls {
                cert: section.value("cert"),
                key: section.value("key"),
                client_ca: section.value("client_ca"),
            }),
        }
    }
}

impl FromJson for Action {
    const EXPECTED: &'static str = "\"drop\", \"invalid\" or {\"coarsen\": 0 to 7}";

    fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::String(name) => Some(Self::Named(name.clone())),
            Json::Object(entries) => match entries.as_slice() {
                [(key, decimals)] if key == "coarsen" => i64::from_json(decimals).map(Self::Coarsen),
                _ => None,
            },
            _ => None,
        }
    }
}
