//! Where records go: the one trait that every dispatcher implements, and the fan-out.
//!
//! To add a dispatcher: a file here, a cargo feature, a config struct, one arm in [`connect`], the
//! contract suite (`tests/dispatchers/contract.rs`), a test against the real server, a row in the docs.

pub mod batching;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod cells;
#[cfg(any(feature = "mqtt", feature = "redis"))]
mod duplex;
pub mod fan_out;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
mod late;
pub mod logger;
pub mod metrics;
#[cfg(feature = "mqtt")]
pub mod mqtt;
pub mod outbox;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod receipt;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod targets;
#[cfg(test)]
mod tests;
#[cfg(feature = "zmq")]
pub mod zmq;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;

pub use fan_out::{Blocked, Route, Target};
pub use late::Late;
pub use metrics::DispatcherMetrics;
pub use outbox::Outbox;
pub use receipt::{Outcome, Outlet, Receipt, Settled};
pub use targets::Targets;

use crate::config::DispatcherName;
use crate::permissions::Permissions;
use crate::record::{Record, Topics};

/// A way out of the process.
///
/// No ack, metric or error-report code belongs in an implementation: the receipt does all of that.
pub trait Dispatcher: fmt::Debug + Send + Sync + 'static {
    /// Its name in the configuration, the metrics and the logs.
    fn name(&self) -> DispatcherName;

    /// Hands a record off without blocking. The receipt is settled later (or at once), exactly once:
    /// `delivered` when the record is safe by this dispatcher's own criterion, else `failed`.
    ///
    /// # Errors
    /// [`Full`] gives the receipt back when there is no room; the caller waits for [`Outbox::room`]
    /// and offers the same record again, before any later record of its vehicle.
    fn dispatch(&self, record: &Record, receipt: Receipt) -> Result<(), Full>;

    /// The bound on unsettled records. Each that is taken enters it ([`Outbox::enter`]); its receipt gives the place
    /// back.
    fn outbox(&self) -> &Outbox;

    /// Whether records that it is given now are likely to be delivered; sampled for `/readyz`.
    fn health(&self) -> Health;

    /// Delivers what it holds, until `deadline`. Whatever is left is settled as lost.
    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()>;
}

/// No room; the receipt comes back unsettled.
#[derive(Debug)]
pub struct Full(pub Receipt);

/// A dispatcher's state, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Delivering.
    Healthy,
    /// Not delivering, and why.
    Unhealthy(String),
}

/// Why a record was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// The other side refused it, or it expired.
    #[error("{0}")]
    Refused(String),
    /// It cannot be sent in this form.
    #[error("{0}")]
    Unsendable(String),
    /// The dispatcher was closed first.
    #[error("closed before the record was delivered")]
    Closed,
}

/// Why a dispatcher did not start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration is not usable.
    #[error("{dispatcher}: {message}")]
    Config {
        /// Which.
        dispatcher: DispatcherName,
        /// What is wrong with which key.
        message: String,
    },
    /// The other side cannot be reached, or is not ready.
    #[error("{dispatcher}: {message}")]
    Unreachable {
        /// Which.
        dispatcher: DispatcherName,
        /// Where it was looked for, what happened, and for how long it was tried.
        message: String,
    },
}

/// What can be told without connecting of why a dispatcher would not start.
pub(crate) fn problems(config: &crate::config::Dispatchers) -> Vec<(DispatcherName, String)> {
    let mut problems = Vec::new();
    #[cfg(feature = "kafka")]
    problems
        .extend(config.kafka.iter().flat_map(kafka::trial::problems).map(|problem| (DispatcherName::Kafka, problem)));
    #[cfg(feature = "postgres")]
    problems.extend(
        config.postgres.as_ref().and_then(postgres::problem).map(|problem| (DispatcherName::Postgres, problem)),
    );
    #[cfg(feature = "http")]
    problems.extend(config.http.as_ref().and_then(http::problem).map(|problem| (DispatcherName::Http, problem)));
    #[cfg(feature = "mqtt")]
    problems.extend(config.mqtt.as_ref().and_then(mqtt::problem).map(|problem| (DispatcherName::Mqtt, problem)));
    #[cfg(feature = "redis")]
    problems.extend(config.redis.as_ref().and_then(redis::problem).map(|problem| (DispatcherName::Redis, problem)));
    #[cfg(feature = "sqlite")]
    problems.extend(config.sqlite.as_ref().and_then(sqlite::problem).map(|problem| (DispatcherName::Sqlite, problem)));
    #[cfg(feature = "zmq")]
    problems.extend(config.zmq.as_ref().and_then(zmq::problem).map(|problem| (DispatcherName::Zmq, problem)));
    problems
}

/// Connects a dispatcher; returns when it is ready to deliver. `permissions` are for those that keep what could be
/// taken back.
///
/// # Errors
/// [`ConnectError`].
#[cfg_attr(
    not(feature = "mqtt"),
    allow(unused_variables, reason = "only those that keep something ask for permissions")
)]
pub async fn connect(
    name: DispatcherName,
    config: &crate::config::Dispatchers,
    topics: &Topics,
    permissions: &Arc<Permissions>,
) -> Result<Arc<dyn Dispatcher>, ConnectError> {
    // The configuration's resolver has checked that the section exists and that the build has it.
    let missing =
        || ConnectError::Config { dispatcher: name, message: "not configured, or not in this build".to_owned() };
    Ok(match name {
        DispatcherName::Logger => {
            let log = crate::logging::installed().ok_or_else(|| ConnectError::Config {
                dispatcher: name,
                message: "the process has no log".to_owned(),
            })?;
            Arc::new(logger::Logger::new(&config.logger, topics, log.clone()))
        }
        #[cfg(feature = "kafka")]
        DispatcherName::Kafka => {
            Arc::new(kafka::Kafka::connect(config.kafka.as_ref().ok_or_else(missing)?, config, topics).await?)
        }
        #[cfg(feature = "sqlite")]
        DispatcherName::Sqlite => Arc::new(sqlite::connect(config.sqlite.as_ref().ok_or_else(missing)?, topics)?),
        #[cfg(feature = "mqtt")]
        DispatcherName::Mqtt => {
            Arc::new(mqtt::connect(config.mqtt.as_ref().ok_or_else(missing)?, topics, permissions).await?)
        }
        #[cfg(feature = "postgres")]
        DispatcherName::Postgres => {
            Arc::new(postgres::connect(config.postgres.as_ref().ok_or_else(missing)?, topics).await?)
        }
        #[cfg(feature = "http")]
        DispatcherName::Http => Arc::new(http::connect(config.http.as_ref().ok_or_else(missing)?, topics).await?),
        #[cfg(feature = "redis")]
        DispatcherName::Redis => {
            Arc::new(redis::connect(config.redis.as_ref().ok_or_else(missing)?, config, topics).await?)
        }
        #[cfg(feature = "zmq")]
        DispatcherName::Zmq => Arc::new(zmq::connect(config.zmq.as_ref().ok_or_else(missing)?, config, topics).await?),
        _ => return Err(missing()),
    })
}
