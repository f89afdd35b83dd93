//! From the goodbye to the end of a session.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::socket::ReadEnd;
use super::websocket::{self, Event};
use super::{Io, MESSAGES_PER_POLL, Phase, Session, SessionEnd};

/// How long a close frame may take to be answered.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

impl<IO: Io> Session<IO> {
    /// Reads no more; what is in flight may still settle.
    pub(super) fn settle(&mut self) {
        let until = self.pipeline.shutdown.goodbyes_by();
        self.phase = Phase::Settling { until };
        self.arm(until);
    }

    /// Says goodbye and waits for the peer to do so.
    pub(super) fn close(&mut self, code: u16, end: SessionEnd, now: Instant, replies: &mut Vec<u8>) {
        websocket::put_close(replies, Some(code));
        let shutdown = &self.pipeline.shutdown;
        let grace = now + CLOSE_GRACE;
        let until = if shutdown.is_draining() { grace.min(shutdown.closed_by()) } else { grace };
        self.phase = Phase::Closing { end, until };
        self.arm(until);
    }

    /// The connection cannot be read any more: either it is over, or the peer is told why.
    pub(super) fn read_end(&mut self, end: ReadEnd, now: Instant, replies: &mut Vec<u8>) -> Option<SessionEnd> {
        match end {
            ReadEnd::Eof => Some(SessionEnd::Gone),
            ReadEnd::Io(error) => Some(SessionEnd::of_error(&error)),
            ReadEnd::Violation(violation) => {
                tracing::info!(device_id = self.intake.origin().identity.device_id(), %violation, "websocket_violation");
                self.close(violation.close_code(), SessionEnd::of_violation(violation), now, replies);
                None
            }
        }
    }

    /// What still comes in is read and thrown away: closing with unread bytes would reset the
    /// connection, and the peer could lose the replies that are on their way.
    pub(super) fn poll_closing(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        end: SessionEnd,
        until: Instant,
        discarded: &mut Vec<u8>,
    ) -> Option<SessionEnd> {
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
}
