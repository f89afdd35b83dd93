//! Serves HTTP/1.1 for operators and applications: the accept loop and its bounds. What is answered, and to whom,
//! is up to the caller's router. Vehicles never come here.
//!
//! A connection for which the server is not at work right now waits for its peer: for a handshake, for a request, for
//! an answer to be taken. Those make room when a newcomer finds the port full, the one that has waited longest first.
//! So nobody keeps anybody out, whatever he does not do.

mod bounds;
mod visit;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::bounds::Bounds;
use self::bounds::Refusal;
pub use self::visit::{Line, Visit, requests};
use crate::logging::RateLimited;
use crate::open_files;
use crate::places::{AddressFull, Displaced, Places};

/// Longest whole connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// What requests under way get at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// After a failed accept.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Hands each connection to `answer` until `shutdown`, then lets requests under way end (for two seconds).
///
/// `accept_error` names the log event of a failed accept.
pub async fn serve<F>(
    listener: TcpListener,
    bounds: Bounds,
    accept_error: &'static str,
    answer: impl Fn(TcpStream, SocketAddr, Visit) -> F,
    shutdown: impl Future<Output = ()>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let bounds = Arc::new(bounds);
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let accept_log = RateLimited::default();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            bounds.places.room().await;
            listener.accept().await
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = accepted => match accepted {
                Ok((stream, peer)) => match Places::enter(&bounds.places, peer.ip()) {
                    Ok((place, displaced)) => {
                        let visit = Visit::new(place, Arc::clone(&bounds), stopped.clone());
                        connections.spawn(attend(answer(stream, peer, visit), displaced, Arc::clone(&bounds)));
                    }
                    Err(AddressFull) => bounds.refused(Refusal::Address),
                },
                Err(error) => {
                    if let Some(skipped) = accept_log.permit() {
                        tracing::error!(%error, skipped, "{accept_error}");
                    }
                    not_accepted(&bounds, &error).await;
                }
            },
        }
    }
    drop(stop);
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

/// One connection, until it ends, or has lasted long enough, or has to make room.
async fn attend(connection: impl Future<Output = ()>, displaced: Displaced, bounds: Arc<Bounds>) {
    tokio::select! {
        biased;
        Ok(_) = displaced => bounds.refused(Refusal::Displaced),
        ended = tokio::time::timeout(CONNECTION_TIMEOUT, connection) => {
            if ended.is_err() {
                bounds.refused(Refusal::Slow);
            }
        }
    }
}

/// Out of file descriptors, mostly: waiting is all that helps. Those few that are connected here are not to blame.
async fn not_accepted(bounds: &Bounds, error: &io::Error) {
    bounds.refused(Refusal::Accept);
    if !open_files::is_the_peers_fault(error) {
        tokio::time::sleep(BACK_OFF).await;
    }
}
