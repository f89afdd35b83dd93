//! What a session does with a message: envelope, admission, payload, hand-off, reply.

use std::sync::Arc;

use tokio::time::Instant;

use super::websocket::{Outgoing, put_header};
use super::{Parked, Pipeline, SessionMetrics};
use crate::config::{InFlight, OverLimit, RateLimit};
use crate::dispatch::{Dispatcher, Outcome, Outlet, Settled};
use crate::envelope::{Envelope, EnvelopeError, reply};
use crate::logging;
use crate::permissions::{Filter, Permissions, Seen};
use crate::policy::{DropReason, RateLimiter, RejectReason, Verdict};
use crate::record::{Origin, Received, Record, RecordKind, transform};

/// A session's records between the socket and the dispatchers.
#[derive(Debug)]
pub struct Intake {
    origin: Arc<Origin>,
    /// Settled records come back here.
    outlet: Arc<Outlet>,
    /// Records handed off whose outcome decides about an ack and is not known yet.
    unsettled: InFlight,
    /// The record that a full dispatcher did not take; nothing is read until it is gone.
    parked: Option<Parked>,
    limiter: Option<(RateLimiter, OverLimit)>,
    /// Of the vehicle's grants.
    seen: Seen,
    bytes: Bytes,
}

/// Outgoing payload bytes so far, by record type.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bytes {
    pub(super) v: u64,
    pub(super) alerts: u64,
    pub(super) errors: u64,
    pub(super) other: u64,
}

impl Bytes {
    pub(super) fn total(self) -> u64 {
        self.v + self.alerts + self.errors + self.other
    }

    fn add(&mut self, kind: RecordKind, bytes: usize) {
        *match kind {
            RecordKind::V => &mut self.v,
            RecordKind::Alerts => &mut self.alerts,
            RecordKind::Errors => &mut self.errors,
            _ => &mut self.other,
        } += bytes as u64;
    }
}

/// The reply to a frame that no record can be made of.
enum Refusal<'a> {
    /// It is too long; nothing of it is looked at.
    TooLong,
    /// The envelope cannot be read.
    Unreadable(&'a dyn std::fmt::Display),
    /// The record cannot be accepted.
    Record { envelope: &'a Envelope<'a>, kind: RecordKind, error: &'a dyn std::fmt::Display },
}

/// A txid or topic in a log line is cut to this many bytes.
const MAX_LOGGED: usize = 64;

impl Intake {
    /// For one connection.
    #[must_use]
    pub fn new(origin: Arc<Origin>, rate_limit: Option<RateLimit>) -> Self {
        Self {
            origin,
            outlet: Arc::default(),
            unsettled: InFlight::default(),
            parked: None,
            limiter: rate_limit.map(|limit| (RateLimiter::new(limit), limit.over_limit)),
            seen: Seen::default(),
            bytes: Bytes::default(),
        }
    }

    pub(super) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Where this session's records come back to.
    #[must_use]
    pub fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// A bound on what one vehicle may have on its way is reached.
    pub(super) fn has_enough_in_flight(&self, limit: InFlight) -> bool {
        self.unsettled.records >= limit.records || self.unsettled.bytes >= limit.bytes
    }

    /// Nothing is on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.records == 0 && self.parked.is_none()
    }

    /// Memory of the record that waits for room.
    pub(super) fn parked_bytes(&self) -> usize {
        self.parked.as_ref().map_or(0, |(_, blocked)| blocked.record().held_bytes())
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// What settles from now on is a miss.
    pub(super) fn close(&mut self) {
        self.parked = None;
        self.outlet.close();
    }

    /// Until when nothing may be read because of the rate limit.
    pub(super) fn rate_limited_until(&self, now: Instant) -> Option<Instant> {
        match &self.limiter {
            Some((limiter, OverLimit::BackPressure)) => limiter.room(now).err(),
            _ => None,
        }
    }

    /// Handles one binary message. Everything that the vehicle is to be told at once goes to `replies`.
    pub fn message(&mut self, frame: &[u8], pipeline: &Pipeline, buffer: &mut Vec<u8>, replies: &mut Vec<u8>) {
        let received = Received::now();
        if frame.len() > pipeline.session.max_message_bytes {
            return self.refuse(&Refusal::TooLong, pipeline, replies);
        }
        let envelope = match Envelope::parse(frame) {
            Ok(envelope) => envelope,
            Err(error) => {
                if self.within_rate_limit(RecordKind::Other, received.at, &pipeline.metrics) {
                    self.no_record(error, pipeline, replies);
                }
                return;
            }
        };
        let kind = pipeline.topics.kind(envelope.topic);
        if self.within_rate_limit(kind, received.at, &pipeline.metrics) {
            self.record(&envelope, kind, received, pipeline, buffer, replies);
        }
    }

    /// Turns a settled record into an ack, or into nothing if it was lost.
    pub fn settled(&mut self, settled: &Settled, pipeline: &Pipeline, replies: &mut Vec<u8>) {
        let record = &settled.record;
        self.unsettled.records -= 1;
        self.unsettled.bytes -= record.held_bytes();
        if settled.outcome == Outcome::Delivered {
            pipeline.metrics.ack_seconds.record(record.received().at.elapsed().as_secs_f64());
            let topic = pipeline.topics.name(record.kind());
            self.ack(record.kind(), record.txid(), topic.as_bytes(), pipeline, replies);
        }
    }

    /// The dispatcher that has to make room before the session can go on.
    pub(super) fn blocked_at(&self, pipeline: &Pipeline) -> Option<Arc<dyn Dispatcher>> {
        let (kind, blocked) = self.parked.as_ref()?;
        pipeline.policy.route(*kind).map(|route| route.blocked_at(blocked))
    }

    /// Offers the parked record again.
    pub(super) fn resume(&mut self, pipeline: &Pipeline, replies: &mut Vec<u8>) {
        let Some((kind, blocked)) = self.parked.take() else { return };
        let route = pipeline.policy.route(kind).expect("a record is parked only on its way along a route");
        let record = blocked.record().clone();
        match route.resume(blocked, Some(&self.outlet)) {
            Ok(()) => self.handed_off(&record, route.acks_on_receipt(), pipeline, replies),
            Err(blocked) => self.parked = Some((kind, blocked)),
        }
    }

    fn record(
        &mut self,
        envelope: &Envelope<'_>,
        kind: RecordKind,
        received: Received,
        pipeline: &Pipeline,
        buffer: &mut Vec<u8>,
        replies: &mut Vec<u8>,
    ) {
        let route = match pipeline.policy.admit(kind, envelope, &self.origin.identity) {
            Verdict::Accept(route) => Ok(route),
            Verdict::AckAndDrop(reason) => Err(reason),
            Verdict::Reject(RejectReason::ForeignSender) => {
                return self.refuse_sender(envelope, kind, pipeline, replies);
            }
        };
        let vin = self.origin.identity.device_id();
        let filter = filter(&pipeline.permissions, &mut self.seen, vin, kind, envelope, received);
        let route = match route {
            Ok(_) if !kind.is_known() && !filter.allows_opaque() => Err(DropReason::Withheld),
            route => route,
        };
        buffer.clear();
        if let Err(error) = transform::rewrite(kind, envelope.payload, vin, &filter, buffer) {
            return self.refuse(&Refusal::Record { envelope, kind, error: &error }, pipeline, replies);
        }
        let route = match route {
            Ok(_) if kind == RecordKind::V && filter.skips(buffer) => Err(DropReason::Withheld),
            route => route,
        };
        let route = match route {
            Ok(route) => route,
            Err(reason) => return self.drop_acked(envelope, kind, reason, pipeline, replies),
        };
        let payload_len = buffer.len();
        buffer.extend_from_slice(envelope.txid);
        let record = Record::new(kind, buffer.as_slice().into(), payload_len, Arc::clone(&self.origin), received);
        if pipeline.json
            && let Err(error) = record.json()
        {
            return self.refuse(&Refusal::Record { envelope, kind, error }, pipeline, replies);
        }
        self.bytes.add(kind, payload_len);
        pipeline.metrics.record(kind, payload_len);
        match route.dispatch(&record, Some(&self.outlet)) {
            Ok(()) => self.handed_off(&record, route.acks_on_receipt(), pipeline, replies),
            Err(blocked) => {
                pipeline.metrics.dispatcher_waits.increment(1);
                self.parked = Some((kind, blocked));
            }
        }
    }

    fn handed_off(&mut self, record: &Record, ack_now: bool, pipeline: &Pipeline, replies: &mut Vec<u8>) {
        pipeline.metrics.hand_off_seconds.record(record.received().at.elapsed().as_secs_f64());
        if ack_now {
            let topic = pipeline.topics.name(record.kind());
            self.ack(record.kind(), record.txid(), topic.as_bytes(), pipeline, replies);
        } else {
            self.unsettled.records += 1;
            self.unsettled.bytes += record.held_bytes();
        }
    }

    /// The vehicle must not send it again, though nobody wants it.
    fn drop_acked(
        &self,
        envelope: &Envelope<'_>,
        kind: RecordKind,
        reason: DropReason,
        pipeline: &Pipeline,
        replies: &mut Vec<u8>,
    ) {
        pipeline.metrics.record(kind, envelope.payload.len());
        pipeline.metrics.dropped(reason);
        self.ack(kind, envelope.txid, envelope.topic, pipeline, replies);
    }

    /// A frame without a stream message in it.
    fn no_record(&self, error: EnvelopeError<'_>, pipeline: &Pipeline, replies: &mut Vec<u8>) {
        let (txid, message_type) = match error {
            EnvelopeError::Unreadable => return self.refuse(&Refusal::Unreadable(&error), pipeline, replies),
            EnvelopeError::NoMessage => (&b""[..], 0),
            EnvelopeError::UnknownType { txid, message_type } => (txid, message_type),
        };
        pipeline.metrics.unknown_type(message_type);
        if let Some(skipped) = pipeline.refusals.permit() {
            tracing::error!(
                device_id = self.origin.identity.device_id(),
                msg_txid = loggable(txid, pipeline),
                msg_type = message_type,
                skipped,
                "unknown_message_type_error"
            );
        }
        self.ack(RecordKind::Other, txid, b"", pipeline, replies);
    }

    fn refuse_sender(&self, envelope: &Envelope<'_>, kind: RecordKind, pipeline: &Pipeline, replies: &mut Vec<u8>) {
        pipeline.metrics.foreign_sender.increment(1);
        let sender = loggable(envelope.sender_id, pipeline);
        let error = format!("message SenderID: {sender} do not match vehicleID: {}", self.origin.identity.sender_id());
        self.refuse(&Refusal::Record { envelope, kind, error: &error }, pipeline, replies);
    }

    fn refuse(&self, refusal: &Refusal<'_>, pipeline: &Pipeline, replies: &mut Vec<u8>) {
        let too_long = format_args!("can't process message, size above {} bytes", pipeline.session.max_message_bytes);
        let (txid, topic, kind, error): (_, _, _, &dyn std::fmt::Display) = match refusal {
            Refusal::TooLong => {
                pipeline.metrics.too_big.increment(1);
                (&b""[..], &b""[..], RecordKind::Other, &too_long)
            }
            Refusal::Unreadable(error) => (&b""[..], &b""[..], RecordKind::Other, error),
            Refusal::Record { envelope, kind, error } => (envelope.txid, envelope.topic, *kind, error),
        };
        pipeline.metrics.error_response(kind);
        if let Some(skipped) = pipeline.refusals.permit() {
            tracing::error!(
                txid = loggable(txid, pipeline),
                record_type = loggable(topic, pipeline),
                device_id = self.origin.identity.device_id(),
                %error,
                skipped,
                "unexpected_record"
            );
        }
        put_header(replies, Outgoing::Binary, reply::error_len(txid.len()));
        reply::error(replies, txid);
    }

    fn ack(&self, kind: RecordKind, txid: &[u8], topic: &[u8], pipeline: &Pipeline, replies: &mut Vec<u8>) {
        pipeline.metrics.ack(kind);
        put_header(replies, Outgoing::Binary, reply::ack_len(txid.len(), topic.len()));
        reply::ack(replies, txid, topic);
    }

    /// Counts a message; false when it is over the limit and to be dropped.
    fn within_rate_limit(&mut self, kind: RecordKind, now: Instant, metrics: &SessionMetrics) -> bool {
        let Some((limiter, over_limit)) = &mut self.limiter else { return true };
        if limiter.accept(now).is_ok() {
            return true;
        }
        metrics.rate_limited(kind);
        // With back-pressure the message was read because the window had room a moment ago.
        *over_limit == OverLimit::BackPressure
    }
}

/// What a vehicle put into an envelope, for a log line.
fn loggable(text: &[u8], pipeline: &Pipeline) -> String {
    pipeline.permissions.label(logging::escape(text, MAX_LOGGED))
}

/// What the owner has not allowed, by the grants in force at this moment.
fn filter<'a>(
    permissions: &'a Permissions,
    seen: &mut Seen,
    vin: &str,
    kind: RecordKind,
    envelope: &Envelope<'_>,
    received: Received,
) -> Filter<'a> {
    let created_ms = || {
        if kind.is_known() {
            transform::created_ms(kind, envelope.payload)
        } else {
            Some(i64::from(envelope.created_at) * 1000).filter(|created| *created > 0)
        }
    };
    permissions.filter(seen, vin, created_ms, received.epoch_ms)
}
