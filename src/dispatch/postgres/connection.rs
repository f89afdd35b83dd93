//! How a connection is made, and the tables.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};
use tokio_rustls::TlsConnector;

use crate::config::{self, ClientTls};
use crate::tls;

/// A database, and how to log in.
#[derive(Clone)]
pub(super) struct Database {
    config: Config,
    tls: Tls,
    pub(super) schema: String,
    hypertable: bool,
    connect_timeout: Duration,
    pub(super) timeout: Duration,
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// It will not be done however often it is tried.
    Refused(String),
    /// It may be later.
    Away(String),
}

impl Database {
    /// # Errors
    /// Which key cannot be used, and why; without the URL, which may hold a password.
    pub(super) fn new(config: &config::Postgres) -> Result<Self, String> {
        let mut url: Config = config.url.expose().parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            format!("postgres.url: {why}; it looks like \"postgres://telemetry@db.example.com/telemetry\"")
        })?;
        if url.get_hosts().is_empty() {
            return Err("postgres.url: has no host".to_owned());
        }
        if let Some(password) = &config.password {
            url.password(password.expose());
        }
        url.application_name("fleet-telemetry");
        let tls = if url.get_ssl_mode() == SslMode::Disable {
            None
        } else {
            Some(tls::client::client(&config.tls).map_err(|error| error.to_string())?)
        };
        Ok(Self {
            config: url,
            tls: Tls { config: tls, settings: Arc::new(config.tls.clone()) },
            schema: config.schema.clone(),
            hypertable: config.hypertable,
            connect_timeout: config.connect_timeout,
            timeout: config.timeout,
        })
    }

    /// Where it is, for operators.
    pub(super) fn place(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        hosts.collect::<Vec<_>>().join(",")
    }

    /// A connection, which ends when the client is dropped.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let limit = self.connect_timeout;
        let connected = tokio::time::timeout(limit, self.config.connect(self.tls.clone())).await;
        let (client, connection) =
            connected.map_err(|_| Failure::Away(format!("no connection within {limit:?}")))?.map_err(Failure::from)?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Makes what is not there.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        let client = self.connect().await?;
        let mut script = include_str!("schema.sql").replace("$SCHEMA", &self.schema);
        // Two servers that start at once must not make the same table.
        script.insert_str(0, "SELECT pg_advisory_xact_lock(8027132);\n");
        if self.hypertable {
            let make = format!("SELECT create_hypertable('{}.signals', 'time', if_not_exists => true);", self.schema);
            script.push_str(&make);
        }
        client.batch_execute(&format!("BEGIN; {script}; COMMIT;")).await.map_err(|error| match Failure::from(error) {
            Failure::Refused(error) if self.hypertable && error.contains("create_hypertable") => {
                Failure::Refused(format!("postgres.hypertable: this database has no TimescaleDB ({error})"))
            }
            other => other,
        })
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(database) = error.as_db_error() else {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            return Self::Away(cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")));
        };
        let message = format!("{} ({})", database.message(), database.code().code());
        if is_for_good(database.code()) { Self::Refused(message) } else { Self::Away(message) }
    }
}

/// Classes of errors that another attempt does not change: data (22), constraints (23), authorization (28), a database
/// (3D) or a schema (3F) that is not there, syntax and rights (42).
fn is_for_good(code: &SqlState) -> bool {
    ["22", "23", "28", "3D", "3F", "42"].contains(&&code.code()[..2])
}

/// Makes TLS connections; without a configuration none is asked for.
#[derive(Clone)]
pub(super) struct Tls {
    config: Option<Arc<ClientConfig>>,
    settings: Arc<ClientTls>,
}

/// Over TLS, to one host.
pub(super) struct ToHost {
    tls: Tls,
    host: String,
}

/// What it is made of.
pub(super) struct Secured<S>(tokio_rustls::client::TlsStream<S>);

type Connecting<S> = Pin<Box<dyn Future<Output = io::Result<Secured<S>>> + Send>>;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Secured<S>;
    type TlsConnect = ToHost;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<ToHost> {
        Ok(ToHost { tls: self.clone(), host: host.to_owned() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for ToHost {
    type Stream = Secured<S>;
    type Error = io::Error;
    type Future = Connecting<S>;

    fn connect(self, stream: S) -> Connecting<S> {
        Box::pin(async move {
            let name = tls::client::server_name(&self.tls.settings, &self.host).map_err(io::Error::other)?;
            let config = self.tls.config.ok_or_else(|| io::Error::other("TLS is not configured"))?;
            TlsConnector::from(config).connect(name, stream).await.map(Secured)
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Secured<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
