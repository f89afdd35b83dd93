//! The listener of the admin API: who the peer is, then its requests.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::auth::{self, Peer};
use super::{Api, routes};
use crate::http::{self, Bounds, Visit};

/// From accept to the end of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers requests until `shutdown`, then lets those under way end (for two seconds).
pub async fn serve(listener: TcpListener, bounds: Bounds, api: Arc<Api>, shutdown: impl Future<Output = ()>) {
    let router = routes::router(Arc::clone(&api));
    let answer = |stream, address, visit| connection(stream, address, Arc::clone(&api), router.clone(), visit);
    http::serve(listener, bounds, "permissions_api_accept_error", answer, shutdown).await;
}

async fn connection(stream: TcpStream, address: SocketAddr, api: Arc<Api>, router: Router, visit: Visit) {
    let from = |name| router.layer(Extension(Peer { address, name }));
    let Some(tls) = &api.auth.tls else {
        return http::requests(stream, from(None), visit).await;
    };
    let handshake = TlsAcceptor::from(tls.current()).accept(stream);
    match visit.within(HANDSHAKE_TIMEOUT, handshake).await {
        Some(Ok(stream)) => {
            let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let name = leaf.map(auth::name);
            http::requests(stream, from(name), visit).await;
        }
        Some(Err(error)) => {
            if let Some(skipped) = api.unauthorized.permit() {
                tracing::warn!(peer = %address, %error, skipped, "permissions_api_unauthorized");
            }
        }
        None => {}
    }
}
