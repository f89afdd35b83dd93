//! What sessions count. Labels come from the configured topics and from enums, never from a vehicle.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use strum::VariantArray;

use super::SessionEnd;
use crate::config;
use crate::policy::DropReason;
use crate::record::{RecordKind, Topics};

/// Pre-labelled handles, shared by all sessions.
pub struct SessionMetrics {
    kinds: Box<[PerKind]>,
    pub(super) unexpected_record: Counter,
    pub(super) too_big: Counter,
    pub(super) foreign_sender: Counter,
    pub(super) socket_errors: Counter,
    unknown_type: [Counter; 3],
    pub(super) rate_limit_waits: Counter,
    pub(super) dispatcher_waits: Counter,
    dropped: Box<[Counter]>,
    ends: Box<[Counter]>,
    connections: Gauge,
    pub(super) silent: Counter,
    pub(super) hand_off_seconds: Histogram,
    pub(super) ack_seconds: Histogram,
}

struct PerKind {
    records: Counter,
    bytes: Counter,
    dispatched: Counter,
    acks: Counter,
    errors: Counter,
    rate_limited: Counter,
}

impl std::fmt::Debug for SessionMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionMetrics").finish_non_exhaustive()
    }
}

impl SessionMetrics {
    /// Registers the families with the current recorder, and states the configured bounds.
    #[must_use]
    pub fn register(topics: &Topics, bounds: &config::Session) -> Self {
        state_bounds(bounds);
        let kinds = topics.table(|_, topic| {
            let family = |name: &'static str| counter!(name, "record_type" => topic.to_owned());
            PerKind {
                records: family("record_total"),
                bytes: family("record_size_bytes_total"),
                dispatched: family("dispatch_total"),
                acks: family("ack_total"),
                errors: family("error_response_total"),
                rate_limited: counter!("rate_limit_exceeded_total", "txtype" => topic.to_owned()),
            }
        });
        Self {
            kinds,
            unexpected_record: counter!("unexpected_record_err_total"),
            too_big: counter!("record_too_big_total"),
            foreign_sender: counter!("unauthorized_sender_id_total"),
            socket_errors: counter!("socket_err_total"),
            // The reference labels with the character of the type's number.
            unknown_type: ["\u{0}", "\u{5}", "other"]
                .map(|msg_type| counter!("unknown_message_type_error_total", "msg_type" => msg_type)),
            rate_limit_waits: counter!("rate_limit_waits_total"),
            dispatcher_waits: counter!("dispatcher_full_waits_total"),
            dropped: DropReason::VARIANTS
                .iter()
                .map(|reason| counter!("record_dropped_total", "reason" => reason.label()))
                .collect(),
            ends: SessionEnd::VARIANTS
                .iter()
                .map(|end| counter!("session_end_total", "reason" => end.label()))
                .collect(),
            connections: gauge!("num_connections"),
            silent: counter!("silent_connections_total"),
            hand_off_seconds: histogram!("hand_off_seconds"),
            ack_seconds: histogram!("ack_seconds"),
        }
    }

    pub(super) fn record(&self, kind: RecordKind, payload_bytes: usize) {
        let handles = &self.kinds[kind.index()];
        handles.records.increment(1);
        handles.bytes.increment(payload_bytes as u64);
        handles.dispatched.increment(1);
    }

    pub(super) fn ack(&self, kind: RecordKind) {
        self.kinds[kind.index()].acks.increment(1);
    }

    pub(super) fn error_response(&self, kind: RecordKind) {
        self.unexpected_record.increment(1);
        self.kinds[kind.index()].errors.increment(1);
    }

    pub(super) fn rate_limited(&self, kind: RecordKind) {
        self.kinds[kind.index()].rate_limited.increment(1);
    }

    pub(super) fn unknown_type(&self, message_type: u8) {
        let known = match message_type {
            0 => 0,
            5 => 1,
            _ => 2,
        };
        self.unknown_type[known].increment(1);
    }

    pub(super) fn dropped(&self, reason: DropReason) {
        self.dropped[reason as usize].increment(1);
    }

    /// Counts a connection until what this returns is dropped, also by a panic.
    pub(super) fn connected(&self) -> Connected {
        self.connections.increment(1.0);
        Connected(self.connections.clone())
    }

    pub(super) fn ended(&self, end: SessionEnd) {
        self.ends[end as usize].increment(1);
    }
}

/// A connection in `num_connections`.
pub(super) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// One gauge per bound, so that a dashboard can draw usage against it.
fn state_bounds(bounds: &config::Session) {
    #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^52")]
    for (bound, value) in [
        ("message_bytes", bounds.max_message_bytes as f64),
        ("frame_bytes", bounds.max_frame_bytes as f64),
        ("fragments", bounds.max_fragments as f64),
        ("pings_per_second", f64::from(bounds.max_pings_per_second)),
        ("unsettled", bounds.max_unsettled.records as f64),
        ("unsettled_bytes", bounds.max_unsettled.bytes as f64),
        ("kept_bytes", bounds.max_kept_bytes as f64),
        ("unread_reply_bytes", bounds.max_unread_reply_bytes as f64),
        ("idle_timeout_seconds", bounds.idle_timeout.as_secs_f64()),
        ("ping_interval_seconds", bounds.ping_interval.as_secs_f64()),
        ("write_timeout_seconds", bounds.write_timeout.as_secs_f64()),
    ] {
        gauge!("limit", "bound" => bound).set(value);
    }
}
