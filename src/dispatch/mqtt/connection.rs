//! One connection to a broker: opened, asked, written to, read from. What is on its way over it belongs to `exchange`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::packet::{self, Answer, Connect, Malformed};
use crate::config;
use crate::tls::client::{self, ClientTlsError};

/// Where a broker is, and how it is spoken to.
#[derive(Clone)]
pub(super) struct Broker {
    pub(super) host: String,
    pub(super) port: u16,
    /// With TLS, the name that its certificate must have.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The system, or TLS.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nobody answered.
    #[error("no answer in {0:?}")]
    Silent(Duration),
    /// The broker does not want it.
    #[error("the broker refuses the connection: {}", packet::refusal(*.0))]
    Refused(u8),
    /// It is no broker.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The broker has ended it: perhaps because of what was sent.
    #[error("the broker has closed the connection ({0})")]
    Closed(io::Error),
    /// The broker does not go on.
    #[error("the broker has answered nothing for {0:?}")]
    Silent(Duration),
    /// It is no broker.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Between the connection's end and its beginning.
pub(super) struct Connection {
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    /// Something was written that TLS may still hold.
    unflushed: bool,
    /// The broker remembers what was on its way.
    pub(super) session_present: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Answers are four bytes long: this is a thousand of them.
const INPUT: usize = 4096;

impl Broker {
    /// # Errors
    /// When its files cannot be used.
    pub(super) fn new(config: &config::Mqtt) -> Result<Self, ClientTlsError> {
        let tls = |tls| Ok((client::client(tls)?, client::server_name(tls, &config.host)?));
        let tls = config.tls.as_ref().map(tls).transpose()?;
        Ok(Self { host: config.host.clone(), port: config.port, tls })
    }

    /// Connects, and returns when the broker has accepted.
    pub(super) async fn open(&self, connect: &Connect<'_>, patience: Duration) -> Result<Connection, OpenError> {
        let deadline = Instant::now() + patience;
        timeout_at(deadline, self.accepted(connect)).await.unwrap_or(Err(OpenError::Silent(patience)))
    }

    async fn accepted(&self, connect: &Connect<'_>) -> Result<Connection, OpenError> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some((config, name)) => Box::new(TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await?),
        };
        let (read, write) = split(stream);
        let input = BytesMut::with_capacity(INPUT);
        let mut connection = Connection { read, write, input, unflushed: false, session_present: false };
        let mut out = Vec::new();
        connect.encode(&mut out);
        connection.write.write_all(&out).await?;
        connection.write.flush().await?;
        loop {
            match connection.decoded()? {
                Some(Answer::ConnAck { code: 0, session_present }) => {
                    connection.session_present = session_present;
                    return Ok(connection);
                }
                Some(Answer::ConnAck { code, .. }) => return Err(OpenError::Refused(code)),
                Some(_) => {}
                None if connection.read.read_buf(&mut connection.input).await? == 0 => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                None => {}
            }
        }
    }
}

impl Connection {
    /// Writes of `out` what it can, and reads. Returns with an answer, or when the system has taken something; `None`
    /// then.
    pub(super) async fn turn(&mut self, out: &mut BytesMut, patience: Duration) -> Result<Option<Answer>, Lost> {
        let progress = async {
            loop {
                if let Some(answer) = self.decoded()? {
                    return Ok(Some(answer));
                }
                let has_more = !out.is_empty() || self.unflushed;
                tokio::select! {
                    biased;
                    read = self.read.read_buf(&mut self.input) => match read {
                        Ok(0) => return Err(Lost::Closed(io::ErrorKind::UnexpectedEof.into())),
                        Ok(_) => {}
                        Err(error) => return Err(Lost::Closed(error)),
                    },
                    sent = send(&mut self.write, out), if has_more => {
                        self.unflushed = sent.map_err(Lost::Closed)?;
                        return Ok(None);
                    },
                }
            }
        };
        timeout(patience, progress).await.unwrap_or(Err(Lost::Silent(patience)))
    }

    /// Nothing is on its way that has not been handed to the system.
    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Says goodbye, so that the broker does not think that the client has died.
    pub(super) async fn close(mut self, patience: Duration) {
        let mut out = Vec::new();
        packet::disconnect(&mut out);
        let goodbye = async {
            self.write.write_all(&out).await?;
            self.write.flush().await?;
            self.write.shutdown().await
        };
        // It is the end of the connection either way.
        let _ = timeout(patience, goodbye).await;
    }

    fn decoded(&mut self) -> Result<Option<Answer>, Malformed> {
        let Some((answer, taken)) = packet::decode(&self.input)? else { return Ok(None) };
        let _ = self.input.split_to(taken);
        if self.input.is_empty() {
            self.input.clear();
            self.input.reserve(INPUT);
        }
        Ok(Some(answer))
    }
}

/// Hands some of `out` over, or what TLS still holds; whether that holds anything now. Can be given up and begun again.
async fn send(write: &mut WriteHalf<Box<dyn Stream>>, out: &mut BytesMut) -> io::Result<bool> {
    if out.is_empty() {
        write.flush().await?;
        return Ok(false);
    }
    write.write_buf(out).await?;
    Ok(true)
}
