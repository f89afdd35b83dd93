//! The mTLS port: accept, TLS handshake, identity, upgrade; each bounded in number and time.
//!
//! A connection's set-up runs in a task of its own, which ends by starting the session's much smaller
//! task: what a handshake needs is not kept for the hours that a vehicle stays connected.

mod addresses;
mod metrics;
mod tcp;
pub mod tls;
pub mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

use self::addresses::{Addresses, Place};
pub use self::metrics::ListenerMetrics;
use self::metrics::Refusal;
pub use self::tls::{Tls, TlsError};
use self::upgrade::{Access, Upgrade, Upgraded};
use crate::config;
use crate::identity::{Identity, IdentityError};
use crate::logging::RateLimited;
use crate::record::Origin;
use crate::session::{Pipeline, Session};

/// The mTLS port, bound and not yet accepting.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    shared: Arc<Shared>,
    /// One permit per connection, from accept to the end of the session.
    connections: Arc<Semaphore>,
}

/// What all set-ups share.
#[derive(Debug)]
struct Shared {
    config: config::Listener,
    tls: Arc<Tls>,
    pipeline: Arc<Pipeline>,
    metrics: ListenerMetrics,
    addresses: Arc<Addresses>,
    /// Bounds the handshakes that run at the same time.
    handshakes: Semaphore,
    handshake_log: RateLimited,
    identity_log: RateLimited,
}

/// What a connection gives back when it ends, in this order: whoever gets its connection permit may come
/// from the same address.
struct Permits {
    _address: Place,
    _connection: OwnedSemaphorePermit,
}

/// Why the port cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("host {host:?}, port {port}: {source}")]
pub struct BindError {
    host: String,
    port: u16,
    source: io::Error,
}

/// Connections that the kernel completes before this process accepts them.
const BACKLOG: u32 = 4096;
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// Binds the mTLS port.
///
/// # Errors
/// [`BindError`] names the configured host and port.
pub async fn bind(config: &config::Listener) -> Result<TcpListener, BindError> {
    let error = |source| BindError { host: config.host.clone(), port: config.port, source };
    let host = config.host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = if host.is_empty() {
        // Dual stack where the kernel has IPv6, else IPv4 alone.
        vec![([0_u16; 8], config.port).into(), ([0_u8; 4], config.port).into()]
    } else {
        tokio::net::lookup_host((host, config.port)).await.map_err(error)?.collect()
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(source) => last = source,
        }
    }
    Err(error(last))
}

fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Listener {
    /// A listener over a bound port.
    #[must_use]
    pub fn new(tcp: TcpListener, config: config::Listener, tls: Arc<Tls>, pipeline: Arc<Pipeline>) -> Self {
        let connections = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
        let shared = Shared {
            addresses: Arc::new(Addresses::new(config.max_connections_per_address)),
            handshakes: Semaphore::new(config.max_handshakes.min(Semaphore::MAX_PERMITS)),
            metrics: ListenerMetrics::register(&config),
            handshake_log: RateLimited::default(),
            identity_log: RateLimited::default(),
            config,
            tls,
            pipeline,
        };
        Self { tcp, shared: Arc::new(shared), connections }
    }

    /// The bound address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts vehicles until the process drains, then waits for the sessions to end, as long as the shutdown leaves
    /// them time.
    pub async fn run(self) {
        let shutdown = self.shared.pipeline.shutdown.clone();
        tokio::select! {
            () = self.accept() => {}
            () = shutdown.clone().draining() => {}
        }
        let Self { tcp, shared, connections } = self;
        drop(tcp);
        let all = u32::try_from(shared.config.max_connections).unwrap_or(u32::MAX);
        if tokio::time::timeout_at(shutdown.sessions_end(), connections.acquire_many(all)).await.is_err() {
            let left = shared.config.max_connections - connections.available_permits();
            tracing::warn!(connections = left, "drain_deadline_reached");
        }
    }

    async fn accept(&self) {
        loop {
            let Ok(connection) = Arc::clone(&self.connections).acquire_owned().await else { return };
            let (tcp, peer) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: waiting is all that helps.
                    self.shared.metrics.refused(Refusal::Accept);
                    if let Some(skipped) = self.shared.handshake_log.permit() {
                        tracing::error!(%error, skipped, "accept_error");
                    }
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                    continue;
                }
            };
            let Some(address) = Addresses::enter(&self.shared.addresses, peer.ip()) else {
                self.shared.metrics.refused(Refusal::Address);
                continue;
            };
            let permits = Permits { _address: address, _connection: connection };
            tokio::spawn(Box::pin(set_up(Arc::clone(&self.shared), tcp, peer, permits)));
        }
    }
}

/// From a TCP connection to a session.
async fn set_up(shared: Arc<Shared>, tcp: TcpStream, peer: SocketAddr, permits: Permits) {
    let started = Instant::now();
    let tls = match handshake(&shared, tcp).await {
        Ok(tls) => tls,
        Err((refusal, error)) => {
            shared.metrics.refused(refusal);
            if let Some(skipped) = shared.handshake_log.permit() {
                tracing::info!(
                    target: "fleet_telemetry::handshake",
                    activity = true, %peer, class = refusal.label(), %error, skipped, "tls_handshake_error"
                );
            }
            return;
        }
    };
    shared.metrics.handshake_seconds.record(started.elapsed().as_secs_f64());
    let identity = identify(&tls);
    if let Err(error) = &identity {
        shared.metrics.unidentified(error);
        if let Some(skipped) = shared.identity_log.permit() {
            tracing::error!(%peer, %error, skipped, "extract_sender_id_err");
        }
    }
    let access = if identity.is_ok() { Access::Granted } else { Access::Refused };
    match (upgrade::serve(tls, access, shared.config.header_timeout).await, identity) {
        (Ok(Upgraded::WebSocket(tls, early, upgrade)), Ok(identity)) => {
            let session = Box::new(session(&shared, tls, early, identity, *upgrade, peer));
            tokio::spawn(async move {
                session.run().await;
                drop(permits);
            });
        }
        (Ok(_), _) => shared.metrics.answered.increment(1),
        (Err(_), _) => shared.metrics.refused(Refusal::Http),
    }
}

async fn handshake(shared: &Shared, tcp: TcpStream) -> Result<TlsStream<TcpStream>, (Refusal, io::Error)> {
    tcp::configure(&tcp, &shared.config).map_err(|error| (Refusal::Accept, error))?;
    let accept = async {
        let _turn = shared.handshakes.acquire().await;
        TlsAcceptor::from(shared.tls.current()).accept(tcp).await
    };
    match tokio::time::timeout(shared.config.handshake_timeout, accept).await {
        Ok(Ok(tls)) => Ok(tls),
        Ok(Err(error)) => Err((Refusal::of_handshake(&error), error)),
        Err(_) => Err((Refusal::HandshakeTimeout, io::ErrorKind::TimedOut.into())),
    }
}

/// rustls lists the end-entity certificate first and has verified the chain from it.
fn identify(tls: &TlsStream<TcpStream>) -> Result<Identity, IdentityError> {
    let (_, connection) = tls.get_ref();
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or(IdentityError::Unparsable)?;
    Identity::from_verified_leaf(leaf)
}

fn session(
    shared: &Shared,
    tls: TlsStream<TcpStream>,
    early: bytes::Bytes,
    identity: Identity,
    upgrade: Upgrade,
    peer: SocketAddr,
) -> Session<TlsStream<TcpStream>> {
    let socket_id = Uuid::new_v4();
    let label = upgrade.txid.filter(|_| shared.pipeline.session.connection_id_from_header);
    let told = |text| shared.pipeline.permissions.label(text);
    let origin = Origin {
        identity,
        connection_id: label.unwrap_or(socket_id).to_string().into(),
        network_interface: told(upgrade.network_interface).into(),
        client_version: told(upgrade.client_version).into(),
    };
    tracing::info!(
        activity = true,
        device_id = origin.identity.device_id(),
        network_interface = &*origin.network_interface,
        txid = &*origin.connection_id,
        %socket_id,
        %peer,
        user_agent = told(upgrade.user_agent),
        "X-Forwarded-For" = told(upgrade.forwarded_for),
        "socket_connected"
    );
    Session::new(Arc::clone(&shared.pipeline), tls, &early, origin, socket_id)
}
