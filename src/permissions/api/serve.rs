//! The accept loop of the admin API.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::auth::{self, Peer};
use super::{Api, routes};
use crate::logging::RateLimited;

/// Connections; above, new ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 256;
/// From accept to the end of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From accept, or the end of the last answer, to the end of a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// Longest whole connection: a peer that does not read cannot keep its place.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// What requests under way get at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// After a failed accept (no file descriptors, mostly).
const BACK_OFF: Duration = Duration::from_millis(100);

/// Answers requests until `shutdown`, then lets those under way end (for two seconds).
pub async fn serve(listener: TcpListener, api: Arc<Api>, shutdown: impl Future<Output = ()>) {
    let router = routes::router(Arc::clone(&api));
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let accept_log = RateLimited::default();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (accepted, permit) = accepted => match accepted {
                Ok((stream, address)) => {
                    let connection = connection(stream, address, Arc::clone(&api), router.clone(), stopped.clone());
                    connections.spawn(async move {
                        // A peer that is slow or broken is its own problem.
                        let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    if let Some(skipped) = accept_log.permit() {
                        tracing::error!(%error, skipped, "permissions_api_accept_error");
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            },
        }
    }
    drop(stop);
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    api: Arc<Api>,
    router: Router,
    stopped: watch::Receiver<()>,
) {
    let Some(tls) = &api.auth.tls else {
        return requests(stream, Peer { address, name: None }, router, stopped).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(Arc::clone(tls)).accept(stream)).await {
        Ok(Ok(stream)) => {
            let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let peer = Peer { address, name: leaf.map(auth::name) };
            requests(stream, peer, router, stopped).await;
        }
        Ok(Err(error)) => {
            if let Some(skipped) = api.unauthorized.permit() {
                tracing::warn!(peer = %address, %error, skipped, "permissions_api_unauthorized");
            }
        }
        Err(_) => {}
    }
}

/// The requests of one connection; the current one is finished when the sender of `stopped` is gone.
async fn requests<IO>(stream: IO, peer: Peer, router: Router, mut stopped: watch::Receiver<()>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.layer(Extension(peer))));
    let mut connection = pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
