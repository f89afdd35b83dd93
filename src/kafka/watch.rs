//! Whether the producer has lost Kafka while others reach it.
//!
//! librdkafka can: a broker that its controller has fenced (a pause, a partition of the network) answers for a moment
//! that there are no brokers. The client then forgets all that it knows, and the flag that says "the bootstrap
//! servers are being asked again" can stay set when nobody asks them. No connection is tried any more, no error is
//! fatal, and records wait for ever (confluentinc/librdkafka#5301). `docs/adr/0018-replacing-a-producer.md`.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;

use super::client;
use super::probe::{self, Obstacle};

/// Between two looks at a producer that may be stuck.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a look may wait. No reports are drained meanwhile, but there are none.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Without an outcome for so long, records that wait are a reason to look.
const SILENCE: Duration = Duration::from_secs(3);
/// A fresh client on a busy machine, over TLS.
const FRESH_WITHIN: Duration = Duration::from_secs(5);
/// What a producer gets beyond its own pause between two attempts to connect, once Kafka is known to be there.
const GRACE: Duration = Duration::from_secs(2);

/// Of one producer after the other.
pub(crate) struct Watch {
    client: ClientConfig,
    idempotent: bool,
    grace: Duration,
    look_at: Instant,
    /// When the count of outcomes last changed, or nothing was waiting.
    outcomes: u64,
    outcome_at: Instant,
    fresh: Option<JoinHandle<Result<(), Obstacle>>>,
    /// When a fresh client first reached Kafka and the producer did not.
    reachable: Option<Instant>,
}

/// What the poller knows of its producer.
#[derive(Clone, Copy)]
pub(crate) struct Signs {
    /// librdkafka says that all brokers are down.
    pub(crate) down: bool,
    /// Records that have settled so far.
    pub(crate) outcomes: u64,
    /// Whether any wait.
    pub(crate) waiting: bool,
}

/// What a look at the producer showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Nothing was wrong, or it was not yet time to look.
    Nothing,
    /// It reaches a broker.
    Answered,
    /// A fresh client reaches Kafka, and it does not, for long enough.
    Stuck,
}

impl Watch {
    /// Of a producer that is made from `client`, and asks for an id if it is to be `idempotent`.
    pub(crate) fn new(client: &ClientConfig, idempotent: bool) -> Self {
        let now = Instant::now();
        Self {
            client: client.clone(),
            idempotent,
            grace: GRACE + client::reconnect_backoff(client),
            look_at: now,
            outcomes: 0,
            outcome_at: now,
            fresh: None,
            reachable: None,
        }
    }

    /// Looks at the producer when there is a reason to; `answers` asks it for a broker's answer within a time.
    pub(crate) fn look(&mut self, signs: Signs, answers: impl FnOnce(Duration) -> bool) -> Sight {
        let now = Instant::now();
        if signs.outcomes != self.outcomes || !signs.waiting {
            (self.outcomes, self.outcome_at) = (signs.outcomes, now);
        }
        if !signs.down && now.duration_since(self.outcome_at) < SILENCE {
            self.forget();
            return Sight::Nothing;
        }
        if now < self.look_at {
            return Sight::Nothing;
        }
        let answered = answers(ANSWER_WITHIN);
        self.look_at = Instant::now() + LOOK_EVERY;
        if answered {
            self.forget();
            // It is not the client: silence starts anew.
            self.outcome_at = Instant::now();
            return Sight::Answered;
        }
        self.ask_fresh();
        match self.reachable {
            Some(since) if since.elapsed() >= self.grace => {
                self.forget();
                Sight::Stuck
            }
            _ => Sight::Nothing,
        }
    }

    /// In a thread of its own: it may take seconds.
    fn ask_fresh(&mut self) {
        if self.reachable.is_some() {
            return;
        }
        let Some(fresh) = self.fresh.take() else {
            let (client, idempotent) = (self.client.clone(), self.idempotent);
            let thread = std::thread::Builder::new().name("kafka-probe".to_owned());
            self.fresh = thread.spawn(move || probe::reach(&client, idempotent, FRESH_WITHIN)).ok();
            return;
        };
        if !fresh.is_finished() {
            self.fresh = Some(fresh);
        } else if matches!(fresh.join(), Ok(Ok(()))) {
            self.reachable = Some(Instant::now());
        }
    }

    fn forget(&mut self) {
        // A thread that still asks ends by itself.
        (self.fresh, self.reachable) = (None, None);
    }
}
