//! The configuration, resolved: typed, validated, with every default filled in.
//!
//! `file` is the JSON as operators write it (the reference server's keys and ours), `resolve` turns it
//! and the environment into a [`Config`], reporting every error at once. A `Config` holds no live object.

mod admin;
mod bounds;
mod dispatchers;
mod duration;
mod env;
mod error;
pub mod file;
mod json;
mod kafka;
pub mod kafka_properties;
pub(crate) mod kafka_values;
mod limits;
mod log;
mod logger;
mod permissions;
mod policy;
mod ports;
pub mod resolve;
mod routes;
mod section;
mod shutdown;
mod sqlite;
mod syntax;
mod targets;
mod tls;
mod workers;

use std::path::Path;
use std::time::Duration;

pub use admin::Admin;
pub use dispatchers::{DispatcherName, Dispatchers};
pub use env::Env;
pub use error::{ConfigError, LoadError, Problems, Warning};
pub use kafka::Kafka;
pub use log::Log;
pub use logger::Logger;
pub use permissions::{ApiTls, ApiToken, PermissionStore, Permissions, PermissionsApi};
pub use policy::{OverLimit, Policy, RateLimit};
pub use resolve::resolve;
pub use routes::{AckRule, Route};
pub use shutdown::Shutdown;
pub use sqlite::Sqlite;
pub use syntax::SyntaxError;
pub use targets::{Form, Start, Target, WhenFull};
pub use tls::Tls;
pub use workers::Workers;

/// Reads, resolves and checks a configuration file.
///
/// # Errors
/// When the file cannot be read, is not JSON, or has mistakes: all of them are reported.
pub fn load(file: &Path, env: &Env) -> Result<(Config, Vec<Warning>), LoadError> {
    let bytes = std::fs::read(file).map_err(|source| LoadError::Unreadable { file: file.to_owned(), source })?;
    let parsed = file::FileConfig::parse(&bytes).map_err(|error| LoadError::Syntax { file: file.to_owned(), error })?;
    resolve(parsed, env).map_err(|problems| LoadError::Invalid { file: file.to_owned(), problems })
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
}

/// The mTLS listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Bind host; empty means all interfaces.
    pub host: String,
    /// Bind port; 0 picks a free one.
    pub port: u16,
    /// Certificates.
    pub tls: Tls,
    /// A connection on which nothing is sent is probed after so long, by TCP.
    pub tcp_keepalive: Duration,
    /// What was sent and is not acknowledged for so long ends the connection, by TCP.
    pub tcp_user_timeout: Duration,
    /// From accept to the end of the ClientHello.
    pub client_hello_timeout: Duration,
    /// From the ClientHello to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the handshake to the end of the request headers.
    pub header_timeout: Duration,
    /// Sessions in all; above, new connections are closed.
    pub max_connections: usize,
    /// Connections that are not sessions yet; above, the silent make room.
    pub max_pending_connections: usize,
    /// Connections per client address; above, new ones are closed.
    pub max_connections_per_address: usize,
    /// TLS handshakes that are computed, or in line for a worker, at the same time.
    pub max_handshakes: usize,
}

/// Bounds of one connection.
#[derive(Clone, Debug)]
pub struct Session {
    /// Longest message that is processed; a longer one gets the error response.
    pub max_message_bytes: usize,
    /// Longest message that is read at all; a longer one closes the connection with 1009.
    pub max_frame_bytes: usize,
    /// Frames that one message may be cut into.
    pub max_fragments: usize,
    /// Pings that a client may send per second.
    pub max_pings_per_second: u32,
    /// Without any frame for so long, the connection is closed.
    pub idle_timeout: Duration,
    /// Without any frame for so long, the server pings.
    pub ping_interval: Duration,
    /// Handed off and not settled; above, the server stops reading from this vehicle.
    pub max_unsettled: InFlight,
    /// Bytes that all connections together may keep: unfinished messages, records that wait for room, unread replies.
    pub max_kept_bytes: usize,
    /// Bytes of replies that the vehicle has not taken; above, nothing is read from it.
    pub max_unread_reply_bytes: usize,
    /// A reply must leave within this time.
    pub write_timeout: Duration,
    /// `X-TXID` becomes the connection id when it is a UUID.
    pub connection_id_from_header: bool,
}

/// How much may be on its way at once: records, and the memory in bytes that they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Records.
    pub records: usize,
    /// Bytes.
    pub bytes: usize,
}

/// Bounds of each plain-HTTP listener: status, metrics, the API of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// Connections; above, those that wait for their peer make room.
    pub max_connections: usize,
    /// Connections per client address; above, the same among its own.
    pub max_connections_per_address: usize,
    /// From accept, or from a request's first byte, to the end of its headers.
    pub header_timeout: Duration,
}
