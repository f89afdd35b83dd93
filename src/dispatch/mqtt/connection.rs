//! One connection to a broker: opened, asked, written to, read from. What is on its way over it belongs to `exchange`.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::{Instant, timeout, timeout_at};

use super::packet::{self, Answer, Connect, Malformed};
use crate::config;
use crate::dispatch::duplex::{Duplex, Tls};
use crate::tls::client::{self, ClientTlsError};

/// Where a broker is, and how it is spoken to.
#[derive(Clone)]
pub(super) struct Broker {
    pub(super) host: String,
    pub(super) port: u16,
    tls: Option<Tls>,
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
    duplex: Duplex,
    /// The broker remembers what was on its way.
    pub(super) session_present: bool,
}

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
        let duplex = Duplex::connect(&self.host, self.port, self.tls.as_ref()).await?;
        let mut connection = Connection { duplex, session_present: false };
        let mut out = Vec::new();
        connect.encode(&mut out);
        let mut out = BytesMut::from(&out[..]);
        loop {
            match connection.decoded()? {
                Some(Answer::ConnAck { code: 0, session_present }) => {
                    connection.session_present = session_present;
                    return Ok(connection);
                }
                Some(Answer::ConnAck { code, .. }) => return Err(OpenError::Refused(code)),
                Some(_) => {}
                None => connection.duplex.turn(&mut out).await?,
            }
        }
    }
}

impl Connection {
    /// Writes of `out` what it can, and reads. Returns with an answer, or when the system has taken something; `None`
    /// then.
    pub(super) async fn turn(&mut self, out: &mut BytesMut, patience: Duration) -> Result<Option<Answer>, Lost> {
        let progress = async {
            if let Some(answer) = self.decoded()? {
                return Ok(Some(answer));
            }
            self.duplex.turn(out).await.map_err(Lost::Closed)?;
            Ok(self.decoded()?)
        };
        timeout(patience, progress).await.unwrap_or(Err(Lost::Silent(patience)))
    }

    /// Nothing is on its way that has not been handed to the system.
    pub(super) fn is_flushed(&self) -> bool {
        self.duplex.is_flushed()
    }

    /// Says goodbye.
    pub(super) async fn close(self, patience: Duration) {
        let mut goodbye = Vec::new();
        packet::disconnect(&mut goodbye);
        self.duplex.close(&goodbye, patience).await;
    }

    fn decoded(&mut self) -> Result<Option<Answer>, Malformed> {
        let input = &mut self.duplex.input;
        let Some((answer, taken)) = packet::decode(input)? else { return Ok(None) };
        input.advance(taken);
        Ok(Some(answer))
    }
}
