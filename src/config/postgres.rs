//! `postgres`: tables in a PostgreSQL database.

use std::fmt;
use std::time::Duration;

use super::client_tls::FileClientTls;
use super::duration::{HOUR, MINUTE, SECOND};
use super::error::{ConfigError, Problems};
use super::file::FileConfig;
use super::secret::FileSecret;
use super::section::Section;
use super::targets::FileTarget;
use super::{ClientTls, DispatcherName, Env, InFlight, Route, Secret};

/// `postgres`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePostgres {
    /// As for every dispatcher.
    pub target: FileTarget,
    /// `postgres://user@host/database`, or libpq's key=value form.
    pub url: FileSecret,
    /// Over the one in the URL.
    pub password: FileSecret,
    /// Towards the database.
    pub tls: Option<FileClientTls>,
    /// Where the tables are.
    pub schema: Option<String>,
    /// The values are a hypertable of TimescaleDB.
    pub hypertable: Option<bool>,
    /// Records of a transaction.
    pub batch: Option<i64>,
    /// How long a transaction may wait for more records.
    pub linger: Option<Duration>,
    /// Transactions at the same time.
    pub connections: Option<i64>,
    /// For a connection, at the start in all.
    pub connect_timeout: Option<Duration>,
    /// For a transaction.
    pub timeout: Option<Duration>,
    /// Records taken and not confirmed.
    pub max_unsettled: Option<i64>,
    /// Their bytes.
    pub max_unsettled_bytes: Option<i64>,
}

/// Tables in a PostgreSQL database.
#[derive(Clone)]
pub struct Postgres {
    /// Where it is, and as whom to log in.
    pub url: Secret,
    /// Over the one in the URL.
    pub password: Option<Secret>,
    /// Towards the database; used unless the URL says `sslmode=disable`.
    pub tls: ClientTls,
    /// Where the tables are.
    pub schema: String,
    /// The values are a hypertable of TimescaleDB.
    pub hypertable: bool,
    /// Records of a transaction, at most.
    pub batch: usize,
    /// How long a transaction may wait for more records.
    pub linger: Duration,
    /// Transactions at the same time; a vehicle's are never.
    pub connections: usize,
    /// For a connection, at the start in all.
    pub connect_timeout: Duration,
    /// For a transaction.
    pub timeout: Duration,
    /// Taken and not confirmed; above, vehicles wait.
    pub max_unsettled: InFlight,
}

impl fmt::Debug for Postgres {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl FilePostgres {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            target: FileTarget::read(section),
            url: FileSecret::read(section, "url", "url_file"),
            password: FileSecret::read(section, "password", "password_file"),
            tls: section.object("tls", FileClientTls::read),
            schema: section.value("schema"),
            hypertable: section.value("hypertable"),
            batch: section.value("batch"),
            linger: section.duration("linger"),
            connections: section.value("connections"),
            connect_timeout: section.duration("connect_timeout"),
            timeout: section.duration("timeout"),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
        }
    }
}

/// Longest name that PostgreSQL keeps, in bytes.
const MAX_NAME: usize = 63;

/// Only if a route uses it, and then it has to be there.
pub(super) fn resolve(file: &FileConfig, routes: &[Route], env: &Env, problems: &mut Problems) -> Option<Postgres> {
    if !routes.iter().any(|route| route.dispatchers.contains(&DispatcherName::Postgres)) {
        return None;
    }
    let Some(file) = &file.postgres else {
        problems.error(ConfigError::NotConfigured { dispatcher: "PostgreSQL" });
        return None;
    };
    let url = file.url.resolve("postgres.url", env, problems);
    if url.is_none() && !problems.blame("postgres.url") {
        let remedy = "give the database, such as \"postgres://telemetry@db.example.com/telemetry\"";
        problems.error(ConfigError::Missing { key: "postgres.url", remedy });
    }
    let schema = file.schema.clone().unwrap_or_else(|| "telemetry".to_owned());
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if schema.is_empty() || schema.len() > MAX_NAME || !schema.chars().all(is_plain) {
        problems.not_allowed("postgres.schema", &schema, "lower-case letters, digits and _, at most 63 of them");
    }
    let moment = Duration::from_millis(10);
    Some(Postgres {
        url: url.unwrap_or_else(|| Secret::from("")),
        password: file.password.resolve("postgres.password", env, problems),
        tls: file.tls.clone().unwrap_or_default().resolve("postgres.tls", problems),
        schema,
        hypertable: file.hypertable.unwrap_or(false),
        // One round trip for COPY and one for the commit, for many records.
        batch: problems.number("postgres.batch", file.batch, 1..=100_000, 1000),
        linger: problems.duration("postgres.linger", file.linger, Duration::ZERO..=MINUTE, Duration::from_millis(20)),
        connections: problems.number("postgres.connections", file.connections, 1..=64, 2),
        connect_timeout: problems.duration(
            "postgres.connect_timeout",
            file.connect_timeout,
            moment..=HOUR,
            10 * SECOND,
        ),
        timeout: problems.duration("postgres.timeout", file.timeout, moment..=HOUR, 30 * SECOND),
        max_unsettled: InFlight {
            records: problems.number("postgres.max_unsettled", file.max_unsettled, 1..=10_000_000, 10_000),
            bytes: problems.number(
                "postgres.max_unsettled_bytes",
                file.max_unsettled_bytes,
                1 << 20..=1 << 40,
                64 << 20,
            ),
        },
    })
}
