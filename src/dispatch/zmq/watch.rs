//! What happens at the socket: who subscribes, for the sink; all of it, for those who debug.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use omq_tokio::{Error, MonitorEvent, MonitorRecvError, MonitorStream, PeerSubscriptions, Socket};
use tokio::task::JoinHandle;

use crate::escape::escape;

/// How many subscriptions there are now.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscriptions(Arc<AtomicUsize>);

/// Events that may wait for the one that counts them.
pub(super) const CAPACITY: usize = 4096;

impl Subscriptions {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// By connection: subscriptions that were not taken back.
type Counts = HashMap<u64, usize>;

/// Watches until the socket is gone.
pub(super) async fn start(socket: &Socket, verbose: bool) -> Result<(Subscriptions, JoinHandle<()>), Error> {
    let subscriptions = Subscriptions::default();
    let (events, peers) = socket.monitor_with_subscriptions().await?;
    let watched = subscriptions.clone();
    let socket = socket.clone_shared();
    let task = tokio::spawn(watch(socket, events, counts(&peers), watched, verbose));
    Ok((subscriptions, task))
}

async fn watch(
    socket: Socket,
    mut events: MonitorStream,
    mut counts: Counts,
    subscriptions: Subscriptions,
    verbose: bool,
) {
    loop {
        subscriptions.0.store(counts.values().sum(), Ordering::Relaxed);
        match events.recv().await {
            Ok(MonitorEvent::Closed) | Err(MonitorRecvError::Closed) => return,
            Ok(event) => {
                if verbose {
                    tell(&event);
                }
                count(&mut counts, &event);
            }
            // Some were missed: from the beginning.
            Err(error) => {
                tracing::debug!(%error, "zmq_event_receive_error");
                let Ok((again, peers)) = socket.monitor_with_subscriptions().await else { return };
                (events, counts) = (again, self::counts(&peers));
            }
        }
    }
}

fn counts(peers: &[PeerSubscriptions]) -> Counts {
    peers.iter().map(|peer| (peer.peer.connection_id, peer.prefixes.len())).collect()
}

fn count(counts: &mut Counts, event: &MonitorEvent) {
    match event {
        MonitorEvent::SubscribeReceived { connection_id, .. } => *counts.entry(*connection_id).or_default() += 1,
        MonitorEvent::UnsubscribeReceived { connection_id, .. } => {
            if let Some(count) = counts.get_mut(connection_id) {
                *count = count.saturating_sub(1);
            }
        }
        MonitorEvent::Disconnected { peer, .. } => drop(counts.remove(&peer.connection_id)),
        _ => {}
    }
}

/// In the reference server's form.
fn tell(event: &MonitorEvent) {
    let peer_address =
        |address: Option<std::net::SocketAddr>| address.map_or_else(String::new, |peer| peer.to_string());
    let (event_type, addr, value) = match event {
        MonitorEvent::Listening { endpoint } => ("LISTENING", endpoint.to_string(), String::new()),
        MonitorEvent::Accepted { peer_ident, .. } => ("ACCEPTED", peer_ident.to_string(), String::new()),
        MonitorEvent::HandshakeSucceeded { peer, .. } => {
            ("HANDSHAKE_SUCCEEDED", peer_address(peer.peer_address), String::new())
        }
        MonitorEvent::HandshakeFailed { peer_ident, reason, .. } => {
            ("HANDSHAKE_FAILED", peer_ident.to_string(), escape(reason.as_bytes(), 200))
        }
        MonitorEvent::Disconnected { peer, reason, .. } => {
            ("DISCONNECTED", peer_address(peer.peer_address), escape(format!("{reason:?}").as_bytes(), 200))
        }
        MonitorEvent::SubscribeReceived { prefix, .. } => ("SUBSCRIBED", String::new(), escape(prefix, 200)),
        MonitorEvent::UnsubscribeReceived { prefix, .. } => ("UNSUBSCRIBED", String::new(), escape(prefix, 200)),
        _ => return,
    };
    tracing::debug!(event_type, addr, value, "zmq_socket_event");
}
