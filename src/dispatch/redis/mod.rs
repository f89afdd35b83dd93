//! Redis: records on channels for whoever listens now, and on streams for whoever comes later.
//!
//! ```text
//! sessions ──▶ Batching ──batches──▶ Publisher ──ZRANGE <set>…, then PUBLISH, XADD …──▶ server, or nodes of a cluster
//!     ▲                                 │                                                     │
//!     └─────────── receipts ◀───────────┴─────────────────────────────────── replies ◀────────┘
//! ```
//!
//! `names` says what channels, sets and streams are called, `resp` is the protocol, `server` a connection, `topology` which
//! server has what, and `sink` ties them together.

mod names;
pub mod resp;
mod server;
mod sink;
mod topology;

use std::time::Duration;

use tokio::time::Instant;

use self::server::{Server, Trouble};
use self::sink::Publisher;
use self::topology::Guide;
use super::ConnectError;
use super::batching::{Batching, Settings};
use crate::backoff::Backoff;
use crate::config::{self, DispatcherName, InFlight};
use crate::record::Topics;

/// Records whose commands go out together, at most.
const BATCH: InFlight = InFlight { records: 1000, bytes: 4 << 20 };
/// Between attempts, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Connects to every server, which has to answer within `connect_timeout`.
///
/// "Delivered" means that each command of the record was answered: it is in the stream, and whoever listened then has been
/// sent it.
///
/// # Errors
/// [`ConnectError`] names the servers and what they said.
pub async fn connect(
    config: &config::Redis,
    dispatchers: &config::Dispatchers,
    topics: &Topics,
) -> Result<Batching, ConnectError> {
    let guide = Guide::new(config).map_err(|error| misconfigured(error.to_string()))?;
    answered(config, &guide).await?;
    let form = dispatchers.target(DispatcherName::Redis).form;
    let sink = Publisher::new(config, &dispatchers.namespace, form, topics, guide);
    let settings = Settings {
        batch: BATCH,
        linger: Duration::ZERO,
        pauses: PAUSES,
        // Nobody wants to hear late what only those are told who listen now; a stream is waited for.
        give_up: config.streams.is_none().then_some(config.publish_timeout),
    };
    Batching::start(DispatcherName::Redis, config.max_unsettled, settings, vec![sink]).map_err(|error| {
        let message = format!("cannot start the thread that publishes: {error}");
        ConnectError::Unreachable { dispatcher: DispatcherName::Redis, message }
    })
}

/// Why the files of the section cannot be used.
pub(crate) fn problem(config: &config::Redis) -> Option<String> {
    Guide::new(config).err().map(|error| error.to_string())
}

/// Tries until every server answers, one refuses for good, or the time is over.
async fn answered(config: &config::Redis, guide: &Guide) -> Result<(), ConnectError> {
    let start = Instant::now();
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        let trouble = match all(guide).await {
            Ok(()) => return Ok(()),
            Err(trouble) => trouble,
        };
        let message = format!("redis_connect_error {trouble}");
        // Credentials do not become right by waiting.
        if REFUSALS.iter().any(|kind| trouble.contains(kind)) {
            return Err(misconfigured(format!("{message}; look at redis.username, redis.password")));
        }
        let pause = backoff.delay();
        if start.elapsed() + pause >= config.connect_timeout {
            let message = format!("{message}; tried for {:?} (redis.connect_timeout)", config.connect_timeout);
            return Err(ConnectError::Unreachable { dispatcher: DispatcherName::Redis, message });
        }
        tokio::time::sleep(pause).await;
    }
}

/// What servers say to wrong credentials.
const REFUSALS: [&str; 3] = ["WRONGPASS", "NOAUTH", "without any password configured"];

async fn all(guide: &Guide) -> Result<(), String> {
    let topology = guide.topology(&[]).await?;
    if topology.servers().is_empty() {
        return Err("the cluster has no nodes with slots yet".to_owned());
    }
    for address in topology.servers() {
        let connected: Result<Server, Trouble> = guide.connect(address).await;
        connected.map_err(|trouble| format!("{address}: {trouble}"))?;
    }
    Ok(())
}

fn misconfigured(message: String) -> ConnectError {
    ConnectError::Config { dispatcher: DispatcherName::Redis, message }
}
