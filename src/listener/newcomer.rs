//! A connection from its TCP handshake to its session, or to the reason why there is none.
//!
//! ```text
//!  silent ──ClientHello──▶ in line for a turn ◀──▶ waits for its peer ──▶ waits for the request ──▶ session
//!  (weak)                        (firm)                 (fair)                  (fair)
//! ```
//!
//! Below each state is its [`Claim`] to a place among those who are not sessions yet.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

use super::metrics::{Pending, Refusal};
use super::upgrade::{self, Access, Upgrade, Upgraded};
use super::{Shared, hello};
use crate::identity::{Identity, IdentityError};
use crate::places::{Claim, Displaced, Place, Share};
use crate::record::Origin;
use crate::session::Session;

/// Longest time with requests that do not upgrade: a client that reads no answer cannot stay for ever.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(600);

/// What a session gives back when it ends.
struct Permits {
    _share: Share,
    _session: OwnedSemaphorePermit,
}

/// Runs until the connection has its session, or is refused, or has to make room.
pub(super) async fn run(shared: Arc<Shared>, tcp: TcpStream, peer: SocketAddr, place: Place, displaced: Displaced) {
    let _pending = Pending::new(&shared.metrics);
    tokio::select! {
        biased;
        Ok(claim) = displaced => shared.displaced(claim, peer),
        () = set_up(&shared, tcp, peer, place) => {}
    }
}

async fn set_up(shared: &Arc<Shared>, tcp: TcpStream, peer: SocketAddr, place: Place) {
    let started = Instant::now();
    let hello = match greet(shared, tcp).await {
        Ok(hello) => hello,
        Err(refused) => return shared.handshake_failed(peer, &refused),
    };
    // What follows needs memory that a silent client must not cost.
    Box::pin(prove(shared, hello, started, peer, place)).await;
}

/// Why a handshake failed.
pub(super) type Refused = (Refusal, io::Error);

async fn greet(shared: &Shared, tcp: TcpStream) -> Result<StartHandshake<TcpStream>, Refused> {
    within(shared.config.client_hello_timeout, Refusal::ClientHelloTimeout, hello::read(tcp)).await
}

async fn within<T>(limit: Duration, late: Refusal, step: impl Future<Output = io::Result<T>>) -> Result<T, Refused> {
    match tokio::time::timeout(limit, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err((Refusal::of_handshake(&error), error)),
        Err(_) => Err((late, io::ErrorKind::TimedOut.into())),
    }
}

async fn prove(
    shared: &Arc<Shared>,
    hello: StartHandshake<TcpStream>,
    started: Instant,
    peer: SocketAddr,
    place: Place,
) {
    // The key exchange is computed at the start of the work, not only when it is polled.
    let handshake = shared.turns.compute(&place, || hello.into_stream(shared.tls.current()));
    let tls = match within(shared.config.handshake_timeout, Refusal::HandshakeTimeout, handshake).await {
        Ok(tls) => tls,
        Err(refused) => return shared.handshake_failed(peer, &refused),
    };
    shared.metrics.handshake_seconds.record(started.elapsed().as_secs_f64());
    match identify(&tls) {
        Ok(identity) => welcome(shared, tls, identity, peer, place).await,
        Err(error) => {
            shared.unidentified(peer, &error);
            let _ = answer(shared, tls, Access::Refused).await;
        }
    }
}

/// rustls lists the end-entity certificate first and has verified the chain from it.
fn identify(tls: &TlsStream<TcpStream>) -> Result<Identity, IdentityError> {
    let (_, connection) = tls.get_ref();
    let leaf = connection.peer_certificates().and_then(<[_]>::first).ok_or(IdentityError::Unparsable)?;
    Identity::from_verified_leaf(leaf)
}

/// A vehicle, which has proven that it is one.
async fn welcome(shared: &Arc<Shared>, tls: TlsStream<TcpStream>, identity: Identity, peer: SocketAddr, place: Place) {
    let permit = Arc::clone(&shared.sessions).try_acquire_owned();
    let access = if permit.is_ok() { Access::Granted } else { Access::Full };
    let upgraded = answer(shared, tls, access).await;
    let Ok(session_permit) = permit else { return shared.full() };
    let Some((tls, early, upgrade)) = upgraded else { return };
    let Some(share) = place.leave() else {
        // Another one took its place at this very moment.
        return shared.displaced(Claim::Fair, peer);
    };
    let permits = Permits { _share: share, _session: session_permit };
    let session = Box::new(session(shared, tls, early, identity, upgrade, peer));
    tokio::spawn(async move {
        session.run().await;
        drop(permits);
    });
}

/// Answers requests; the WebSocket that one of them asked for and was granted.
async fn answer(
    shared: &Shared,
    tls: TlsStream<TcpStream>,
    access: Access,
) -> Option<(TlsStream<TcpStream>, bytes::Bytes, Upgrade)> {
    let requests = upgrade::serve(tls, access, shared.config.header_timeout);
    match tokio::time::timeout(UPGRADE_TIMEOUT, requests).await {
        Ok(Ok(Upgraded::WebSocket(tls, early, upgrade))) => return Some((tls, early, *upgrade)),
        Ok(Ok(Upgraded::Answered)) => shared.metrics.answered.increment(1),
        Ok(Err(_)) | Err(_) => shared.metrics.refused(Refusal::Http),
    }
    None
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
