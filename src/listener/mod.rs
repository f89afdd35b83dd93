//! The mTLS port: accept, TLS handshake, identity, upgrade; each bounded in number and time.
//!
//! A connection's set-up runs in a task of its own, which ends by starting the session's much smaller
//! task: what a handshake needs is not kept for the hours that a vehicle stays connected.
//!
//! Until it has a session, a connection counts among those that are pending, which have places of their own
//! ([`crate::places`]): those that prove nothing never take one that a vehicle needs.

mod hello;
mod metrics;
mod newcomer;
mod tcp;
pub mod tls;
mod turns;
pub mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use self::metrics::ListenerMetrics;
use self::metrics::Refusal;
pub use self::tls::{Tls, TlsError};
use self::turns::Turns;
use crate::config;
use crate::identity::IdentityError;
use crate::logging::RateLimited;
use crate::open_files;
use crate::places::{AddressFull, Addresses, Claim, Places};
use crate::session::Pipeline;

/// The mTLS port, bound and not yet accepting.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    shared: Arc<Shared>,
}

/// What all set-ups share.
#[derive(Debug)]
struct Shared {
    config: config::Listener,
    tls: Arc<Tls>,
    pipeline: Arc<Pipeline>,
    metrics: ListenerMetrics,
    /// Connections that are not sessions yet.
    pending: Arc<Places>,
    /// One permit per session, from the end of its handshake.
    sessions: Arc<Semaphore>,
    turns: Turns,
    handshake_log: RateLimited,
    identity_log: RateLimited,
    full_log: RateLimited,
    displaced_log: RateLimited,
}

/// A ClientHello that was sent right behind the TCP handshake may be so late, in a mobile network.
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// After a failed accept for which nobody can make room.
const BACK_OFF: Duration = Duration::from_millis(100);
/// For the connection that has made room to be closed.
const CLOSING: Duration = Duration::from_millis(1);

impl Listener {
    /// A listener over a bound port. At most `descriptors` connections are open, whatever they are.
    #[must_use]
    pub fn new(
        tcp: TcpListener,
        config: config::Listener,
        descriptors: usize,
        tls: Arc<Tls>,
        pipeline: Arc<Pipeline>,
    ) -> Self {
        if let Err(error) = tcp::configure(&tcp, &config) {
            tracing::error!(%error, "tcp_options_not_set");
        }
        let sessions = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
        let shared = Shared {
            pending: pending(&config, descriptors, Arc::clone(&sessions)),
            sessions,
            turns: Turns::new(config.max_handshakes),
            metrics: ListenerMetrics::register(&config),
            handshake_log: RateLimited::default(),
            identity_log: RateLimited::default(),
            full_log: RateLimited::default(),
            displaced_log: RateLimited::default(),
            config,
            tls,
            pipeline,
        };
        Self { tcp, shared: Arc::new(shared) }
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
        let Self { tcp, shared } = self;
        drop(tcp);
        // Nobody waits for those who have said nothing.
        shared.pending.clear_weak();
        if tokio::time::timeout_at(shutdown.sessions_end(), shared.ended()).await.is_err() {
            let left = shared.config.max_connections - shared.sessions.available_permits() + shared.pending.len();
            tracing::warn!(connections = left, "drain_deadline_reached");
        }
    }

    async fn accept(&self) {
        loop {
            self.shared.pending.room().await;
            match self.tcp.accept().await {
                Ok((tcp, peer)) => self.admit(tcp, peer),
                Err(error) => self.not_accepted(&error).await,
            }
        }
    }

    fn admit(&self, tcp: TcpStream, peer: SocketAddr) {
        let shared = &self.shared;
        // Closed at once, it can try elsewhere; left in the kernel's backlog, it would wait for nothing.
        if shared.sessions.available_permits() == 0 {
            return shared.full();
        }
        match Places::enter(&shared.pending, peer.ip()) {
            Ok((place, displaced)) => {
                tokio::spawn(newcomer::run(Arc::clone(shared), tcp, peer, place, displaced));
            }
            Err(AddressFull) => shared.metrics.refused(Refusal::Address),
        }
    }

    /// Out of file descriptors, mostly: somebody who is silent makes room, or waiting is all that helps. (Linux says so
    /// also when nobody wants to connect. Whoever makes room then does it for nobody; once, for then there is one.)
    async fn not_accepted(&self, error: &io::Error) {
        self.shared.metrics.refused(Refusal::Accept);
        if let Some(skipped) = self.shared.handshake_log.permit() {
            tracing::error!(%error, skipped, "accept_error");
        }
        if open_files::is_the_peers_fault(error) {
            return;
        }
        let made_room = self.shared.pending.displace();
        tokio::time::sleep(if made_room { CLOSING } else { BACK_OFF }).await;
    }
}

/// Places for connections that are not sessions yet, as far as sessions leave descriptors for them.
fn pending(config: &config::Listener, descriptors: usize, sessions: Arc<Semaphore>) -> Arc<Places> {
    let (most, max_connections) = (config.max_pending_connections, config.max_connections);
    let limit = move || {
        let used = max_connections.saturating_sub(sessions.available_permits());
        most.min(descriptors.saturating_sub(used)).max(1)
    };
    Places::new(limit, Arc::new(Addresses::new(config.max_connections_per_address)), ROUND_TRIP)
}

impl Shared {
    /// Waits until no connection is left.
    async fn ended(&self) {
        self.pending.emptied().await;
        let all = u32::try_from(self.config.max_connections).unwrap_or(u32::MAX);
        let _ = self.sessions.acquire_many(all).await;
    }

    /// There are as many sessions as there may be.
    fn full(&self) {
        self.metrics.refused(Refusal::Connections);
        if let Some(skipped) = self.full_log.permit() {
            let limit = self.config.max_connections;
            tracing::warn!(limit, skipped, "connection_limit_reached");
        }
    }

    /// A connection that had this claim was closed for another one.
    fn displaced(&self, claim: Claim, peer: SocketAddr) {
        let refusal = Refusal::displaced(claim);
        self.metrics.refused(refusal);
        if let Some(skipped) = self.displaced_log.permit() {
            let limit = self.config.max_pending_connections;
            tracing::warn!(%peer, class = refusal.label(), limit, skipped, "pending_connections_full");
        }
    }

    fn handshake_failed(&self, peer: SocketAddr, (refusal, error): &newcomer::Refused) {
        self.metrics.refused(*refusal);
        if let Some(skipped) = self.handshake_log.permit() {
            tracing::info!(
                target: "fleet_telemetry::handshake",
                activity = true, %peer, class = refusal.label(), %error, skipped, "tls_handshake_error"
            );
        }
    }

    fn unidentified(&self, peer: SocketAddr, error: &IdentityError) {
        self.metrics.unidentified(error);
        if let Some(skipped) = self.identity_log.permit() {
            tracing::error!(%peer, %error, skipped, "extract_sender_id_err");
        }
    }
}
