//! A small HTTP client: one request per connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::escape::escape;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request to the whole answer; an import may take its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Where the API is, and what lets us in.
pub(super) struct Client {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) token: Option<String>,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Why nothing came back that could be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "cannot reach the admin API at {at}: {reason}. Is the server running, does its configuration have \
         permissions.api, and is this its address (--api, --config)?"
    )]
    Unreachable { at: String, reason: String },
    #[error("what answers at {at} is not the admin API of permissions (status {status}: {text}); check --api")]
    Stranger { at: String, status: u16, text: String },
}

impl Client {
    /// One request and its answer.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.authority());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let request = request.body(Full::new(body.into())).map_err(|error| self.unreachable(&error))?;
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((self.host.as_str(), self.port))).await {
            Err(elapsed) => Err(self.unreachable(&elapsed)),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Ok(Ok(tcp)) => match tokio::time::timeout(ANSWER_TIMEOUT, self.converse(tcp, request)).await {
                Err(elapsed) => Err(self.unreachable(&elapsed)),
                Ok(answer) => answer,
            },
        }
    }

    async fn converse(&self, tcp: TcpStream, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let Some(tls) = &self.tls else { return self.exchange(tcp, request).await };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| self.unreachable(&error))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
        self.exchange(stream.map_err(|error| self.unreachable(&error))?, request).await
    }

    async fn exchange<IO>(&self, stream: IO, request: Request<Full<Bytes>>) -> Result<Answer, ClientError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(&error))?;
        // Its errors come out of the request, too.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|error| self.unreachable(&error))?.to_bytes();
        let answer = Answer { status, body };
        if status == 200 || answer.is_refusal() { Ok(answer) } else { Err(self.stranger(&answer)) }
    }

    fn authority(&self) -> String {
        let is_v6 = self.host.contains(':');
        if is_v6 { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.authority())
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> ClientError {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason += &format!(": {cause}");
            source = cause.source();
        }
        ClientError::Unreachable { at: self.url(), reason }
    }

    fn stranger(&self, answer: &Answer) -> ClientError {
        ClientError::Stranger { at: self.url(), status: answer.status, text: answer.excerpt() }
    }
}

impl Answer {
    pub(super) fn json(&self) -> Result<Value, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Stranger {
            at: "this address".to_owned(),
            status: self.status,
            text: format!("{error} in {}", self.excerpt()),
        })
    }

    /// In the API's own form.
    fn is_refusal(&self) -> bool {
        serde_json::from_slice::<Value>(&self.body).is_ok_and(|body| body["error"]["code"].is_string())
    }

    fn excerpt(&self) -> String {
        escape(&self.body, 100)
    }
}
