//! What a session does with a message: envelope, admission, payload, hand-off, reply.

use std::sync::Arc;

use tokio::time::Instant;

use super::websocket::{Outgoing, put_header};
use super::{Parked, Pipeline, SessionMetrics};
use crate::config::{InFlight, OverLimit, RateLimit};
use crate::dispatch::{Dispatcher, Outcome, Outlet, Route, Settled};
use crate::envelope::{Envelope, EnvelopeError, reply};
use crate::escape::escape;
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
    /// Boxed, since most servers limit no rates.
    limiter: Option<Box<(RateLimiter, OverLimit)>>,
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

/// What a session lends its intake for one message or one settled record.
#[derive(Debug)]
pub struct Turn<'a> {
    /// What all sessions share.
    pub pipeline: &'a Pipeline,
    /// For the record being made.
    pub buffer: &'a mut Vec<u8>,
    /// What the vehicle is to be told, as WebSocket frames.
    pub replies: &'a mut Vec<u8>,
}

/// A stream message on its way to a record.
struct Message<'a> {
    envelope: Envelope<'a>,
    kind: RecordKind,
    received: Received,
}

/// Where a record goes, or why it is acked and goes nowhere.
type Admitted<'a> = Result<&'a Route, DropReason>;

/// The reply to a frame that no record can be made of.
enum Refusal<'a> {
    /// It is too long; nothing of it is looked at.
    TooLong,
    /// The envelope cannot be read.
    Unreadable(&'a dyn std::fmt::Display),
    /// The record cannot be accepted.
    Record { message: &'a Message<'a>, error: &'a dyn std::fmt::Display },
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
            limiter: rate_limit.map(|limit| Box::new((RateLimiter::new(limit), limit.over_limit))),
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
        match self.limiter.as_deref() {
            Some((limiter, OverLimit::BackPressure)) => limiter.room(now).err(),
            _ => None,
        }
    }

    /// Handles one binary message. Everything that the vehicle is to be told at once goes to the replies.
    pub fn message(&mut self, frame: &[u8], turn: &mut Turn<'_>) {
        let received = Received::now();
        let pipeline = turn.pipeline;
        if frame.len() > pipeline.session.max_message_bytes {
            return self.refuse(&Refusal::TooLong, turn);
        }
        match Envelope::parse(frame) {
            Ok(envelope) => {
                let kind = pipeline.topics.kind(envelope.topic);
                if self.within_rate_limit(kind, received.at, &pipeline.metrics) {
                    self.record(&Message { envelope, kind, received }, turn);
                }
            }
            Err(error) => {
                if self.within_rate_limit(RecordKind::Other, received.at, &pipeline.metrics) {
                    self.no_record(error, turn);
                }
            }
        }
    }

    /// Turns a settled record into an ack, or into nothing if it was lost.
    pub fn settled(&mut self, settled: &Settled, turn: &mut Turn<'_>) {
        let record = &settled.record;
        self.unsettled.records -= 1;
        self.unsettled.bytes -= record.held_bytes();
        if settled.outcome == Outcome::Delivered {
            turn.pipeline.metrics.ack_seconds.record(record.received().at.elapsed().as_secs_f64());
            ack_record(record, turn);
        }
    }

    /// The dispatcher that has to make room before the session can go on.
    pub(super) fn blocked_at(&self, pipeline: &Pipeline) -> Option<Arc<dyn Dispatcher>> {
        let (kind, blocked) = self.parked.as_ref()?;
        pipeline.policy.route(*kind).map(|route| route.blocked_at(blocked))
    }

    /// Offers the parked record again.
    pub(super) fn resume(&mut self, turn: &mut Turn<'_>) {
        let Some((kind, blocked)) = self.parked.take() else { return };
        let route = turn.pipeline.policy.route(kind).expect("a record is parked only on its way along a route");
        let record = blocked.record().clone();
        match route.resume(blocked, Some(&self.outlet)) {
            Ok(()) => self.handed_off(&record, route, turn),
            Err(blocked) => self.parked = Some((kind, blocked)),
        }
    }

    /// Admission, payload, hand-off.
    fn record(&mut self, message: &Message<'_>, turn: &mut Turn<'_>) {
        let admitted = match turn.pipeline.policy.admit(message.kind, &message.envelope, &self.origin.identity) {
            Verdict::Accept(route) => Ok(route),
            Verdict::AckAndDrop(reason) => Err(reason),
            Verdict::Reject(RejectReason::ForeignSender) => return self.refuse_sender(message, turn),
        };
        match self.rewrite(message, admitted, turn) {
            Ok(Ok(route)) => self.hand_off(message, route, turn),
            Ok(Err(reason)) => drop_acked(message, reason, turn),
            Err(error) => self.refuse(&Refusal::Record { message, error: &error }, turn),
        }
    }

    /// Writes the outgoing payload, without what the owner has not allowed, into the buffer. If that is nothing, the
    /// record goes nowhere.
    ///
    /// A record that goes nowhere is checked all the same: whether a broken one is answered with an error must not
    /// depend on routes or consent (`docs/adr/0009-senders-and-connectivity.md`).
    fn rewrite<'p>(
        &mut self,
        message: &Message<'_>,
        admitted: Admitted<'p>,
        turn: &mut Turn<'_>,
    ) -> Result<Admitted<'p>, transform::PayloadError> {
        let Message { envelope, kind, .. } = message;
        let vin = self.origin.identity.device_id();
        let filter = filter(&turn.pipeline.permissions, &mut self.seen, vin, message);
        let withheld = |is_withheld: bool, route| if is_withheld { Err(DropReason::Withheld) } else { Ok(route) };
        let admitted = admitted.and_then(|route| withheld(!kind.is_known() && !filter.allows_opaque(), route));
        turn.buffer.clear();
        transform::rewrite(*kind, envelope.payload, vin, &filter, turn.buffer)?;
        Ok(admitted.and_then(|route| withheld(*kind == RecordKind::V && filter.skips(turn.buffer), route)))
    }

    /// Makes a record of the buffer and gives it to the dispatchers.
    fn hand_off(&mut self, message: &Message<'_>, route: &Route, turn: &mut Turn<'_>) {
        let payload_len = turn.buffer.len();
        turn.buffer.extend_from_slice(message.envelope.txid);
        let (bytes, origin) = (turn.buffer.as_slice().into(), Arc::clone(&self.origin));
        let record = Record::new(message.kind, bytes, payload_len, origin, message.received);
        if route.needs_json()
            && let Err(error) = record.json()
        {
            return self.refuse(&Refusal::Record { message, error }, turn);
        }
        self.bytes.add(message.kind, payload_len);
        turn.pipeline.metrics.record(message.kind, payload_len);
        match route.dispatch(&record, Some(&self.outlet)) {
            Ok(()) => self.handed_off(&record, route, turn),
            Err(blocked) => {
                turn.pipeline.metrics.dispatcher_waits.increment(1);
                self.parked = Some((message.kind, blocked));
            }
        }
    }

    fn handed_off(&mut self, record: &Record, route: &Route, turn: &mut Turn<'_>) {
        turn.pipeline.metrics.hand_off_seconds.record(record.received().at.elapsed().as_secs_f64());
        if route.acks_on_receipt() {
            ack_record(record, turn);
        } else {
            self.unsettled.records += 1;
            self.unsettled.bytes += record.held_bytes();
        }
    }

    /// A frame without a stream message in it.
    fn no_record(&self, error: EnvelopeError<'_>, turn: &mut Turn<'_>) {
        let pipeline = turn.pipeline;
        let (txid, message_type) = match error {
            EnvelopeError::Unreadable => return self.refuse(&Refusal::Unreadable(&error), turn),
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
        ack(RecordKind::Other, txid, b"", turn);
    }

    fn refuse_sender(&self, message: &Message<'_>, turn: &mut Turn<'_>) {
        turn.pipeline.metrics.foreign_sender.increment(1);
        let sender = loggable(message.envelope.sender_id, turn.pipeline);
        let error = format!("message SenderID: {sender} do not match vehicleID: {}", self.origin.identity.sender_id());
        self.refuse(&Refusal::Record { message, error: &error }, turn);
    }

    fn refuse(&self, refusal: &Refusal<'_>, turn: &mut Turn<'_>) {
        let pipeline = turn.pipeline;
        let too_long = format_args!("can't process message, size above {} bytes", pipeline.session.max_message_bytes);
        let (txid, topic, kind, error): (_, _, _, &dyn std::fmt::Display) = match refusal {
            Refusal::TooLong => {
                pipeline.metrics.too_big.increment(1);
                (&b""[..], &b""[..], RecordKind::Other, &too_long)
            }
            Refusal::Unreadable(error) => (&b""[..], &b""[..], RecordKind::Other, error),
            Refusal::Record { message, error } => (message.envelope.txid, message.envelope.topic, message.kind, error),
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
        put_header(turn.replies, Outgoing::Binary, reply::error_len(txid.len()));
        reply::error(turn.replies, txid);
    }

    /// Counts a message; false when it is over the limit and to be dropped.
    fn within_rate_limit(&mut self, kind: RecordKind, now: Instant, metrics: &SessionMetrics) -> bool {
        let Some((limiter, over_limit)) = self.limiter.as_deref_mut() else { return true };
        if limiter.accept(now).is_ok() {
            return true;
        }
        metrics.rate_limited(kind);
        // With back-pressure the message was read because the window had room a moment ago.
        *over_limit == OverLimit::BackPressure
    }
}

/// The vehicle must not send it again, though nobody wants it.
fn drop_acked(message: &Message<'_>, reason: DropReason, turn: &mut Turn<'_>) {
    let envelope = &message.envelope;
    turn.pipeline.metrics.record(message.kind, envelope.payload.len());
    turn.pipeline.metrics.dropped(reason);
    ack(message.kind, envelope.txid, envelope.topic, turn);
}

fn ack_record(record: &Record, turn: &mut Turn<'_>) {
    let topic = turn.pipeline.topics.name(record.kind());
    ack(record.kind(), record.txid(), topic.as_bytes(), turn);
}

fn ack(kind: RecordKind, txid: &[u8], topic: &[u8], turn: &mut Turn<'_>) {
    turn.pipeline.metrics.ack(kind);
    put_header(turn.replies, Outgoing::Binary, reply::ack_len(txid.len(), topic.len()));
    reply::ack(turn.replies, txid, topic);
}

/// What a vehicle put into an envelope, for a log line.
fn loggable(text: &[u8], pipeline: &Pipeline) -> String {
    pipeline.permissions.label(escape(text, MAX_LOGGED))
}

/// What the owner has not allowed, by the grants in force at this moment.
fn filter<'a>(permissions: &'a Permissions, seen: &mut Seen, vin: &str, message: &Message<'_>) -> Filter<'a> {
    let Message { envelope, kind, received } = message;
    let created_ms = || {
        if kind.is_known() {
            transform::created_ms(*kind, envelope.payload)
        } else {
            Some(i64::from(envelope.created_at) * 1000).filter(|created| *created > 0)
        }
    };
    permissions.filter(seen, vin, created_ms, received.epoch_ms)
}
