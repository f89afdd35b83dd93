//! The listener that everybody may reach: the application's public key, pages for owners, and nothing else of the server.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::WELL_KNOWN;
use super::key::FleetKey;
use crate::config;
use crate::http::{self, Bounds, Visit};
use crate::tls::{Clients, File, Files, Tls};

/// From accept to the end of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers requests until `shutdown`, then lets those under way end (for two seconds).
pub async fn serve(
    listener: TcpListener,
    bounds: Bounds,
    tls: Option<Arc<Tls>>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let answer = |stream, _: SocketAddr, visit| connection(stream, tls.clone(), router.clone(), visit);
    http::serve(listener, bounds, "onboarding_accept_error", answer, shutdown).await;
}

/// The files of its TLS; `None`: plain.
#[must_use]
pub fn files(public: &config::OnboardingPublic) -> Option<Files> {
    let pair = public.tls.as_ref()?;
    Some(Files {
        listener: "onboarding",
        cert: File { key: "onboarding.public.tls.cert", path: pair.cert.clone() },
        key: File { key: "onboarding.public.tls.key", path: pair.key.clone() },
        clients: Clients::Anonymous,
    })
}

/// What is there: the public half of `key`.
pub fn router(key: &FleetKey) -> Router {
    let pem = key.public_pem();
    Router::new().route(WELL_KNOWN, get(async move || public_key(pem))).fallback(async || StatusCode::NOT_FOUND)
}

fn public_key(pem: String) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/x-pem-file")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // The maker reads it anew at each registration; an old one in between would be told from ours by nobody.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, pem).into_response()
}

async fn connection(stream: TcpStream, tls: Option<Arc<Tls>>, router: Router, visit: Visit) {
    let Some(tls) = tls else { return http::requests(stream, router, visit).await };
    let handshake = TlsAcceptor::from(tls.current()).accept(stream);
    // Who fails here has the port scanned, or does not trust the certificate: it is their side that tells why.
    if let Some(Ok(stream)) = visit.within(HANDSHAKE_TIMEOUT, handshake).await {
        http::requests(stream, router, visit).await;
    }
}
