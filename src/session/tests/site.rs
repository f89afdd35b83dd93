//! A pipeline with one dispatcher, and peers of its sessions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::SECOND;
use crate::config::{self, DispatcherName, Env, InFlight};
use crate::dispatch::{Dispatcher, DispatcherMetrics, Full, Health, Outbox, Receipt, Route, Target};
use crate::envelope::Envelope;
use crate::identity::{ClientType, Identity};
use crate::logging::RateLimited;
use crate::permissions::Permissions;
use crate::policy::{Policy, Routes};
use crate::proto::vehicle_data::{Datum, Payload, Value, value};
use crate::record::{Origin, Record, Topics};
use crate::session::budget::Budget;
use crate::session::{Io, Pipeline, Session, SessionEnd, SessionMetrics};
use crate::shutdown::Shutdown;
use crate::testing::message;

/// What sessions share.
pub(super) struct Site {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) sink: Arc<Sink>,
}

/// The vehicle's end of a session.
pub(super) struct Peer {
    pub(super) stream: DuplexStream,
    pub(super) session: JoinHandle<SessionEnd>,
    pub(super) hung_up: Arc<AtomicBool>,
    vin: String,
}

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) opcode: u8,
    pub(super) payload: Vec<u8>,
}

/// Bytes that fit into each direction of a connection, as into a socket's buffers.
const PIPE: usize = 4096;

fn default_config() -> config::Config {
    let config = r#"{"port": 1, "tls": {"ca_file": "-", "server_cert": "-", "server_key": "-"}, "records": {}}"#;
    let file = config::file::FileConfig::parse(config.as_bytes()).expect("JSON");
    config::resolve(file, &Env::default()).expect("a valid configuration").0
}

pub(super) fn limits_of(change: impl FnOnce(&mut config::Session)) -> config::Session {
    let mut session = default_config().session;
    change(&mut session);
    session
}

impl Site {
    /// Records are acked when the dispatcher has delivered them.
    pub(super) fn new(change: impl FnOnce(&mut config::Session)) -> Self {
        Self::bounded(Outbox::MOST, change)
    }

    /// As [`Self::new`], with room for `bound` in the dispatcher.
    pub(super) fn bounded(bound: InFlight, change: impl FnOnce(&mut config::Session)) -> Self {
        Self::with(limits_of(change), bound, default_config().shutdown, false)
    }

    /// With times for the end of the process.
    pub(super) fn ending(shutdown: config::Shutdown) -> Self {
        Self::with(limits_of(|_| {}), Outbox::MOST, shutdown, false)
    }

    /// As [`Self::ending`], with room for one record; connections are announced.
    pub(super) fn announcing(shutdown: config::Shutdown) -> Self {
        let one = InFlight { records: 1, bytes: 1 << 20 };
        Self::with(limits_of(|_| {}), one, shutdown, true)
    }

    fn with(session: config::Session, bound: InFlight, shutdown: config::Shutdown, announced: bool) -> Self {
        let config = default_config();
        let topics = Topics::new([]);
        let sink = Arc::new(Sink::new(bound));
        let metrics = Arc::new(DispatcherMetrics::register(sink.name(), &topics));
        let target = || Target::new(sink.clone(), Arc::clone(&metrics));
        let route = |topic| (topic, Route::new(vec![target()], &[DispatcherName::Kafka]));
        let topics_routed = if announced { &["V", "connectivity"][..] } else { &["V"] };
        let pipeline = Pipeline {
            permissions: Arc::new(Permissions::off()),
            policy: Policy::new(Routes::new(&topics, topics_routed.iter().copied().map(route)), &config.policy),
            metrics: SessionMetrics::register(&topics, &session),
            budget: Arc::new(Budget::new(session.max_kept_bytes)),
            session,
            rate_limit: None,
            shutdown: Shutdown::new(shutdown),
            refusals: RateLimited::default(),
            topics,
        };
        Self { pipeline: Arc::new(pipeline), sink }
    }

    pub(super) fn connect(&self, vin: &str) -> Peer {
        self.connect_as(vin, Uuid::new_v4())
    }

    /// With an id, whose first bytes are the connection's place in the order of closing.
    pub(super) fn connect_as(&self, vin: &str, id: Uuid) -> Peer {
        self.connect_behind(b"", vin, id)
    }

    /// With bytes that came in with the upgrade, all of which the first poll finds.
    pub(super) fn connect_behind(&self, early: &[u8], vin: &str, id: Uuid) -> Peer {
        let (stream, server) = tokio::io::duplex(PIPE);
        let hung_up = Arc::new(AtomicBool::new(false));
        let pipe = Pipe { stream: BufReader::new(server), hung_up: Arc::clone(&hung_up) };
        let origin = Origin {
            identity: Identity::new(ClientType::VehicleDevice, vin),
            connection_id: "".into(),
            network_interface: "".into(),
            client_version: "".into(),
        };
        let session = Box::new(Session::new(Arc::clone(&self.pipeline), pipe, early, origin, id));
        Peer { stream, session: tokio::spawn(session.run()), hung_up, vin: vin.to_owned() }
    }
}

impl Peer {
    pub(super) async fn send(&mut self, txid: &str) {
        self.send_all(&[txid]).await;
    }

    /// In one piece, so that one poll of the session finds all of them.
    pub(super) async fn send_all(&mut self, txids: &[&str]) {
        let frames: Vec<u8> = txids.iter().flat_map(|txid| self.record(txid, 10)).collect();
        self.stream.write_all(&frames).await.unwrap();
    }

    pub(super) async fn send_large(&mut self, txid: &str, bytes: usize) {
        let frame = self.record(txid, bytes);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// A frame with a record that has about `bytes` bytes of text.
    pub(super) fn record(&self, txid: &str, bytes: usize) -> Vec<u8> {
        self.record_of(&self.vin, txid, bytes)
    }

    /// As [`Self::record`], from a sender that may be another one: then the answer is an error, at once.
    pub(super) fn record_of(&self, sender: &str, txid: &str, bytes: usize) -> Vec<u8> {
        record(&self.vin, sender, txid, bytes)
    }

    pub(super) async fn pong(&mut self) {
        self.stream.write_all(&client_frame(10, b"")).await.unwrap();
    }

    pub(super) async fn close(&mut self) {
        self.stream.write_all(&client_frame(8, &1000_u16.to_be_bytes())).await.unwrap();
    }

    /// The next frame from the server.
    pub(super) async fn frame(&mut self) -> Frame {
        let first = self.stream.read_u8().await.unwrap();
        let len = match self.stream.read_u8().await.unwrap() {
            126 => usize::from(self.stream.read_u16().await.unwrap()),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await.unwrap();
        Frame { opcode: first & 0xf, payload }
    }

    /// The next frame that is no ping.
    pub(super) async fn message(&mut self) -> Frame {
        loop {
            let frame = self.frame().await;
            if frame.opcode != 9 {
                return frame;
            }
        }
    }

    pub(super) async fn expect_ack(&mut self, txid: &str) {
        assert_eq!(self.message().await.acked().as_deref(), Some(txid));
    }

    pub(super) async fn expect_nothing(&mut self) {
        let frame = tokio::time::timeout(SECOND, self.message()).await;
        assert!(frame.is_err(), "{frame:?}");
    }
}

impl Frame {
    /// The txid of an ack.
    pub(super) fn acked(&self) -> Option<String> {
        match message::parse_reply(&self.payload)? {
            message::Reply::Ack { txid, .. } => Some(String::from_utf8_lossy(txid).into_owned()),
            message::Reply::Error { .. } => None,
        }
    }

    pub(super) fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk().filter(|_| self.opcode == 8)?;
        Some(u16::from_be_bytes(*code))
    }
}

/// A frame with a record of `vin`, from `sender`, that has about `bytes` bytes of text.
pub(super) fn record(vin: &str, sender: &str, txid: &str, bytes: usize) -> Vec<u8> {
    let text = value::Value::StringValue("x".repeat(bytes));
    let data = vec![Datum { key: 32, value: Some(Value { value: Some(text) }) }];
    let payload = Payload { data, vin: vin.to_owned(), ..Payload::default() }.encode_to_vec();
    let sender = format!("vehicle_device.{sender}");
    let envelope =
        Envelope { txid: txid.as_bytes(), topic: b"V", sender_id: sender.as_bytes(), created_at: 0, payload: &payload };
    client_frame(2, &message::encode(&envelope))
}

/// Masked with zeros.
fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()) {
        Ok(len @ ..=125) => frame.push(0x80 | u8::try_from(len).unwrap()),
        Ok(len) => {
            frame.push(0x80 | 126);
            frame.extend(len.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The server's end of a connection.
struct Pipe {
    stream: BufReader<DuplexStream>,
    hung_up: Arc<AtomicBool>,
}

impl Io for Pipe {
    fn is_hung_up(&self) -> bool {
        self.hung_up.load(Ordering::Relaxed)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncBufRead for Pipe {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().stream).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        Pin::new(&mut self.stream).consume(amount);
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A durable dispatcher that settles when it is told to, and panics at a record named `panic`.
#[derive(Debug)]
pub(super) struct Sink {
    outbox: Arc<Outbox>,
    /// Delivers at once.
    acking: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Vec<Receipt>,
    /// Txids of records of `V`, in their order.
    taken: Vec<String>,
}

impl Sink {
    fn new(bound: InFlight) -> Self {
        Self { outbox: Arc::new(Outbox::new(bound)), acking: AtomicBool::new(false), state: Mutex::default() }
    }

    pub(super) fn set_acking(&self, acking: bool) {
        self.acking.store(acking, Ordering::Relaxed);
    }

    /// Delivers what it has taken so far.
    pub(super) fn settle_all(&self) {
        let held = std::mem::take(&mut self.state().held);
        held.into_iter().for_each(Receipt::delivered);
    }

    pub(super) fn taken(&self) -> Vec<String> {
        self.state().taken.clone()
    }

    pub(super) fn used(&self) -> InFlight {
        self.outbox.used()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Dispatcher for Sink {
    fn name(&self) -> DispatcherName {
        DispatcherName::Kafka
    }

    fn dispatch(&self, record: &Record, receipt: Receipt) -> Result<(), Full> {
        assert_ne!(record.txid(), b"panic", "a defect, as far as sessions know");
        let receipt = self.outbox.enter(receipt)?;
        if record.kind() == crate::record::RecordKind::V {
            self.state().taken.push(String::from_utf8_lossy(record.txid()).into_owned());
        }
        if self.acking.load(Ordering::Relaxed) {
            receipt.delivered();
        } else {
            self.state().held.push(receipt);
        }
        Ok(())
    }

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn health(&self) -> Health {
        Health::Healthy
    }

    fn close(&self, _: std::time::Instant) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
