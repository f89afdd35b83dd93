//! The configuration, resolved: typed, validated, with every default filled in.
//!
//! One file per section holds its form in the file (`FileTls`), its typed form (`Tls`) and the way between (`resolve`),
//! with defaults, limits and their reasons. `file` is the whole document as operators write it (the reference server's
//! keys and ours); `resolve` turns it and the environment into a [`Config`], reporting every error at once. A `Config`
//! holds no live object.

mod address;
mod admin;
mod bounds;
mod client_tls;
mod dispatchers;
mod duration;
mod env;
mod error;
pub mod file;
mod http;
mod in_flight;
mod json;
mod kafka;
pub mod kafka_properties;
pub(crate) mod kafka_values;
mod limits;
mod listener;
mod log;
mod logger;
mod mqtt;
pub(crate) mod onboarding;
mod permissions;
mod policy;
mod ports;
mod postgres;
mod redis;
pub mod resolve;
mod routes;
mod secret;
mod section;
mod session;
mod shutdown;
mod sqlite;
mod syntax;
mod targets;
mod tls;
mod webhook;
mod workers;
mod zmq;

use std::path::Path;

pub use admin::Admin;
pub use client_tls::ClientTls;
pub use dispatchers::{DispatcherName, Dispatchers};
pub use env::Env;
pub use error::{ConfigError, LoadError, Problems, Warning};
pub use http::Http;
pub use in_flight::InFlight;
pub use kafka::Kafka;
pub use listener::Listener;
pub use log::Log;
pub use logger::Logger;
pub use mqtt::{HomeAssistant, Mqtt, QoS};
pub use onboarding::{
    Application, Maker, Onboarding, OnboardingPublic, PublicTls, RESEND_SECONDS, TOKEN_KEY_BYTES, Telemetry, Tokens,
};
pub use permissions::{
    ApiTls, ApiToken, MIN_TOKEN_BYTES, PermissionStore, Permissions, PermissionsApi, TokenError, check_token, rules,
};
pub use policy::{OverLimit, Policy, RateLimit};
pub use postgres::Postgres;
pub use redis::{NoChannel, Redis, RedisMode, Streams};
pub use resolve::resolve;
use resolve::resolve_with_mistakes;
pub use routes::{AckRule, Route};
pub use secret::Secret;
pub use session::Session;
pub use shutdown::Shutdown;
pub use sqlite::Sqlite;
pub use syntax::SyntaxError;
pub use targets::{Form, Start, Target, WhenFull};
pub use tls::{MakerCa, Tls};
pub use webhook::{BatchFormat, Webhook};
pub use workers::Workers;
pub use zmq::{Curve, NoSubscriber, Zmq};

/// Reads, resolves and checks a configuration file.
///
/// # Errors
/// When the file cannot be read, is not JSON, or has mistakes: all of them are reported.
pub fn load(file: &Path, env: &Env) -> Result<(Config, Vec<Warning>), LoadError> {
    resolve(read(file)?, env).map_err(|problems| LoadError::Invalid { file: file.to_owned(), problems })
}

/// The same of a file with mistakes: what can be made of it, with defaults where it is wrong, and all that was found.
/// Nothing to run a server with, if there are errors.
///
/// # Errors
/// When the file cannot be read, or is not JSON.
pub(crate) fn load_with_mistakes(file: &Path, env: &Env) -> Result<(Config, Problems), LoadError> {
    Ok(resolve_with_mistakes(read(file)?, env))
}

fn read(file: &Path) -> Result<file::FileConfig, LoadError> {
    let bytes = std::fs::read(file).map_err(|source| LoadError::Unreadable { file: file.to_owned(), source })?;
    file::FileConfig::parse(&bytes).map_err(|error| LoadError::Syntax { file: file.to_owned(), error })
}

/// Everything that the server needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The mTLS port.
    pub listener: Listener,
    /// Bounds of one connection.
    pub session: Session,
    /// Which record type goes where, and when it is acked.
    pub routes: Vec<Route>,
    /// What is accepted from vehicles beyond the default.
    pub policy: Policy,
    /// The dispatchers that routes use.
    pub dispatchers: Dispatchers,
    /// Plain-HTTP listeners: health, metrics.
    pub admin: Admin,
    /// Bounds of each plain-HTTP listener.
    pub http: Http,
    /// Log level and form.
    pub log: Log,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// The threads that run sessions.
    pub workers: Workers,
    /// What needs an owner's consent; `None`: nothing does.
    pub permissions: Option<Permissions>,
    /// Bringing vehicles here; `None`: somebody else does.
    pub onboarding: Option<Onboarding>,
}
