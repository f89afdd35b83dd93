//! From the request on a fresh TLS connection to a WebSocket, or to a plain answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

use crate::escape::escape;

/// What is kept of an upgrade request.
#[derive(Clone, Debug, Default)]
pub struct Upgrade {
    /// `X-TXID`, when it is a UUID; in its canonical form.
    pub txid: Option<Uuid>,
    /// `X-Network-Interface`.
    pub network_interface: String,
    /// `Version`.
    pub client_version: String,
    /// `User-Agent`, for the log.
    pub user_agent: String,
    /// `X-Forwarded-For`, for the log.
    pub forwarded_for: String,
}

/// How the HTTP part of a connection ended.
#[derive(Debug)]
pub enum Upgraded<IO> {
    /// It is a WebSocket now; the bytes came in behind the request.
    WebSocket(IO, Bytes, Box<Upgrade>),
    /// It was answered and is done.
    Answered,
}

/// Why a connection became neither.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A timeout, a malformed request, a connection that breaks.
    #[error(transparent)]
    Request(#[from] hyper::Error),
    /// The client goes on with requests, or does not read what they are answered with.
    #[error("no upgrade within limits.header_timeout, {0:?}")]
    NoUpgrade(Duration),
}

/// Whether the client may upgrade; decided before any request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its certificate is a vehicle's.
    Granted,
    /// It gets 403.
    Refused,
    /// It is a vehicle's, and gets 503: there are as many sessions as there may be.
    Full,
}

/// Headers are cut to this many bytes.
const MAX_LABEL: usize = 256;
const MAX_REQUEST_HEADERS: usize = 64;
/// Includes the request line; vehicles send a few hundred bytes.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Serves requests on `io` until one of them becomes a WebSocket, for `header_timeout` in all: hyper waits for ever
/// for a client that does not read its answers, and such a client would keep its connection's place.
///
/// # Errors
/// [`HttpError`].
pub async fn serve<IO>(io: IO, access: Access, header_timeout: Duration) -> Result<Upgraded<IO>, HttpError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = requests(io, access, header_timeout);
    match tokio::time::timeout(header_timeout, requests).await {
        Ok(ended) => Ok(ended?),
        Err(_) => Err(HttpError::NoUpgrade(header_timeout)),
    }
}

async fn requests<IO>(io: IO, access: Access, header_timeout: Duration) -> Result<Upgraded<IO>, hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let accepted = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&accepted);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, access, &slot);
        async move { Ok::<_, Infallible>(response) }
    });
    let parts = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MAX_REQUEST_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(io), service)
        .without_shutdown()
        .await?;
    let accepted = accepted.lock().take();
    Ok(match accepted {
        Some(upgrade) => Upgraded::WebSocket(parts.io.into_inner(), parts.read_buf, upgrade),
        None => Upgraded::Answered,
    })
}

type Slot = Mutex<Option<Box<Upgrade>>>;

fn answer<B>(request: &Request<B>, access: Access, accepted: &Slot) -> Response<Full<Bytes>> {
    if request.uri().path() == "/status" {
        return text(StatusCode::OK, "mtls ok");
    }
    match access {
        Access::Granted => {}
        Access::Refused => return text(StatusCode::FORBIDDEN, "Forbidden\n"),
        Access::Full => return text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n"),
    }
    match accept_key(request) {
        Ok(key) => {
            *accepted.lock() = Some(Box::new(Upgrade::of(request.headers())));
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
            response
        }
        Err(status) => {
            let mut response = match status {
                StatusCode::METHOD_NOT_ALLOWED => text(status, "Method Not Allowed\n"),
                _ => text(status, "Bad Request\n"),
            };
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            response
        }
    }
}

/// The upgrade rules of RFC 6455, 4.2.1, in the reference server's order.
fn accept_key<B>(request: &Request<B>) -> Result<HeaderValue, StatusCode> {
    let headers = request.headers();
    if !has_token(headers, &header::CONNECTION, "upgrade") || !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(StatusCode::BAD_REQUEST);
    }
    if request.method() != Method::GET {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    if request.version() != Version::HTTP_11 || !has_token(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(StatusCode::BAD_REQUEST);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes).trim_ascii();
    if !is_key(key) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let digest = Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    Ok(HeaderValue::try_from(BASE64.encode(&digest)).expect("base64 is visible ASCII"))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Base64 of 16 bytes: 22 digits and two `=`.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

impl Upgrade {
    fn of(headers: &HeaderMap) -> Self {
        let label =
            |name: &str| headers.get(name).map_or_else(String::new, |value| escape(value.as_bytes(), MAX_LABEL));
        Self {
            txid: headers.get("x-txid").and_then(|value| Uuid::try_parse_ascii(value.as_bytes()).ok()),
            network_interface: label("x-network-interface"),
            client_version: label("version"),
            user_agent: label("user-agent"),
            forwarded_for: label("x-forwarded-for"),
        }
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> hyper::http::request::Builder {
        Request::get("/any")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    fn answered(request: &Request<()>, access: Access) -> (StatusCode, bool) {
        let slot = Mutex::new(None);
        let response = answer(request, access, &slot);
        (response.status(), slot.into_inner().is_some())
    }

    #[test]
    fn the_accept_key_is_the_rfc_example() {
        assert_eq!(accept_key(&request().body(()).unwrap()).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn each_rule_has_its_status() {
        let status = |request: Request<()>| answered(&request, Access::Granted).0.as_u16();
        assert_eq!(status(request().body(()).unwrap()), 101);
        assert_eq!(status(request().method("POST").body(()).unwrap()), 405);
        for (name, value) in [
            ("connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", "dGhl"),
            ("sec-websocket-key", "!GhlIHNhbXBsZSBub25jZQ=="),
        ] {
            let mut request = request().body(()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
            assert_eq!(status(request), 400, "{name}: {value}");
        }
    }

    #[test]
    fn a_refused_certificate_gets_403_and_no_upgrade() {
        let request = request().body(()).unwrap();
        assert_eq!(answered(&request, Access::Refused), (StatusCode::FORBIDDEN, false));
        assert_eq!(answered(&request, Access::Full), (StatusCode::SERVICE_UNAVAILABLE, false));
        assert_eq!(answered(&request, Access::Granted), (StatusCode::SWITCHING_PROTOCOLS, true));
    }

    #[test]
    fn status_answers_any_method() {
        let request = Request::post("/status").body(()).unwrap();
        assert_eq!(answered(&request, Access::Granted), (StatusCode::OK, false));
    }

    #[test]
    fn what_the_vehicle_writes_into_headers_is_escaped_and_cut() {
        let mut headers = HeaderMap::new();
        headers.insert("version", HeaderValue::from_bytes(&[b'x'; 400]).unwrap());
        headers.insert("x-txid", HeaderValue::from_static("not a uuid"));
        let upgrade = Upgrade::of(&headers);
        assert!(upgrade.client_version.len() <= MAX_LABEL + 4);
        assert_eq!(upgrade.txid, None);
        headers.insert("x-txid", HeaderValue::from_static("urn:uuid:67E55044-10B1-426F-9247-BB680E5FE0C8"));
        assert_eq!(Upgrade::of(&headers).txid.unwrap().to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
    }
}
