//! Why sessions end.

use std::io;

use strum::{IntoStaticStr, VariantArray};

use super::websocket::Violation;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum SessionEnd {
    /// The vehicle sent a close frame.
    ClosedByPeer,
    /// The vehicle ended the connection without one.
    Gone,
    /// The connection broke.
    Broken,
    /// The system gave up on a peer that acknowledged nothing (`limits.tcp_user_timeout`, `limits.tcp_keepalive`).
    Unreachable,
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
    /// Nothing came for `limits.idle_timeout` from a vehicle that had answered pings before.
    Idle,
    /// A reply could not be written within `limits.write_timeout`.
    WriteTimeout,
    /// All sessions together keep as much as they may (`limits.max_kept_bytes`).
    NoRoom,
    /// This server is going down.
    Drained,
}

impl SessionEnd {
    /// Metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// By what reading or writing failed with.
    pub(super) fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Gone,
            io::ErrorKind::TimedOut => Self::Unreachable,
            _ => Self::Broken,
        }
    }

    /// By the rule that the peer broke.
    pub(super) fn of_violation(violation: Violation) -> Self {
        match violation {
            Violation::Protocol(_) | Violation::CloseReason => Self::Protocol,
            Violation::TooLong { .. } => Self::TooLong,
            Violation::TooManyFragments { .. } => Self::TooManyFragments,
        }
    }
}
