//! The part of `limits` that is about one connection, with the reasons for its defaults.

use std::time::Duration;

use super::InFlight;
use super::duration::{DAY, HOUR, MINUTE, SECOND, SHORTEST};
use super::error::Problems;
use super::section::Section;

/// A parked vehicle sends little. Only one that has answered pings before is held to it, and TCP notices by half of it
/// that one has lost its network: minutes, because a vehicle in a garage may come back with its connection.
pub(super) const IDLE: Duration = Duration::from_secs(600);

/// The keys of `limits` about one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSessionLimits {
    /// Longest message that is processed.
    pub max_message_bytes: Option<i64>,
    /// Longest message that is read.
    pub max_frame_bytes: Option<i64>,
    /// Frames per message.
    pub max_fragments: Option<i64>,
    /// Pings from a client per second.
    pub max_pings_per_second: Option<i64>,
    /// Silence after which a connection is closed.
    pub idle_timeout: Option<Duration>,
    /// Silence after which the server pings.
    pub ping_interval: Option<Duration>,
    /// Records handed off and not settled, per connection.
    pub max_unsettled: Option<i64>,
    /// Their bytes.
    pub max_unsettled_bytes: Option<i64>,
    /// Bytes that all connections together may keep.
    pub max_kept_bytes: Option<i64>,
    /// Bytes of replies that a vehicle has not taken.
    pub max_unread_reply_bytes: Option<i64>,
    /// A reply must leave within this time.
    pub write_timeout: Option<Duration>,
}

/// Bounds of one connection.
#[derive(Clone, Debug)]
pub struct Session {
    /// Longest message that is processed; a longer one gets the error response.
    pub max_message_bytes: usize,
    /// Longest message that is read at all; a longer one closes the connection with 1009.
    pub max_frame_bytes: usize,
    /// Frames that one message may be cut into.
    pub max_fragments: usize,
    /// Pings that a client may send per second.
    pub max_pings_per_second: u32,
    /// Without any frame for so long, the connection is closed.
    pub idle_timeout: Duration,
    /// Without any frame for so long, the server pings.
    pub ping_interval: Duration,
    /// Handed off and not settled; above, the server stops reading from this vehicle.
    pub max_unsettled: InFlight,
    /// Bytes that all connections together may keep: unfinished messages, records that wait for room, unread replies.
    pub max_kept_bytes: usize,
    /// Bytes of replies that the vehicle has not taken; above, nothing is read from it.
    pub max_unread_reply_bytes: usize,
    /// A reply must leave within this time.
    pub write_timeout: Duration,
    /// `X-TXID` becomes the connection id when it is a UUID.
    pub connection_id_from_header: bool,
}

impl FileSessionLimits {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            max_message_bytes: section.value("max_message_bytes"),
            max_frame_bytes: section.value("max_frame_bytes"),
            max_fragments: section.value("max_fragments"),
            max_pings_per_second: section.value("max_pings_per_second"),
            idle_timeout: section.duration("idle_timeout"),
            ping_interval: section.duration("ping_interval"),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
            max_kept_bytes: section.value("max_kept_bytes"),
            max_unread_reply_bytes: section.value("max_unread_reply_bytes"),
            write_timeout: section.duration("write_timeout"),
        }
    }
}

pub(super) fn resolve(limits: &FileSessionLimits, connection_id_from_header: bool, problems: &mut Problems) -> Session {
    /// What the reference server processes, at most.
    const MESSAGE_BYTES: usize = 1_000_000;
    const MIB: i64 = 1 << 20;
    let max_message_bytes =
        problems.number("limits.max_message_bytes", limits.max_message_bytes, 1..=1024 * MIB, MESSAGE_BYTES);
    let idle_timeout = problems.duration("limits.idle_timeout", limits.idle_timeout, SHORTEST..=DAY, IDLE);
    let session = Session {
        max_message_bytes,
        // Above the former, so that a message which is merely too long is answered.
        max_frame_bytes: problems.number(
            "limits.max_frame_bytes",
            limits.max_frame_bytes,
            1..=1024 * MIB,
            max_message_bytes.max(4 << 20),
        ),
        max_fragments: problems.number("limits.max_fragments", limits.max_fragments, 1..=1_000_000, 1024),
        max_pings_per_second: problems.number(
            "limits.max_pings_per_second",
            limits.max_pings_per_second,
            1..=1_000_000,
            10,
        ),
        idle_timeout,
        // Below the idle timeouts of mobile networks' address translation.
        ping_interval: problems.duration(
            "limits.ping_interval",
            limits.ping_interval,
            SHORTEST..=DAY,
            MINUTE.min(idle_timeout / 2),
        ),
        max_unsettled: InFlight {
            // A vehicle replays its buffer of 5,000 messages in five round trips to the broker, and takes no more than
            // 1 % of the room in Kafka's queue.
            records: problems.number("limits.max_unsettled", limits.max_unsettled, 1..=1_000_000, 1024),
            // 4 kB for each of those, or four messages of the greatest length.
            bytes: problems.number(
                "limits.max_unsettled_bytes",
                limits.max_unsettled_bytes,
                1 << 16..=1 << 40,
                4 << 20,
            ),
        },
        // A few hundred of the longest messages; those of usual length come and go whole, and are not kept at all.
        max_kept_bytes: problems.number("limits.max_kept_bytes", limits.max_kept_bytes, 1 << 20..=1 << 40, 512 << 20),
        // More than the acks (about 100 bytes each) for `max_unsettled` records.
        max_unread_reply_bytes: problems.number(
            "limits.max_unread_reply_bytes",
            limits.max_unread_reply_bytes,
            1024..=1024 * MIB,
            256 << 10,
        ),
        // A hand-over between mobile cells takes some seconds.
        write_timeout: problems.duration("limits.write_timeout", limits.write_timeout, SHORTEST..=HOUR, 30 * SECOND),
        connection_id_from_header,
    };
    if session.max_frame_bytes < session.max_message_bytes {
        let least = format!("at least limits.max_message_bytes = {}", session.max_message_bytes);
        problems.out_of_range("limits.max_frame_bytes", session.max_frame_bytes, least);
    }
    if session.ping_interval >= session.idle_timeout {
        let less = format!("less than limits.idle_timeout = {:?}", session.idle_timeout);
        problems.out_of_range("limits.ping_interval", session.ping_interval, less);
    }
    session
}
