//! ZeroMQ: records to whoever is connected and has subscribed, over a PUB socket that this server binds.
//!
//! ```text
//! sessions ──▶ Batching ──▶ Publisher ──[topic, payload]──▶ PUB socket ──▶ subscribers
//!     ▲                        │                                │
//!     └──────── receipts ◀─────┘ when the socket has it    each has a queue of its own, and misses what is above it
//! ```
//!
//! `keys` reads the files of CURVE, `watch` counts subscriptions and tells what happens at the socket, `sink` sends.

mod keys;
mod sink;
mod watch;

use std::time::Duration;

use omq_tokio::{Context, CurveServerOptions, Endpoint, Options, Socket, SocketType};

use self::keys::Keys;
use self::sink::Publisher;
use super::ConnectError;
use super::batching::{Batching, Settings};
use crate::config::{self, DispatcherName, InFlight};
use crate::record::Topics;

/// Records that are handed to the socket without a look at anything else, at most.
const BATCH: InFlight = InFlight { records: 1000, bytes: 4 << 20 };
/// Between looks for somebody who subscribes.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(200));

/// Binds the socket.
///
/// "Delivered" means that the socket has the record. Nobody says who has got it.
///
/// # Errors
/// [`ConnectError`] names the address or the file, and what is wrong with it.
pub async fn connect(
    config: &config::Zmq,
    dispatchers: &config::Dispatchers,
    topics: &Topics,
) -> Result<Batching, ConnectError> {
    let (endpoint, keys) = parts(config).map_err(misconfigured)?;
    let context = Context::new();
    let socket = context.socket(SocketType::Pub, options(config, keys));
    let (watch, _) = watch::start(&socket, config.verbose).await.map_err(|error| misconfigured(error.to_string()))?;
    bind(&socket, endpoint, config).await?;
    let form = dispatchers.target(DispatcherName::Zmq).form;
    let sink = Publisher::new(config, &dispatchers.namespace, form, topics, (context, socket), watch);
    let settings = Settings { batch: BATCH, linger: Duration::ZERO, pauses: PAUSES, give_up: None };
    Batching::start(DispatcherName::Zmq, config.max_unsettled, settings, vec![sink]).map_err(|error| {
        let message = format!("cannot start the thread that publishes: {error}");
        ConnectError::Unreachable { dispatcher: DispatcherName::Zmq, message }
    })
}

/// Why the section cannot be used, told without binding.
pub(crate) fn problem(config: &config::Zmq) -> Option<String> {
    parts(config).err()
}

async fn bind(socket: &Socket, endpoint: Endpoint, config: &config::Zmq) -> Result<(), ConnectError> {
    socket.bind(endpoint).await.map(|_| ()).map_err(|error| {
        let message = format!("zmq.addr {}: {error}", config.addr);
        ConnectError::Unreachable { dispatcher: DispatcherName::Zmq, message }
    })
}

fn parts(config: &config::Zmq) -> Result<(Endpoint, Option<Keys>), String> {
    let endpoint = config.addr.parse::<Endpoint>().map_err(|error| format!("zmq.addr {:?}: {error}", config.addr))?;
    if !matches!(endpoint, Endpoint::Tcp { .. } | Endpoint::Ipc(_)) {
        return Err(format!("zmq.addr {:?}: neither tcp:// nor ipc://", config.addr));
    }
    let keys = config.curve.as_ref().map(Keys::read).transpose().map_err(|error| error.to_string())?;
    Ok((endpoint, keys))
}

fn options(config: &config::Zmq, keys: Option<Keys>) -> Options {
    let options = Options::default().send_hwm(config.high_water_mark).monitor_capacity(watch::CAPACITY);
    match keys {
        None => options,
        Some(Keys { server, allowed }) => options.curve_server_with_options(
            server,
            CurveServerOptions::new().authenticator(move |peer| allowed.contains(&peer.public_key)),
        ),
    }
}

fn misconfigured(message: String) -> ConnectError {
    ConnectError::Config { dispatcher: DispatcherName::Zmq, message }
}
