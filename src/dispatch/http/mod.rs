//! HTTP: batches of records are posted to a URL, in the manner of Standard Webhooks.
//!
//! "Delivered" means that the server has answered with 2xx. `body` writes batches, `signature` signs them, `client`
//! has the connection, `sink` decides what an answer means.

mod body;
mod client;
mod signature;
mod sink;

use std::time::{Duration, Instant};

use self::client::Client;
use self::sink::Poster;
use super::ConnectError;
use super::batching::{Batching, Settings};
use crate::backoff::Backoff;
use crate::config::{self, DispatcherName};
use crate::record::Topics;

/// The first pause before another attempt.
const PAUSE: Duration = Duration::from_millis(200);

/// Connects to the server, which has to accept within `connect_timeout`. Nothing is posted yet.
///
/// # Errors
/// [`ConnectError`] names the server and what happened.
pub async fn connect(config: &config::Webhook, topics: &Topics) -> Result<Batching, ConnectError> {
    let dispatcher = DispatcherName::Http;
    let client = || Client::new(config).map_err(|message| ConnectError::Config { dispatcher, message });
    reach(config, client()?).await?;
    let sink = || Ok(Poster::new(config, client()?, topics));
    let sinks = (0..config.connections).map(|_| sink()).collect::<Result<Vec<_>, ConnectError>>()?;
    let settings = Settings {
        batch: config.batch,
        linger: config.linger,
        pauses: (PAUSE.min(config.max_pause), config.max_pause),
        give_up: None,
    };
    Batching::start(dispatcher, config.max_unsettled, settings, sinks).map_err(|error| {
        let message = format!("cannot start the thread that posts: {error}");
        ConnectError::Unreachable { dispatcher, message }
    })
}

/// Why the section cannot be used.
pub(crate) fn problem(config: &config::Webhook) -> Option<String> {
    Client::new(config).err().or_else(|| Poster::check(config).err())
}

async fn reach(config: &config::Webhook, mut client: Client) -> Result<(), ConnectError> {
    let start = Instant::now();
    let mut backoff = Backoff::new(PAUSE, Duration::from_secs(1));
    loop {
        let Err(error) = client.connect().await else { return Ok(()) };
        let pause = backoff.delay();
        if start.elapsed() + pause >= config.connect_timeout {
            let message = format!(
                "http.url {}: {error}; tried for {:?} (http.connect_timeout)",
                config.authority, config.connect_timeout
            );
            return Err(ConnectError::Unreachable { dispatcher: DispatcherName::Http, message });
        }
        tokio::time::sleep(pause).await;
    }
}
