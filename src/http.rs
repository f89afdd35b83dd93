//! Serves HTTP/1.1 for operators and applications: the accept loop and its bounds. What is answered, and to whom,
//! is up to the caller's router. Vehicles never come here.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::logging::RateLimited;

/// Connections per listener; above, new ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 256;
/// From accept, or the end of the last answer, to the end of a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// Longest whole connection: a peer that does not read cannot keep its place.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// What requests under way get at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// After a failed accept (no file descriptors, mostly).
const BACK_OFF: Duration = Duration::from_millis(100);

/// Tells a connection to finish its current request and close.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<()>);

/// Hands each connection to `answer` until `shutdown`, then lets requests under way end (for two seconds).
///
/// `accept_error` names the log event of a failed accept.
pub async fn serve<F>(
    listener: TcpListener,
    accept_error: &'static str,
    answer: impl Fn(TcpStream, SocketAddr, Stop) -> F,
    shutdown: impl Future<Output = ()>,
) where
    F: Future<Output = ()> + Send + 'static,
{
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
                    let connection = answer(stream, address, Stop(stopped.clone()));
                    connections.spawn(async move {
                        // A peer that is slow or broken is its own problem.
                        let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    if let Some(skipped) = accept_log.permit() {
                        tracing::error!(%error, skipped, "{accept_error}");
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            },
        }
    }
    drop(stop);
    let _ = tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

/// The requests of one connection, until the peer is done or `stop` says so.
pub async fn requests<IO>(stream: IO, router: Router, Stop(mut stop): Stop)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        // The sender has gone.
        _ = stop.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
