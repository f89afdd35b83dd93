//! MQTT: the last values of vehicles under topics of their own, as JSON, for those who subscribe.
//!
//! ```text
//! sessions ──▶ Batching ──batches──▶ Publisher ──PUBLISH …──▶ broker
//!     ▲                                 │  ▲                    │
//!     └─────────── receipts ◀───────────┘  └─── PUBACK, PUBCOMP ┘
//! ```
//!
//! `messages` and `topic` say what a record becomes, `packet` is the protocol, `connection` the socket, `exchange` what
//! is on its way over it, and `sink` ties them together. `consent` removes what the broker retains and is no longer
//! allowed; `discovery`, `entities` and `vehicles` are for Home Assistant.

mod connection;
mod consent;
mod discovery;
mod entities;
mod exchange;
pub mod messages;
pub mod packet;
mod sink;
mod topic;
mod vehicles;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::connection::{Broker, OpenError};
use self::consent::Consent;
use self::sink::Publisher;
use super::ConnectError;
use super::batching::{Batching, Settings};
use crate::config::{self, DispatcherName, InFlight};
use crate::permissions::Permissions;
use crate::record::Topics;

/// Records whose messages go out together, at most. Brokers answer while more are sent, so a batch only bounds what
/// has to be remembered.
const BATCH: InFlight = InFlight { records: 1000, bytes: 4 << 20 };
/// The first pause before another attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// Connects to the broker, which has to accept within `connect_timeout`.
///
/// "Delivered" means that the broker has confirmed every message of the record; with QoS 0, that the system has taken
/// them for a broker that had accepted the connection.
///
/// # Errors
/// [`ConnectError`] names the broker and what it said.
pub async fn connect(
    config: &config::Mqtt,
    topics: &Topics,
    permissions: &Arc<Permissions>,
) -> Result<Batching, ConnectError> {
    let broker = Broker::new(config).map_err(|error| misconfigured(error.to_string()))?;
    let client_id = match config.client_id.as_str() {
        // Two clients of one id would throw each other out, again and again.
        "" => format!("fleet-{:012x}", uuid::Uuid::new_v4().as_u128() >> 80),
        given => given.to_owned(),
    };
    accepted(config, &broker, &client_id).await?;
    let sink = Publisher::new(config, broker, client_id, Consent::new(Arc::clone(permissions)), topics);
    let settings = Settings {
        batch: BATCH,
        linger: Duration::ZERO,
        pauses: (PAUSE.min(config.connect_retry_interval), config.connect_retry_interval),
        give_up: None,
    };
    Batching::start(DispatcherName::Mqtt, config.max_unsettled, settings, vec![sink]).map_err(|error| {
        let message = format!("cannot start the thread that publishes: {error}");
        ConnectError::Unreachable { dispatcher: DispatcherName::Mqtt, message }
    })
}

/// Why the files of the section cannot be used.
pub(crate) fn problem(config: &config::Mqtt) -> Option<String> {
    Broker::new(config).err().map(|error| error.to_string())
}

/// Tries until the broker accepts, says for good that it does not, or the time is over.
async fn accepted(config: &config::Mqtt, broker: &Broker, client_id: &str) -> Result<(), ConnectError> {
    let start = Instant::now();
    let connect = sink::connect(config, client_id, true);
    let mut backoff = crate::backoff::Backoff::new(PAUSE, Duration::from_secs(1));
    loop {
        let left = config.connect_timeout.saturating_sub(start.elapsed());
        let error = match broker.open(&connect, left).await {
            Ok(connection) => {
                connection.close(config.disconnect_timeout).await;
                return Ok(());
            }
            Err(error) => error,
        };
        let address = format!("mqtt.broker {}:{}", broker.host, broker.port);
        if let OpenError::Refused(1 | 2 | 4 | 5) = error {
            return Err(misconfigured(format!(
                "{address}: {error}; look at mqtt.username, mqtt.password, mqtt.client_id"
            )));
        }
        let pause = backoff.delay();
        if start.elapsed() + pause >= config.connect_timeout {
            let message =
                format!("{address}: {error}; tried for {:?} (mqtt.connect_timeout_ms)", config.connect_timeout);
            return Err(ConnectError::Unreachable { dispatcher: DispatcherName::Mqtt, message });
        }
        tokio::time::sleep(pause).await;
    }
}

fn misconfigured(message: String) -> ConnectError {
    ConnectError::Config { dispatcher: DispatcherName::Mqtt, message }
}
