//! One connection, from the upgrade to its end: a single loop that owns all of its state.
//!
//! ```text
//!             frames                          hand-off
//!  vehicle ───────────▶ Socket ──▶ Intake ────────────────▶ dispatchers
//!     ▲                   ▲                                     │
//!     └────── replies ────┴──────────── Outlet ◀────── Receipt ─┘
//!
//!  Streaming ──(drain)──▶ Settling ──(nothing in flight)──▶ Closing ──▶ end
//!      └──────────(peer closes, or breaks a rule)──────────────▲
//! ```
//!
//! The loop is one poll function: everything that happened since the last wake-up is handled in one
//! go and answered with one write. Frames and replies live in buffers of the worker thread, so a
//! connection that is idle owns none.

pub mod intake;
pub mod metrics;
mod socket;
pub mod websocket;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

use self::intake::Intake;
use self::socket::{ReadEnd, Socket};
use self::websocket::{Event, Outgoing, close_code};
use crate::config;
use crate::dispatch::{Blocked, Settled};
use crate::logging::RateLimited;
use crate::permissions::Permissions;
use crate::policy::Policy;
use crate::proto::vehicle_connectivity::ConnectivityEvent;
use crate::record::{Origin, RecordKind, Topics, connectivity};
use crate::shutdown::Shutdown;
use crate::workers;

pub use metrics::SessionMetrics;

/// What all sessions share; immutable.
#[derive(Debug)]
pub struct Pipeline {
    /// Every topic that has a name.
    pub topics: Topics,
    /// What owners have allowed.
    pub permissions: Arc<Permissions>,
    /// Admission and routes.
    pub policy: Policy,
    /// Bounds of a connection.
    pub session: config::Session,
    /// Messages per connection and interval.
    pub rate_limit: Option<config::RateLimit>,
    /// Payloads leave as JSON, so a record without a JSON form is refused.
    pub json: bool,
    /// What sessions count.
    pub metrics: SessionMetrics,
    /// Told when the process ends.
    pub shutdown: Shutdown,
    /// Bounds the log lines about refused records.
    pub refusals: RateLimited,
}

/// One connection.
pub struct Session {
    pipeline: Arc<Pipeline>,
    socket: Socket,
    intake: Intake,
    phase: Phase,
    /// Resolves when the process drains; polled once, which is enough to be woken.
    draining: Option<BoxFuture<'static, ()>>,
    drain_seen: bool,
    /// When this connection's turn to close comes; set when the drain starts.
    close_at: Option<Instant>,
    /// Ready when the dispatcher that blocks the session may have room.
    room: Option<BoxFuture<'static, ()>>,
    timer: Pin<Box<tokio::time::Sleep>>,
    opened: Instant,
    last_read: Instant,
    /// At the last look, a bound kept the session from reading.
    held_back: bool,
    last_ping: Instant,
    /// Since when the peer has not taken what was written.
    stalled_since: Option<Instant>,
    pings: Pings,
    socket_id: Uuid,
}

/// What the loop is doing.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Reading records.
    Streaming,
    /// Reading no more; waits until what is in flight has settled.
    Settling { until: Instant },
    /// The close frame is written; waits until the peer has read it and closes.
    Closing { end: SessionEnd, until: Instant },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The vehicle sent a close frame.
    ClosedByPeer,
    /// The vehicle ended the connection without one.
    Gone,
    /// The connection broke.
    Broken,
    /// Against the WebSocket protocol.
    Protocol,
    /// A message above `limits.max_frame_bytes`.
    TooLong,
    /// A message in more than `limits.max_fragments` frames.
    TooManyFragments,
    /// A text message.
    Text,
    /// More than `limits.max_pings_per_second` pings.
    PingFlood,
    /// Nothing came for `limits.idle_timeout`.
    Idle,
    /// A reply could not be written within `limits.write_timeout`.
    WriteTimeout,
    /// This server is going down.
    Drained,
}

impl SessionEnd {
    /// Metric labels, in the order of the variants.
    pub const LABELS: [&'static str; 11] = [
        "closed_by_peer",
        "gone",
        "broken",
        "protocol",
        "too_long",
        "too_many_fragments",
        "text",
        "ping_flood",
        "idle",
        "write_timeout",
        "drained",
    ];

    /// Position in a table of handles.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        Self::LABELS[self.index()]
    }
}

/// How long a close frame may take to be answered.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// How long a connectivity record may wait for room in a full dispatcher.
const CONNECTIVITY_GRACE: Duration = Duration::from_secs(5);
/// Messages handled before other tasks get their turn.
const MESSAGES_PER_POLL: usize = 64;

/// Buffers of a worker thread; borrowed for one poll.
#[derive(Default)]
struct Scratch {
    /// The message being handled, unmasked.
    frame: Vec<u8>,
    /// The outgoing payload and txid of the record being made.
    record: Vec<u8>,
    /// WebSocket frames to be written at the end of the poll.
    replies: Vec<u8>,
    settled: Vec<Settled>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Session {
    /// A session over an upgraded connection; `early` came in behind the upgrade request.
    #[must_use]
    pub fn new(
        pipeline: Arc<Pipeline>,
        tls: TlsStream<TcpStream>,
        early: Bytes,
        origin: Origin,
        socket_id: Uuid,
    ) -> Self {
        let now = Instant::now();
        let first_check = now + pipeline.session.ping_interval.min(pipeline.session.idle_timeout);
        Self {
            socket: Socket::new(tls, early, &pipeline.session),
            intake: Intake::new(Arc::new(origin), pipeline.rate_limit),
            phase: Phase::Streaming,
            draining: Some(Box::pin(pipeline.shutdown.clone().draining())),
            drain_seen: false,
            close_at: None,
            room: None,
            timer: Box::pin(tokio::time::sleep_until(first_check.into())),
            opened: now,
            last_read: now,
            held_back: false,
            last_ping: now,
            stalled_since: None,
            pings: Pings::default(),
            socket_id,
            pipeline,
        }
    }

    /// Streams until the connection ends, and says so to whoever consumes connectivity records.
    ///
    /// Boxed, because a future holds what it takes by value more than once.
    pub async fn run(mut self: Box<Self>) -> SessionEnd {
        self.pipeline.metrics.connections.increment(1.0);
        Box::pin(self.announce(ConnectivityEvent::Connected)).await;
        let end = std::future::poll_fn(|cx| SCRATCH.with_borrow_mut(|scratch| self.poll(cx, scratch))).await;
        self.intake.close();
        std::future::poll_fn(|cx| self.socket.poll_shutdown(cx)).await;
        self.pipeline.metrics.ended(end);
        self.log_end(end);
        Box::pin(self.announce(ConnectivityEvent::Disconnected)).await;
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<SessionEnd> {
        workers::note_wake_up();
        let now = Instant::now();
        self.poll_drain(cx);
        self.poll_settled(cx, scratch);
        let mut end = self.poll_timer(cx, now, &mut scratch.replies);
        if end.is_none() {
            end = self.poll_phase(cx, now, scratch);
        }
        if self.poll_write(cx, now, &mut scratch.replies).is_err() {
            self.pipeline.metrics.socket_errors.increment(1);
            end = end.or(Some(SessionEnd::Broken));
        }
        debug_assert!(scratch.replies.is_empty(), "the next session must not send this one's replies");
        end.map_or(Poll::Pending, Poll::Ready)
    }

    /// Turns settled records into acks.
    fn poll_settled(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) {
        while self.intake.outlet().poll_settled(cx, &mut scratch.settled).is_ready() {
            for settled in scratch.settled.drain(..) {
                self.intake.settled(&settled, &self.pipeline, &mut scratch.replies);
            }
        }
    }

    fn poll_phase(&mut self, cx: &mut Context<'_>, now: Instant, scratch: &mut Scratch) -> Option<SessionEnd> {
        if matches!(self.phase, Phase::Streaming) {
            if self.close_at.is_some_and(|at| at <= now) {
                let until = now + self.pipeline.shutdown.remaining() / 2;
                self.phase = Phase::Settling { until };
                self.arm(until);
            } else if let Some(end) = self.poll_stream(cx, now, scratch) {
                return Some(end);
            }
        }
        if let Phase::Settling { until } = self.phase {
            self.poll_blocked(cx, scratch);
            if self.intake.is_settled() || until <= now {
                self.close(close_code::GOING_AWAY, SessionEnd::Drained, now, &mut scratch.replies);
            }
        }
        match self.phase {
            Phase::Closing { end, until } => self.poll_closing(cx, now, end, until, &mut scratch.frame),
            _ => None,
        }
    }

    /// Reads and handles messages, as long as nothing holds them back.
    fn poll_stream(&mut self, cx: &mut Context<'_>, now: Instant, scratch: &mut Scratch) -> Option<SessionEnd> {
        for _ in 0..MESSAGES_PER_POLL {
            self.held_back = !self.may_read(cx, now, scratch);
            if self.held_back {
                return None;
            }
            let event = match self.socket.poll_event(cx, &mut scratch.frame) {
                Poll::Ready(Ok(event)) => event,
                Poll::Ready(Err(end)) => return self.read_end(end, now, &mut scratch.replies),
                Poll::Pending => return None,
            };
            self.last_read = now;
            match event {
                Event::Binary(frame) => {
                    self.intake.message(frame, &self.pipeline, &mut scratch.record, &mut scratch.replies);
                }
                Event::Ping(payload) => {
                    websocket::put_header(&mut scratch.replies, Outgoing::Pong, payload.len());
                    scratch.replies.extend_from_slice(payload);
                    if !self.pings.allow(now, self.pipeline.session.max_pings_per_second) {
                        self.close(close_code::POLICY, SessionEnd::PingFlood, now, &mut scratch.replies);
                        return None;
                    }
                }
                Event::Pong => {}
                Event::Text(_) => {
                    self.close(close_code::UNSUPPORTED, SessionEnd::Text, now, &mut scratch.replies);
                    return None;
                }
                Event::Close(code) => {
                    websocket::put_close(&mut scratch.replies, code);
                    self.phase = Phase::Closing { end: SessionEnd::ClosedByPeer, until: now };
                    return None;
                }
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    /// Whether the next message may be read: the chain of bounds that ends in TCP's own back-pressure.
    fn may_read(&mut self, cx: &mut Context<'_>, now: Instant, scratch: &mut Scratch) -> bool {
        let limits = &self.pipeline.session;
        if self.intake.unsettled() >= limits.max_unsettled || self.socket.unsent() > limits.max_unread_reply_bytes {
            return false;
        }
        if let Some(free_at) = self.intake.rate_limited_until(now) {
            self.pipeline.metrics.rate_limit_waits.increment(1);
            self.arm(free_at);
            return false;
        }
        self.poll_blocked(cx, scratch)
    }

    /// Offers the record that a full dispatcher did not take; true when none is waiting any more.
    fn poll_blocked(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> bool {
        loop {
            let Some(dispatcher) = self.intake.blocked_at(&self.pipeline) else {
                self.room = None;
                return true;
            };
            let room = self.room.get_or_insert_with(|| Box::pin(async move { dispatcher.outbox().room().await }));
            if room.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.room = None;
            self.intake.resume(&self.pipeline, &mut scratch.replies);
        }
    }

    /// The connection cannot be read any more: either it is over, or the peer is told why.
    fn read_end(&mut self, end: ReadEnd, now: Instant, replies: &mut Vec<u8>) -> Option<SessionEnd> {
        use websocket::Violation;
        match end {
            ReadEnd::Eof => Some(SessionEnd::Gone),
            ReadEnd::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Some(SessionEnd::Gone),
            ReadEnd::Io(_) => Some(SessionEnd::Broken),
            ReadEnd::Violation(violation) => {
                let end = match violation {
                    Violation::Protocol(_) | Violation::CloseReason => SessionEnd::Protocol,
                    Violation::TooLong { .. } => SessionEnd::TooLong,
                    Violation::TooManyFragments { .. } => SessionEnd::TooManyFragments,
                };
                tracing::info!(device_id = self.intake.origin().identity.device_id(), %violation, "websocket_violation");
                self.close(violation.close_code(), end, now, replies);
                None
            }
        }
    }

    /// Says goodbye and waits for the peer to do so.
    fn close(&mut self, code: u16, end: SessionEnd, now: Instant, replies: &mut Vec<u8>) {
        websocket::put_close(replies, Some(code));
        let until = now + CLOSE_GRACE;
        self.phase = Phase::Closing { end, until };
        self.arm(until);
    }

    /// What still comes in is read and thrown away: closing with unread bytes would reset the
    /// connection, and the peer could lose the replies that are on their way.
    fn poll_closing(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        end: SessionEnd,
        until: Instant,
        discarded: &mut Vec<u8>,
    ) -> Option<SessionEnd> {
        // The peer that closed first has nothing more to say; its replies are flushed by `poll_write`.
        if end == SessionEnd::ClosedByPeer {
            return (self.socket.unsent() == 0).then_some(end);
        }
        if until <= now {
            return Some(end);
        }
        for _ in 0..MESSAGES_PER_POLL {
            match self.socket.poll_event(cx, discarded) {
                Poll::Ready(Ok(Event::Close(_)) | Err(ReadEnd::Eof | ReadEnd::Io(_))) => return Some(end),
                Poll::Ready(Err(ReadEnd::Violation(_))) => {
                    return self.socket.poll_discard(cx).is_ready().then_some(end);
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return None,
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    /// Writes what there is to write.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant, replies: &mut Vec<u8>) -> std::io::Result<()> {
        let sent = self.socket.poll_send(cx, replies);
        replies.clear();
        match sent {
            Poll::Ready(result) => {
                self.stalled_since = None;
                result
            }
            Poll::Pending => {
                let since = *self.stalled_since.get_or_insert(now);
                self.arm(since + self.pipeline.session.write_timeout);
                Ok(())
            }
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) {
        let Some(draining) = &mut self.draining else { return };
        if !self.drain_seen {
            self.drain_seen = true;
            let _ = draining.as_mut().poll(cx);
        }
        if self.pipeline.shutdown.is_draining() {
            self.draining = None;
            let (position, ..) = self.socket_id.as_fields();
            let at = self.pipeline.shutdown.close_at(position);
            self.close_at = Some(at);
            self.arm(at);
        }
    }

    /// Looks at everything that depends on time, and sets the timer to what comes next.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant, replies: &mut Vec<u8>) -> Option<SessionEnd> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let pipeline = Arc::clone(&self.pipeline);
            let limits = &pipeline.session;
            if self.stalled_since.is_some_and(|since| now >= since + limits.write_timeout) {
                return Some(SessionEnd::WriteTimeout);
            }
            if self.held_back {
                // A session that does not read cannot see that its peer is alive.
                self.last_read = now;
            }
            let mut next = self.last_read + limits.idle_timeout;
            if matches!(self.phase, Phase::Streaming) {
                if now >= next {
                    self.close(close_code::POLICY, SessionEnd::Idle, now, replies);
                } else {
                    next = next.max(now + Duration::from_secs(1));
                    let quiet_since = self.last_read.max(self.last_ping);
                    if now >= quiet_since + limits.ping_interval {
                        self.last_ping = now;
                        websocket::put_header(replies, Outgoing::Ping, 0);
                    }
                    next = next.min(self.last_read.max(self.last_ping) + limits.ping_interval);
                }
            }
            let phase_ends = match self.phase {
                Phase::Streaming => self.close_at,
                Phase::Settling { until } | Phase::Closing { until, .. } => Some(until),
            };
            let stall_ends = self.stalled_since.map(|since| since + limits.write_timeout);
            let due = [phase_ends, stall_ends].into_iter().flatten().fold(next, Instant::min);
            self.timer.as_mut().reset(due.max(now + MIN_TIMER).into());
        }
        None
    }

    /// Makes sure that the timer fires no later than `at`.
    fn arm(&mut self, at: Instant) {
        if at < self.timer.deadline().into_std() {
            self.timer.as_mut().reset(at.into());
        }
    }

    /// Sends a connectivity record, if somebody wants it.
    async fn announce(&mut self, event: ConnectivityEvent) {
        let pipeline = Arc::clone(&self.pipeline);
        let Some(route) = pipeline.policy.route(RecordKind::Connectivity) else { return };
        let record = connectivity::record(self.intake.origin(), event, &pipeline.permissions);
        let mut outcome = route.dispatch(&record, None);
        let wait = async {
            while let Err(blocked) = outcome {
                route.blocked_at(&blocked).outbox().room().await;
                outcome = route.resume(blocked, None);
            }
        };
        if tokio::time::timeout(CONNECTIVITY_GRACE, wait).await.is_err() {
            let device_id = self.intake.origin().identity.device_id();
            // Spelt as the reference server spells them.
            match event {
                ConnectivityEvent::Disconnected => tracing::error!(device_id, "connectivity_deregisteration_error"),
                _ => tracing::error!(device_id, "connectivity_registeration_error"),
            }
        }
    }

    fn log_end(&self, end: SessionEnd) {
        let bytes = self.intake.bytes();
        tracing::info!(
            activity = true,
            device_id = self.intake.origin().identity.device_id(),
            txid = &*self.intake.origin().connection_id,
            socket_id = %self.socket_id,
            reason = end.label(),
            V = %bytes.v,
            alerts = %bytes.alerts,
            errors = %bytes.errors,
            other = %bytes.other,
            total = %bytes.total(),
            duration_sec = self.opened.elapsed().as_secs(),
            "socket_disconnected"
        );
    }
}

/// A timer that is due at once could spin.
const MIN_TIMER: Duration = Duration::from_millis(1);

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("socket_id", &self.socket_id)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// A record that a full dispatcher did not take, and its type.
type Parked = (RecordKind, Box<Blocked>);

/// Counts a client's pings per second.
#[derive(Debug, Default)]
struct Pings {
    second: Option<Instant>,
    count: u32,
}

impl Pings {
    fn allow(&mut self, now: Instant, per_second: u32) -> bool {
        match self.second {
            Some(start) if now < start + Duration::from_secs(1) => self.count += 1,
            _ => (self.second, self.count) = (Some(now), 1),
        }
        self.count <= per_second
    }
}
