//! PostgreSQL: records as rows that can be queried.
//!
//! "Delivered" means committed. A record that is sent again changes nothing: its id is the primary key. `rows` writes a
//! batch, `connection` has the connection and makes the tables, `sink` decides what an error means.

mod connection;
mod rows;
mod sink;

use std::time::{Duration, Instant};

use self::connection::{Database, Failure};
use self::sink::Writer;
use super::ConnectError;
use super::batching::{Batching, Settings};
use crate::backoff::Backoff;
use crate::config::{self, DispatcherName, InFlight};
use crate::record::Topics;

/// The first pause before another attempt, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Connects within `connect_timeout`, and makes the tables.
///
/// # Errors
/// [`ConnectError`] names the host and what the database said.
pub async fn connect(config: &config::Postgres, topics: &Topics) -> Result<Batching, ConnectError> {
    let dispatcher = DispatcherName::Postgres;
    let database = Database::new(config).map_err(|message| ConnectError::Config { dispatcher, message })?;
    prepare(config, &database).await?;
    let sinks = (0..config.connections).map(|_| Writer::new(database.clone(), topics)).collect();
    let settings = Settings {
        batch: InFlight { records: config.batch, ..config.max_unsettled },
        linger: config.linger,
        pauses: PAUSES,
        give_up: None,
    };
    Batching::start(dispatcher, config.max_unsettled, settings, sinks).map_err(|error| {
        let message = format!("cannot start the thread that writes: {error}");
        ConnectError::Unreachable { dispatcher, message }
    })
}

/// Why the section cannot be used.
pub(crate) fn problem(config: &config::Postgres) -> Option<String> {
    Database::new(config).err()
}

async fn prepare(config: &config::Postgres, database: &Database) -> Result<(), ConnectError> {
    let dispatcher = DispatcherName::Postgres;
    let start = Instant::now();
    let mut backoff = Backoff::new(PAUSES.0, Duration::from_secs(1));
    loop {
        let error = match database.prepare().await {
            Ok(()) => return Ok(()),
            Err(Failure::Refused(message)) => {
                let message = format!("postgres.url {}: {message}", database.place());
                return Err(ConnectError::Config { dispatcher, message });
            }
            Err(Failure::Away(error)) => error,
        };
        let pause = backoff.delay();
        if start.elapsed() + pause >= config.connect_timeout {
            let message = format!(
                "postgres.url {}: {error}; tried for {:?} (postgres.connect_timeout)",
                database.place(),
                config.connect_timeout
            );
            return Err(ConnectError::Unreachable { dispatcher, message });
        }
        tokio::time::sleep(pause).await;
    }
}
