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
//!
//! | file | |
//! |---|---|
//! | `mod` | the loop: what is read, when, and what holds it back |
//! | `timing` | everything that a timer or the end of the process brings about |
//! | `closing` | from the goodbye to the end |
//! | `announce` | what others learn of a connection: connectivity records, the log line |
//! | `silence`, `pings`, `budget`, `end` | rules without I/O |
//! | `intake` | a message: envelope, admission, payload, hand-off, reply |
//! | `io`, `socket`, `websocket` | the connection, frames over it, framing without I/O |

mod announce;
pub mod budget;
mod closing;
mod end;
pub mod intake;
mod io;
pub mod metrics;
mod pings;
mod silence;
mod socket;
#[cfg(test)]
mod tests;
mod timing;
pub mod websocket;

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

use self::budget::{Budget, Share};
use self::intake::{Intake, Turn};
use self::pings::Pings;
use self::silence::Silence;
use self::socket::Socket;
use self::websocket::{Event, Outgoing, close_code};
use crate::config;
use crate::dispatch::{Blocked, Settled};
use crate::logging::RateLimited;
use crate::permissions::Permissions;
use crate::policy::Policy;
use crate::proto::vehicle_connectivity::ConnectivityEvent;
use crate::record::{Origin, RecordKind, Topics};
use crate::shutdown::Shutdown;
use crate::workers;

pub use end::SessionEnd;
pub use io::Io;
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
    /// What sessions count.
    pub metrics: SessionMetrics,
    /// Told when the process ends.
    pub shutdown: Shutdown,
    /// Bounds the log lines about refused records.
    pub refusals: RateLimited,
    /// What all sessions together may keep.
    pub budget: Arc<Budget>,
}

/// One connection.
pub struct Session<IO> {
    pipeline: Arc<Pipeline>,
    socket: Socket<IO>,
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
    silence: Silence,
    /// Nothing is read because the peer does not take its replies.
    held_by_replies: bool,
    /// Since when the peer has not taken what was written.
    stalled_since: Option<Instant>,
    /// What the session keeps beyond a poll.
    kept: Share,
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
    /// The peer has closed; what it is still to be told is being written.
    Flushing,
}

/// Messages handled before other tasks get their turn.
const MESSAGES_PER_POLL: usize = 64;

/// Bytes of messages after which others get it earlier: the work for a message grows with its length, and the worst
/// ones of a megabyte take tens of milliseconds. At most one message more than this is handled in one go.
const BYTES_PER_POLL: usize = 256 * 1024;

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

impl Scratch {
    /// For the next session. Only a panic leaves anything here, and no session may send or settle what was another's.
    fn clear(&mut self) {
        let Self { frame, record, replies, settled } = self;
        [frame, record, replies].into_iter().for_each(Vec::clear);
        settled.clear();
    }
}

impl<IO: Io> Session<IO> {
    /// A session over an upgraded connection; `early` came in behind the upgrade request.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>, io: IO, early: &[u8], origin: Origin, socket_id: Uuid) -> Self {
        let now = Instant::now();
        let silence = Silence::new(now);
        let first_look = silence.due(now, &pipeline.session);
        Self {
            // Copied, because even an empty slice would keep the whole buffer of the HTTP request alive.
            socket: Socket::new(io, Bytes::copy_from_slice(early), &pipeline.session),
            intake: Intake::new(Arc::new(origin), pipeline.rate_limit),
            phase: Phase::Streaming,
            draining: Some(Box::pin(pipeline.shutdown.clone().draining())),
            drain_seen: false,
            close_at: None,
            room: None,
            timer: Box::pin(tokio::time::sleep_until(first_look)),
            opened: now,
            silence,
            held_by_replies: false,
            stalled_since: None,
            kept: Share::new(&pipeline.budget),
            pings: Pings::default(),
            socket_id,
            pipeline,
        }
    }

    /// Streams until the connection ends, and says so to whoever consumes connectivity records.
    ///
    /// Boxed, because a future holds what it takes by value more than once.
    pub async fn run(mut self: Box<Self>) -> SessionEnd {
        let connected = self.pipeline.metrics.connected();
        Box::pin(self.announce(ConnectivityEvent::Connected)).await;
        let end = std::future::poll_fn(|cx| SCRATCH.with_borrow_mut(|scratch| self.poll(cx, scratch))).await;
        self.intake.close();
        std::future::poll_fn(|cx| self.socket.poll_shutdown(cx)).await;
        self.pipeline.metrics.ended(end);
        drop(connected);
        self.log_end(end);
        Box::pin(self.announce(ConnectivityEvent::Disconnected)).await;
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<SessionEnd> {
        workers::note_wake_up();
        scratch.clear();
        let now = Instant::now();
        self.poll_drain(cx);
        self.poll_settled(cx, scratch);
        let mut end = self.poll_timer(cx, now, &mut scratch.replies);
        if end.is_none() {
            end = self.poll_phase(cx, now, scratch);
        }
        let end = end.or(self.poll_write(cx, now, &mut scratch.replies));
        let end = end.or_else(|| self.stay_within_budget(cx, scratch));
        end.map_or(Poll::Pending, Poll::Ready)
    }

    /// Ends the session if there is no room for what it keeps. Nothing of that was acked, so the vehicle sends it again.
    fn stay_within_budget(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Option<SessionEnd> {
        if self.kept.resize(self.socket.kept_bytes() + self.intake.parked_bytes()) {
            return None;
        }
        websocket::put_close(&mut scratch.replies, Some(close_code::TRY_AGAIN_LATER));
        let _ = self.socket.poll_send(cx, &mut scratch.replies);
        Some(SessionEnd::NoRoom)
    }

    /// Turns settled records into acks.
    fn poll_settled(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) {
        while self.intake.outlet().poll_settled(cx, &mut scratch.settled).is_ready() {
            for settled in scratch.settled.drain(..) {
                let (buffer, replies) = (&mut scratch.record, &mut scratch.replies);
                self.intake.settled(&settled, &mut Turn { pipeline: &self.pipeline, buffer, replies });
            }
        }
    }

    fn poll_phase(&mut self, cx: &mut Context<'_>, now: Instant, scratch: &mut Scratch) -> Option<SessionEnd> {
        if matches!(self.phase, Phase::Streaming) {
            if self.close_at.is_some_and(|at| at <= now) {
                self.settle();
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
        let mut bytes = 0;
        for _ in 0..MESSAGES_PER_POLL {
            if bytes >= BYTES_PER_POLL {
                break;
            }
            if !self.may_read(cx, now, scratch) {
                self.silence.hold(now);
                self.arm(self.silence.due(now, &self.pipeline.session));
                return None;
            }
            if self.has_left_while_held(now) {
                return Some(SessionEnd::Gone);
            }
            self.silence.release(now);
            let polled = self.socket.poll_event(cx, &mut scratch.frame);
            self.silence.has_read(now, self.socket.is_unfinished());
            let event = match polled {
                Poll::Ready(Ok(event)) => event,
                Poll::Ready(Err(end)) => return self.read_end(end, now, &mut scratch.replies),
                Poll::Pending => return None,
            };
            self.silence.heard(now);
            match event {
                Event::Binary(frame) => {
                    bytes += frame.len();
                    let (buffer, replies) = (&mut scratch.record, &mut scratch.replies);
                    self.intake.message(frame, &mut Turn { pipeline: &self.pipeline, buffer, replies });
                }
                Event::Ping(payload) => {
                    websocket::put_header(&mut scratch.replies, Outgoing::Pong, payload.len());
                    scratch.replies.extend_from_slice(payload);
                    if !self.pings.allow(now, self.pipeline.session.max_pings_per_second) {
                        self.close(close_code::POLICY, SessionEnd::PingFlood, now, &mut scratch.replies);
                        return None;
                    }
                }
                Event::Pong => self.silence.pong(),
                Event::Text(_) => {
                    self.close(close_code::UNSUPPORTED, SessionEnd::Text, now, &mut scratch.replies);
                    return None;
                }
                Event::Close(code) => {
                    // Nothing may follow the answer, so what has settled in this very poll goes first.
                    self.poll_settled(cx, scratch);
                    websocket::put_close(&mut scratch.replies, code);
                    self.phase = Phase::Flushing;
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
        self.held_by_replies = self.socket.unsent() > limits.max_unread_reply_bytes;
        if self.held_by_replies || self.intake.has_enough_in_flight(limits.max_unsettled) {
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
            let (buffer, replies) = (&mut scratch.record, &mut scratch.replies);
            self.intake.resume(&mut Turn { pipeline: &self.pipeline, buffer, replies });
        }
    }

    /// Writes what there is to write; the end, when that was all that was left to do, or when it fails.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant, replies: &mut Vec<u8>) -> Option<SessionEnd> {
        let sent = self.socket.poll_send(cx, replies);
        replies.clear();
        match sent {
            Poll::Ready(Ok(())) => {
                self.stalled_since = None;
                if matches!(self.phase, Phase::Flushing) {
                    return Some(SessionEnd::ClosedByPeer);
                }
            }
            Poll::Ready(Err(error)) => {
                self.pipeline.metrics.socket_errors.increment(1);
                return Some(SessionEnd::of_error(&error));
            }
            Poll::Pending => {
                let since = *self.stalled_since.get_or_insert(now);
                self.arm(since + self.pipeline.session.write_timeout);
            }
        }
        if self.held_by_replies && self.socket.unsent() <= self.pipeline.session.max_unread_reply_bytes {
            // This very write made the room that reading waits for: nothing else would wake the session.
            cx.waker().wake_by_ref();
        }
        None
    }
}

impl<IO> fmt::Debug for Session<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("socket_id", &self.socket_id)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// A record that a full dispatcher did not take, and its type.
type Parked = (RecordKind, Box<Blocked>);
