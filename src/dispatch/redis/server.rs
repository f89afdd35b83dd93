//! One Redis server: connected to, logged in, given many commands at once.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::resp::{self, Malformed, Reply};
use crate::config::{self, ClientTls, Secret};
use crate::dispatch::duplex::{Duplex, Tls};
use crate::tls::client::{self, ClientTlsError};

/// A server's host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// How servers are spoken to.
pub(super) struct Login {
    tls: Option<(std::sync::Arc<rustls::ClientConfig>, ClientTls)>,
    username: Option<String>,
    password: Option<Secret>,
    db: u32,
}

/// Why a server is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The system, or TLS.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not go on.
    #[error("no answer in {0:?}")]
    Silent(Duration),
    /// It is no Redis.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// What it is asked for first is an error.
    #[error("{0}")]
    Refused(String),
    /// A name that no certificate can have.
    #[error(transparent)]
    Name(#[from] ClientTlsError),
}

/// A connection to one server.
pub(super) struct Server {
    duplex: Duplex,
}

/// Commands, encoded, and how many.
#[derive(Default)]
pub(super) struct Pipeline {
    bytes: Vec<u8>,
    commands: usize,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Pipeline {
    pub(super) fn push(&mut self, arguments: &[&[u8]]) {
        resp::command(&mut self.bytes, arguments);
        self.commands += 1;
    }

    pub(super) fn one(arguments: &[&[u8]]) -> Self {
        let mut pipeline = Self::default();
        pipeline.push(arguments);
        pipeline
    }
}

impl Login {
    /// For the servers that keep data.
    ///
    /// # Errors
    /// When files cannot be used.
    pub(super) fn new(config: &config::Redis) -> Result<Self, ClientTlsError> {
        Ok(Self {
            tls: tls(config)?,
            username: config.username.clone(),
            password: config.password.clone(),
            db: config.db,
        })
    }

    /// For sentinels, which have passwords of their own and no databases.
    ///
    /// # Errors
    /// When files cannot be used.
    pub(super) fn of_sentinels(config: &config::Redis) -> Result<Self, ClientTlsError> {
        Ok(Self { tls: tls(config)?, username: None, password: config.sentinel_password.clone(), db: 0 })
    }

    fn first_commands(&self) -> Pipeline {
        let mut pipeline = Pipeline::default();
        if let Some(password) = &self.password {
            let password = password.expose().as_bytes();
            match &self.username {
                Some(username) => pipeline.push(&[b"AUTH", username.as_bytes(), password]),
                None => pipeline.push(&[b"AUTH", password]),
            }
        }
        if self.db != 0 {
            pipeline.push(&[b"SELECT", self.db.to_string().as_bytes()]);
        }
        pipeline.push(&[b"PING"]);
        pipeline
    }

    fn tls(&self, address: &Address) -> Result<Option<Tls>, ClientTlsError> {
        let tls = self.tls.as_ref();
        tls.map(|(config, tls)| Ok((std::sync::Arc::clone(config), client::server_name(tls, &address.host)?)))
            .transpose()
    }
}

fn tls(config: &config::Redis) -> Result<Option<(std::sync::Arc<rustls::ClientConfig>, ClientTls)>, ClientTlsError> {
    config.tls.as_ref().map(|tls| Ok((client::client(tls)?, tls.clone()))).transpose()
}

impl Server {
    /// Connects and logs in.
    pub(super) async fn connect(address: &Address, login: &Login, patience: Duration) -> Result<Self, Trouble> {
        let deadline = Instant::now() + patience;
        let tls = login.tls(address)?;
        let connect = Duplex::connect(&address.host, address.port, tls.as_ref());
        let duplex = timeout_at(deadline, connect).await.map_err(|_| Trouble::Silent(patience))??;
        let mut server = Self { duplex };
        for reply in server.run(&login.first_commands(), patience).await? {
            if let Reply::Error(error) = reply {
                return Err(Trouble::Refused(error));
            }
        }
        Ok(server)
    }

    /// Says goodbye.
    pub(super) async fn close(self, patience: Duration) {
        self.duplex.close(&Pipeline::one(&[b"QUIT"]).bytes, patience).await;
    }

    /// Sends all commands, and returns the replies in their order. After an error the connection is of no use.
    pub(super) async fn run(&mut self, pipeline: &Pipeline, patience: Duration) -> Result<Vec<Reply>, Trouble> {
        let deadline = Instant::now() + patience;
        timeout_at(deadline, self.replies(pipeline)).await.unwrap_or(Err(Trouble::Silent(patience)))
    }

    async fn replies(&mut self, pipeline: &Pipeline) -> Result<Vec<Reply>, Trouble> {
        let mut out = BytesMut::from(&pipeline.bytes[..]);
        let mut replies = Vec::with_capacity(pipeline.commands);
        while replies.len() < pipeline.commands {
            match resp::decode(&self.duplex.input)? {
                Some((reply, taken)) => {
                    self.duplex.input.advance(taken);
                    replies.push(reply);
                }
                None => self.duplex.turn(&mut out).await?,
            }
        }
        Ok(replies)
    }
}
