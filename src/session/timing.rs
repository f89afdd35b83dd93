//! What time brings about: pings, the end of silent or stalled connections, the end of the process.

use std::future::Future;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::silence::Step;
use super::websocket::{self, Outgoing, close_code};
use super::{Io, Phase, Session, SessionEnd};

/// A timer that is due at once could spin.
const MIN_TIMER: Duration = Duration::from_millis(1);

impl<IO: Io> Session<IO> {
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) {
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
    pub(super) fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        replies: &mut Vec<u8>,
    ) -> Option<SessionEnd> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let write_timeout = self.pipeline.session.write_timeout;
            let stall_ends = self.stalled_since.map(|since| since + write_timeout);
            if stall_ends.is_some_and(|end| end <= now) {
                return Some(SessionEnd::WriteTimeout);
            }
            if matches!(self.phase, Phase::Streaming)
                && let Some(end) = self.look_at_silence(now, replies)
            {
                return Some(end);
            }
            // Afterwards, because silence may just have led to another phase.
            let next_look = || self.silence.due(now, &self.pipeline.session);
            let phase_due = match self.phase {
                Phase::Streaming => self.close_at.map_or_else(next_look, |at| at.min(next_look())),
                Phase::Settling { until } | Phase::Closing { until, .. } => until,
                // It ends by the write, or by the stall.
                Phase::Flushing => now + write_timeout,
            };
            let due = stall_ends.map_or(phase_due, |end| end.min(phase_due));
            self.timer.as_mut().reset(due.max(now + MIN_TIMER));
        }
        None
    }

    /// The peer has gone, and the session has not read from it for a while. What it had sent is not acked, so it sends
    /// that again, perhaps has already done so over a newer connection: it must not arrive behind what came there.
    pub(super) fn has_left_while_held(&self, now: Instant) -> bool {
        self.silence.is_held_long(now) && self.socket.is_hung_up()
    }

    fn look_at_silence(&mut self, now: Instant, replies: &mut Vec<u8>) -> Option<SessionEnd> {
        // Nothing else would tell a session that does not read.
        if self.has_left_while_held(now) {
            return Some(SessionEnd::Gone);
        }
        let pipeline = Arc::clone(&self.pipeline);
        loop {
            match self.silence.step(now, &pipeline.session) {
                Step::Wait => return None,
                Step::Note => pipeline.metrics.silent.increment(1),
                // What waits to be taken asks the peer's system as well as a ping would.
                Step::Ping if self.socket.unsent() > 0 => {}
                Step::Ping => websocket::put_header(replies, Outgoing::Ping, 0),
                Step::Close => {
                    self.close(close_code::POLICY, SessionEnd::Idle, now, replies);
                    return None;
                }
            }
        }
    }

    /// Makes sure that the timer fires no later than `at`.
    pub(super) fn arm(&mut self, at: Instant) {
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
    }
}
