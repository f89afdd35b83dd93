//! The floor: the least that a Rust server can do for a frame. Mutual TLS record in, unmask, one fixed ack
//! out; nothing is decoded and nothing is kept. What the real server needs beyond that is its own work.
//!
//! An ack is a template with the txid copied from where the benchmark's record has it, because the
//! simulator checks every ack. So the floor serves benchmark records only.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use fleet_telemetry::envelope::reply;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::certs::{CertsError, Files, read_certificates, read_key, read_roots};
use crate::record::fixed::{FixedRecord, position};
use crate::record::txid::{self, Txid};
use crate::socket::frame::{self, Header};

/// No vehicle sends more header bytes than this.
const MAX_HEAD: usize = 16 * 1024;

thread_local! {
    /// Acks being built and payloads being unmasked; borrowed only between two awaits.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    payload: Vec<u8>,
    acks: Vec<u8>,
}

/// Why the floor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// Certificates.
    #[error(transparent)]
    Certificates(#[from] CertsError),
    /// Trust anchors.
    #[error("client certificates: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// The port.
    #[error("port: {0}")]
    Bind(#[from] io::Error),
}

/// A bound server.
pub struct Floor {
    listener: TcpListener,
    tls: TlsAcceptor,
    ack: Arc<AckTemplate>,
}

impl Floor {
    /// Binds; clients must have a certificate of `files.vehicle_ca`.
    ///
    /// # Errors
    /// [`FloorError`].
    pub async fn bind(address: SocketAddr, files: &Files) -> Result<Self, FloorError> {
        let tls = TlsAcceptor::from(Arc::new(server_config(files)?));
        Ok(Self { listener: TcpListener::bind(address).await?, tls, ack: Arc::new(AckTemplate::new()) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The kernel does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until it is dropped.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(self) -> io::Result<()> {
        loop {
            let (tcp, _) = self.listener.accept().await?;
            let (tls, ack) = (self.tls.clone(), self.ack.clone());
            // The handshake's memory is freed with its task; a small one streams.
            tokio::spawn(async move {
                if let Ok(stream) = open(tcp, tls).await {
                    tokio::spawn(
                        Connection { stream, ack, unsent: Vec::new(), unflushed: false, partial: Vec::new() }.run(),
                    );
                }
            });
        }
    }
}

/// Mutual TLS without tickets and session storage: every connection is a full handshake.
///
/// # Errors
/// [`FloorError`].
pub fn server_config(files: &Files) -> Result<ServerConfig, FloorError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::new(read_roots(&files.vehicle_ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(CertsError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(read_certificates(&files.server)?, read_key(&files.server_key)?)
        .map_err(CertsError::Tls)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

async fn open(tcp: TcpStream, tls: TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    let mut stream = tls.accept(tcp).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).await? == 0 || head.len() > MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let key = header(&head, "sec-websocket-key").ok_or(io::ErrorKind::InvalidData)?;
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(response.as_bytes()).await?;
    stream.flush().await?;
    Ok(stream)
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = str::from_utf8(head).ok()?.lines();
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The WebSocket frame of an ack, complete but for the txid.
#[derive(Debug)]
struct AckTemplate {
    frame: Vec<u8>,
    txid_at: usize,
    /// Where the benchmark's record has its txid.
    record_txid_at: usize,
}

impl AckTemplate {
    fn new() -> Self {
        let txid = Txid { run: 0x5eed_f00d, vehicle: 0x0fee_1bad, sequence: 0xfeed_face_cafe }.text();
        let mut message = Vec::new();
        reply::ack(&mut message, &txid, b"V");
        let mut frame = Vec::new();
        frame::append(&mut frame, frame::BINARY, &message);
        let txid_at = position(&frame, &txid).expect("an ack repeats the txid");
        Self { frame, txid_at, record_txid_at: FixedRecord::new("VIN0VIN0VIN0VIN00", SystemTime::UNIX_EPOCH).txid_at() }
    }

    /// Appends the ack for a benchmark record; false for anything else.
    fn append(&self, acks: &mut Vec<u8>, record: &[u8]) -> bool {
        let Some(txid) = record.get(self.record_txid_at..self.record_txid_at + txid::LEN) else { return false };
        let start = acks.len() + self.txid_at;
        acks.extend_from_slice(&self.frame);
        acks[start..start + txid::LEN].copy_from_slice(txid);
        true
    }
}

/// A vehicle's connection after the upgrade. Holds no buffer while it is idle.
struct Connection {
    stream: TlsStream<TcpStream>,
    ack: Arc<AckTemplate>,
    /// Acks that the network has not taken.
    unsent: Vec<u8>,
    /// The TLS session holds bytes that the network has not taken.
    unflushed: bool,
    /// The start of a frame whose rest has not come yet.
    partial: Vec<u8>,
}

impl Connection {
    async fn run(mut self) {
        while let Ok(true) = poll_fn(|cx| self.poll_turn(cx)).await {}
    }

    /// One read and its acks; false at the end.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        ready!(self.poll_unsent(cx))?;
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.acks.clear();
            let chunk = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
            let len = chunk.len();
            let open = if self.partial.is_empty() {
                let (used, open) = answer(chunk, &self.ack, scratch);
                self.partial.extend_from_slice(&chunk[used..]);
                open
            } else {
                self.partial.extend_from_slice(chunk);
                let (used, open) = answer(&self.partial, &self.ack, scratch);
                self.partial.drain(..used);
                open
            };
            Pin::new(&mut self.stream).consume(len);
            self.poll_send(cx, &scratch.acks)?;
            Poll::Ready(Ok(open && len > 0))
        })
    }

    /// Sends acks; what the network does not take is kept.
    fn poll_send(&mut self, cx: &mut Context<'_>, acks: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < acks.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &acks[sent..])? {
                Poll::Ready(n) => sent += n,
                Poll::Pending => break,
            }
        }
        self.unsent.extend_from_slice(&acks[sent..]);
        if sent > 0 {
            self.unflushed = Pin::new(&mut self.stream).poll_flush(cx)?.is_pending();
        }
        Ok(())
    }

    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            self.unsent.drain(..sent);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// Appends an ack for each whole record; returns how many bytes were used and whether to go on.
fn answer(bytes: &[u8], ack: &AckTemplate, scratch: &mut Scratch) -> (usize, bool) {
    let mut used = 0;
    loop {
        let header = match Header::parse(&bytes[used..]) {
            Ok(Some(header)) => header,
            Ok(None) => return (used, true),
            Err(_) => return (used, false),
        };
        let start = used + header.len;
        let Some(payload) = bytes.get(start..start + header.payload_len) else { return (used, true) };
        used = start + header.payload_len;
        let (frame::BINARY, Some(mask)) = (header.opcode, header.mask) else { return (used, false) };
        scratch.payload.clear();
        scratch.payload.extend_from_slice(payload);
        frame::apply_mask(&mut scratch.payload, mask);
        if !ack.append(&mut scratch.acks, &scratch.payload) {
            return (used, false);
        }
    }
}
