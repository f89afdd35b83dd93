//! One connection to the server, made again when it has ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config;
use crate::escape::escape;
use crate::tls;

/// Sends one request at a time.
pub(super) struct Client {
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    connect_timeout: Duration,
    timeout: Duration,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What the server says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// How long it asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// The beginning of the body, for operators.
    pub(super) words: String,
}

/// Longer answers are not read to their end, and end the connection.
const MAX_ANSWER: usize = 64 * 1024;
/// Of an answer, for operators.
const MAX_WORDS: usize = 200;

impl Client {
    /// # Errors
    /// What is wrong with which file or name.
    pub(super) fn new(config: &config::Webhook) -> Result<Self, String> {
        let tls = if config.is_https {
            let name = tls::client::server_name(&config.tls, &config.host).map_err(|error| error.to_string())?;
            Some((tls::client::client(&config.tls).map_err(|error| error.to_string())?, name))
        } else {
            None
        };
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            tls,
            connect_timeout: config.connect_timeout,
            timeout: config.timeout,
            connection: None,
        })
    }

    /// Makes a connection, unless there is one.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn connect(&mut self) -> Result<(), String> {
        if self.connection.as_ref().is_some_and(|connection| !connection.is_closed()) {
            return Ok(());
        }
        self.connection = None;
        let limit = self.connect_timeout;
        let opened = tokio::time::timeout(limit, self.open()).await;
        self.connection = Some(opened.map_err(|_| format!("no connection within {limit:?}"))??);
        Ok(())
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let words = |error: std::io::Error| error.to_string();
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(words)?;
        tcp.set_nodelay(true).map_err(words)?;
        match &self.tls {
            None => handshake(tcp).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                handshake(connector.connect(name.clone(), tcp).await.map_err(words)?).await
            }
        }
    }

    /// Sends a request and reads the answer. A connection that the server has closed meanwhile is replaced once.
    ///
    /// # Errors
    /// In words, when there is no answer. The server may have got the request.
    pub(super) async fn send(&mut self, request: impl Fn() -> Request<Full<Bytes>>) -> Result<Answer, String> {
        let is_reused = self.connection.is_some();
        match self.attempt(request()).await {
            Err(_) if is_reused => self.attempt(request()).await,
            answer => answer,
        }
    }

    async fn attempt(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        self.connect().await?;
        // Gone until the answer is read: whatever ends this future ends the connection.
        let mut connection = self.connection.take().ok_or("no connection")?;
        let exchange = async {
            connection.ready().await.map_err(|error| error.to_string())?;
            let response = connection.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map(|body| body.to_bytes());
            Ok::<_, String>((head, body.ok()))
        };
        let limit = self.timeout;
        let answered = tokio::time::timeout(limit, exchange).await.map_err(|_| format!("no answer within {limit:?}"));
        let (head, body) = answered??;
        if body.is_some() {
            self.connection = Some(connection);
        }
        Ok(Answer {
            status: head.status,
            retry_after: retry_after(&head.headers, OffsetDateTime::now_utc()),
            words: escape(&body.unwrap_or_default(), MAX_WORDS),
        })
    }
}

async fn handshake<IO>(io: IO) -> Result<SendRequest<Full<Bytes>>, String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|error| error.to_string())?;
    // It ends with the sender, or with the connection, of which the sender tells.
    tokio::spawn(connection);
    Ok(sender)
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
    Duration::try_from(date - now).ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn pauses_are_asked_for_in_seconds_or_until_a_date() {
        let now = OffsetDateTime::from_unix_timestamp(1_445_412_420).unwrap();
        let asked = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now)
        };
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:26:00 GMT"), None, "that has been");
        assert_eq!(asked("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
