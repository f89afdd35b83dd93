//! A new producer in place of one that cannot go on (`docs/adr/0018-replacing-a-producer.md`).
//!
//! ```text
//! slot emptied ─▶ no session holds the old one ─▶ old one purged: all it held comes back ─▶ new one made
//!                                                                                              │
//! slot filled ◀── nothing left ◀── what came back is sent, in the order of the hand-over ◀─────┘
//! ```
//!
//! While the slot is empty, sessions find no room and wait, so nothing overtakes what came back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use metrics::{Counter, counter};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::producer::Producer as _;

use super::Producer;
use super::context::Context;
use super::poller::POLL;
use super::resend::{Sent, Unsettled};
use super::shared::Shared;
use crate::kafka;
use crate::kafka::pauses::Pauses;

/// Where sessions find the producer; empty while it is being replaced.
pub(super) type Slot = Arc<ArcSwapOption<Producer>>;

/// A new producer must have room for what came back within this time, or the next one tries.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(30);

/// Why a producer is replaced.
pub(super) enum Cause {
    /// It said so.
    Fatal(String),
    /// It reaches no broker, and a fresh client does.
    Stuck,
}

impl Cause {
    fn reason(&self) -> &str {
        match self {
            Self::Fatal(reason) => reason,
            Self::Stuck => "it reaches no broker, and a fresh client does",
        }
    }
}

/// Makes producers.
pub(super) struct Replacement {
    client: ClientConfig,
    pauses: Pauses,
    made: Instant,
    fatal: Counter,
    stuck: Counter,
    returned: Counter,
}

/// A producer whose callbacks go to `shared`.
pub(super) fn produce(client: &ClientConfig, shared: &Arc<Shared>) -> KafkaResult<Producer> {
    client.create_with_context(Context(Arc::clone(shared)))
}

impl Replacement {
    pub(super) fn new(client: ClientConfig) -> Self {
        let replaced = |reason: &'static str| counter!("kafka_producer_replaced_total", "reason" => reason);
        Self {
            client,
            pauses: Pauses::new(),
            made: Instant::now(),
            fatal: replaced("fatal"),
            stuck: replaced("stuck"),
            returned: counter!("kafka_returned_total"),
        }
    }

    /// Whether the pause since the last one is over.
    pub(super) fn may_start(&self) -> bool {
        self.pauses.is_over(Instant::now())
    }

    /// Whether producers follow each other without any delivery.
    pub(super) fn is_repeated(&self) -> bool {
        self.pauses.is_repeated()
    }

    /// Of the producer at hand.
    pub(super) fn age(&self) -> Duration {
        self.made.elapsed()
    }

    /// The records that the old one held keep their receipts and are sent by the new one.
    pub(super) fn replace(&mut self, slot: &Slot, shared: &Arc<Shared>, cause: &Cause) {
        let reason = cause.reason();
        self.pauses.step(Instant::now(), shared.counts().delivered);
        // Dropped at the end: that may take a while, and sessions wait.
        let old = slot.swap(None).map(alone);
        if let Some(old) = &old {
            kafka::purge(old);
        }
        let fresh = match produce(&self.client, shared) {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::error!(reason, %error, "kafka_producer_not_replaced");
                return;
            }
        };
        self.made = Instant::now();
        let records = self.hand_over(&fresh, shared);
        if shared.returned.is_empty() || fresh.client().fatal_error().is_some() {
            slot.store(Some(Arc::new(fresh)));
            shared.outbox.wake();
        } else {
            // Newer records would overtake what it had no room for.
            kafka::purge(&fresh);
        }
        match cause {
            Cause::Fatal(_) => self.fatal.increment(1),
            Cause::Stuck => self.stuck.increment(1),
        }
        tracing::error!(reason, records, "kafka_producer_replaced");
    }

    /// Sends what came back, in the order in which sessions had handed it over; how many records that were.
    fn hand_over(&self, fresh: &Producer, shared: &Shared) -> u64 {
        let deadline = Instant::now() + HAND_OVER_WITHIN;
        let mut records = 0;
        let mut left = in_order(shared);
        while let Some(unsettled) = left.pop_front() {
            match unsettled.send(fresh) {
                Sent::Taken => records += 1,
                Sent::NotNow(unsettled) => {
                    left.push_front(unsettled);
                    let deadline = shared.deadline().map_or(deadline, |closing| closing.min(deadline));
                    if fresh.client().fatal_error().is_some() || Instant::now() >= deadline {
                        break;
                    }
                    fresh.poll(POLL);
                }
                Sent::Never(unsettled, error) => {
                    unsettled.refused(&error);
                }
            }
        }
        // The next producer gets them; this one is not used.
        left.into_iter().for_each(|unsettled| shared.returned.keep(unsettled));
        self.returned.increment(records);
        records
    }
}

/// The hand-overs of one session, and so of a vehicle, have the order of its records.
fn in_order(shared: &Shared) -> VecDeque<Unsettled> {
    let mut all = shared.returned.take();
    all.extend(shared.unconfirmed.take());
    all.sort_by_key(|unsettled| unsettled.receipt.handed_at());
    all.into()
}

/// The old producer, once no session uses it any more, which takes microseconds. Sessions must not be the last to
/// hold one either: dropping it blocks.
fn alone(producer: Arc<Producer>) -> Producer {
    let mut held = producer;
    loop {
        match Arc::try_unwrap(held) {
            Ok(producer) => return producer,
            Err(still_held) => held = still_held,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
