//! Requests to others over HTTPS: one connection each, with bounds on time and on what is read. Redirects are never
//! followed: a token, or a key, goes to the host that was named and to no other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::http::{HeaderValue, StatusCode, Uri, request};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Asks others.
#[derive(Clone, Debug)]
pub struct Web {
    tls: Arc<ClientConfig>,
    /// From the look-up of the name to the last byte of the answer.
    timeout: Duration,
}

/// What came back, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Whole.
    pub body: Bytes,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Not `https://host…`, nor `http://` to this machine.
    #[error("{url}: must be an https address (http only to this machine itself)")]
    Address {
        /// As given.
        url: String,
    },
    /// No connection.
    #[error("{host}: cannot be reached: {source}")]
    Unreachable {
        /// With its port.
        host: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// No TLS.
    #[error("{host}: no TLS connection: {source}")]
    Tls {
        /// With its port.
        host: String,
        /// What rustls says.
        source: std::io::Error,
    },
    /// The connection ended early, or what came is not HTTP.
    #[error("{host}: no answer: {reason}")]
    Broken {
        /// With its port.
        host: String,
        /// In hyper's words.
        reason: String,
    },
    /// Nothing, or not all of it, came in time.
    #[error("{host}: no answer within {} s", timeout.as_secs())]
    Late {
        /// With its port.
        host: String,
        /// What was waited for.
        timeout: Duration,
    },
}

impl Web {
    /// Trusts whom `tls` trusts, and waits for an answer no longer than `timeout`.
    #[must_use]
    pub fn new(tls: Arc<ClientConfig>, timeout: Duration) -> Self {
        Self { tls, timeout }
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// [`WebError`] when there is none; a bad status is an answer.
    pub async fn send(&self, request: request::Builder, body: Bytes) -> Result<Answer, WebError> {
        let url = request.uri_ref().cloned().unwrap_or_default();
        let place = Place::of(&url)?;
        let host = place.authority();
        let answer = tokio::time::timeout(self.timeout, self.exchange(&place, request, &url, body)).await;
        answer.unwrap_or(Err(WebError::Late { host, timeout: self.timeout }))
    }

    async fn exchange(
        &self,
        place: &Place,
        request: request::Builder,
        url: &Uri,
        body: Bytes,
    ) -> Result<Answer, WebError> {
        let host = place.authority();
        let broken = |reason: String| WebError::Broken { host: host.clone(), reason };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = request.uri(path).body(Full::new(body)).map_err(|error| broken(error.to_string()))?;
        let named = HeaderValue::from_str(&place.named).map_err(|error| broken(error.to_string()))?;
        request.headers_mut().insert(HOST, named);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let agent = HeaderValue::from_static(concat!("fleet-telemetry/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(agent);

        let unreachable = |source| WebError::Unreachable { host: host.clone(), source };
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(unreachable)?;
        if !place.is_https {
            return talk(stream, request).await.map_err(broken);
        }
        let name = ServerName::try_from(place.host.clone());
        let name = name.map_err(|_| WebError::Address { url: url.to_string() })?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
        let stream = stream.map_err(|source| WebError::Tls { host: host.clone(), source })?;
        talk(stream, request).await.map_err(broken)
    }
}

/// The error is in words.
async fn talk<IO>(stream: IO, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        // Its end may be what completes the answer.
        _ = &mut connection => answer.await,
    }
}

/// Where a request goes.
struct Place {
    is_https: bool,
    host: String,
    port: u16,
    /// As the header `Host` has it.
    named: String,
}

impl Place {
    fn of(url: &Uri) -> Result<Self, WebError> {
        let error = || WebError::Address { url: url.to_string() };
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(error)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_https = match url.scheme_str() {
            Some("https") => true,
            Some("http") if is_here(&host) => false,
            _ => return Err(error()),
        };
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Ok(Self { is_https, host, port, named: authority.to_string() })
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn web(timeout: Duration) -> Web {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        Web::new(Arc::new(tls), timeout)
    }

    /// A server that answers `answer` to whatever comes; its address.
    async fn answering(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
            }
        });
        format!("http://{address}/")
    }

    async fn asked(answer: &'static [u8]) -> Result<Answer, WebError> {
        let url = answering(answer).await;
        web(Duration::from_millis(300)).send(Request::get(url), Bytes::new()).await
    }

    #[tokio::test]
    async fn an_answer_comes_back_whole_and_redirects_are_answers() {
        let found = asked(b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 2\r\n\r\nhi");
        let found = found.await.unwrap();
        assert_eq!((found.status.as_u16(), &found.body[..]), (302, &b"hi"[..]));
        let until_the_end = asked(b"HTTP/1.1 200 OK\r\n\r\nall of it").await.unwrap();
        assert_eq!(&until_the_end.body[..], b"all of it");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_named_with_its_host() {
        let late = asked(b"").await.unwrap_err().to_string();
        assert!(late.starts_with("127.0.0.1:") && late.contains("no answer within"), "{late}");
        let short = asked(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi").await.unwrap_err().to_string();
        assert!(short.contains("no answer: "), "{short}");
        let strange = asked(b"220 mail.example ESMTP\r\n").await.unwrap_err().to_string();
        assert!(strange.contains("no answer: "), "{strange}");
    }

    #[tokio::test]
    async fn nothing_is_sent_in_the_clear_over_the_network() {
        for url in ["http://example.com/", "ftp://localhost/", "https://user@example.com/", "/path", "http://10.0.0.1/"]
        {
            let refused = web(Duration::from_secs(1)).send(Request::get(url), Bytes::new()).await;
            assert!(matches!(refused, Err(WebError::Address { .. })), "{url}: {refused:?}");
        }
    }
}
