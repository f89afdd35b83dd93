//! A compacted Kafka topic: many instances share their grants.
//!
//! ```text
//! change ─▶ read to the end ─▶ decide ─▶ produce, acks=all ─▶ in force here ─▶ answer
//!                                              │
//!            topic, key = VIN|scope  ◀─────────┘──▶ every instance's reader ─▶ in force there
//! ```
//!
//! Every instance reads the whole topic before it opens, and follows it from then on. The log's order decides: of
//! two changes of one entry the later one counts, everywhere.
//!
//! An expected version is checked against the log as it was when the change began. Two instances that change the
//! same entry within the same few milliseconds can therefore both succeed; the later one in the log counts, both
//! have the same version, and every reader logs `permission_changed_twice_at_once`. Changes through one instance
//! never race.
//!
//! A change that is not confirmed in time is reported as failed although a broker may have it; if it does, it comes
//! into force as soon as it is read back. Making it again is safe.

mod clients;
mod log;
mod topic;
mod value;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use self::clients::{Clients, Writer};
use self::log::Log;
use self::topic::{CONFIRM_WITHIN, Reader};
use super::error::{OpenError, StoreError};
use crate::config;
use crate::grants::change::{self, Change, Entry, ImportError, Planned};
use crate::grants::clock::now_ms;
use crate::grants::ledger::Ledger;
use crate::kafka::blame;

/// The store.
pub(in crate::grants) struct Kafka {
    log: Arc<Log>,
    clients: Clients,
    /// One change at a time: each is decided by the outcome of the one before.
    writing: tokio::sync::Mutex<()>,
}

/// The reader waits so long for a message before it looks at other things.
const POLL: Duration = Duration::from_millis(100);
/// Between two questions for the end of the log, which also tell whether the brokers are there.
const ASK: Duration = Duration::from_millis(500);
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Without an answer for so long, a fresh client is asked beside the one at hand.
const DOUBT_AFTER: Duration = Duration::from_secs(5);

impl Kafka {
    /// Makes the topic if need be, reads it to its end, and starts following it.
    pub(super) async fn open(topic: &str, kafka: &config::Kafka, ledger: Arc<Ledger>) -> Result<Arc<Self>, OpenError> {
        let wrong = |error: KafkaError| OpenError::Misconfigured(format!("kafka {}", blame(&error)));
        let clients = Clients::new(kafka).map_err(wrong)?;
        let consumer = clients.reader();
        let partitions = topic::prepare(topic, kafka, Arc::clone(&consumer)).await?;
        let log = Arc::new(Log::new(topic, partitions, ledger));
        let patience = kafka.connect_timeout;
        {
            let (log, consumer) = (Arc::clone(&log), Arc::clone(&consumer));
            let loaded = tokio::task::spawn_blocking(move || load(&log, &consumer, patience)).await;
            let problem = loaded.unwrap_or_else(|_| Err("the reading was cut short".to_owned()));
            problem.map_err(|problem| OpenError::Unavailable(format!("topic {topic}: {problem}")))?;
        }
        let store = Arc::new(Self { log, clients, writing: tokio::sync::Mutex::new(()) });
        let followed = Arc::downgrade(&store);
        std::thread::Builder::new()
            .name("permissions".to_owned())
            .spawn(move || follow(&followed))
            .map_err(|error| OpenError::Unavailable(format!("cannot start its thread: {error}")))?;
        Ok(store)
    }

    pub(super) fn topic(&self) -> &str {
        &self.log.topic
    }

    pub(super) fn history(&self, vin: &str, limit: usize) -> Vec<Entry> {
        self.log.history(vin, limit)
    }

    /// Those that are confirmed are in force when this returns, also if others fail.
    pub(super) async fn commit(&self, changes: &[Change]) -> Result<Vec<Planned>, ImportError> {
        let _one_at_a_time = self.writing.lock().await;
        self.read_to_the_end().await.map_err(ImportError::of_store)?;
        let grants = self.log.ledger().grants();
        let planned = change::plan(changes, now_ms(), |vin, scope| Ok(grants.get(vin, scope).cloned()))?;
        let producer = self.clients.writer().map_err(|error| ImportError::of_store(self.failure(blame(&error))))?;
        // Many at a time, but not more than the client's queue has room for.
        for batch in planned.chunks(1000) {
            self.write(&producer, batch).await.map_err(ImportError::of_store)?;
        }
        Ok(planned)
    }

    async fn write(&self, producer: &Writer, planned: &[Planned]) -> Result<(), StoreError> {
        let sent: Vec<_> =
            planned.iter().filter(|plan| plan.changed).map(|plan| (plan, self.send(producer, plan))).collect();
        let mut outcome = Ok(());
        for (plan, confirmation) in sent {
            match confirmation.await.unwrap_or_else(|_| Err("the client was closed".to_owned())) {
                Ok((partition, offset)) => self.log.written(plan, partition, offset),
                Err(problem) => {
                    self.clients.doubt_writer();
                    outcome = Err(self.failure(format!("a change was not confirmed: {problem}")));
                }
            }
        }
        outcome
    }

    fn send(&self, producer: &Writer, plan: &Planned) -> oneshot::Receiver<Result<(i32, i64), String>> {
        let (confirmation, receiver) = oneshot::channel();
        let (key, value) = (value::key(&plan.vin, plan.entry.scope), value::value(&plan.vin, &plan.entry));
        let record = BaseRecord::with_opaque_to(&self.log.topic, Box::new(confirmation)).key(&key).payload(&value);
        if let Err((error, record)) = producer.send(record) {
            // The receiver is at hand, so this arrives.
            let _ = record.delivery_opaque.send(Err(error.to_string()));
        }
        receiver
    }

    async fn read_to_the_end(&self) -> Result<(), StoreError> {
        let (log, consumer) = (Arc::clone(&self.log), self.clients.reader());
        let ends = tokio::task::spawn_blocking(move || ends(&log, &consumer)).await.map_err(|_| StoreError::Ended)?;
        let ends = ends.map_err(|error| self.failure(error.to_string()))?;
        if self.log.is_cut_off(&ends) {
            return Err(self.failure(CUT_OFF.to_owned()));
        }
        if self.log.reaches(&ends, CONFIRM_WITHIN).await {
            return Ok(());
        }
        Err(self.failure(format!("cannot be read to its end within {CONFIRM_WITHIN:?}")))
    }

    /// A reader can lose Kafka for good, as the dispatcher's producer can (`docs/adr/0018-replacing-a-producer.md`):
    /// when a fresh one gets an answer that it does not, the fresh one reads on.
    fn replace_reader(&self) {
        let Ok(fresh) = self.clients.fresh_reader() else { return };
        if ends(&self.log, &fresh).is_err() {
            return;
        }
        let next: Vec<_> = self.log.next().into_iter().map(Offset::Offset).collect();
        match assign(&self.log, &fresh, &next) {
            Ok(()) => {
                self.clients.replace_reader(fresh);
                // It has heard the same answers.
                self.clients.doubt_writer();
            }
            Err(error) => tracing::error!(%error, topic = %self.log.topic, "permission_reader_not_replaced"),
        }
    }

    fn failure(&self, problem: String) -> StoreError {
        StoreError::Kafka { topic: self.log.topic.to_string(), problem }
    }
}

/// Offsets after the last messages.
fn ends(log: &Log, consumer: &Reader) -> Result<Vec<i64>, KafkaError> {
    let end = |at| Ok(consumer.fetch_watermarks(&log.topic, partition(at), ANSWER_WITHIN)?.1);
    (0..log.next().len()).map(end).collect()
}

fn partition(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

/// Reads from the beginning to where the log ends now. Gives up when nothing comes for `patience`. Blocks.
fn load(log: &Log, consumer: &Reader, patience: Duration) -> Result<(), String> {
    let ends = ends(log, consumer).map_err(|error| error.to_string())?;
    assign(log, consumer, &vec![Offset::Beginning; ends.len()]).map_err(|error| error.to_string())?;
    let mut heard = Instant::now();
    while log.next().iter().zip(&ends).any(|(next, end)| next < end) {
        match consumer.poll(POLL) {
            Some(Ok(message)) => log.take(&message),
            // The end as the broker saw it after `ends`: whatever is missing before was compacted away.
            Some(Err(KafkaError::PartitionEOF(at))) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                log.advance(at, ends.get(at).copied().unwrap_or_default());
            }
            Some(Err(error)) if heard.elapsed() >= patience => return Err(error.to_string()),
            None if heard.elapsed() >= patience => return Err(format!("nothing could be read for {patience:?}")),
            Some(Err(_)) | None => continue,
        }
        heard = Instant::now();
    }
    log.loaded();
    Ok(())
}

/// Reads on from `offsets`, one for each partition.
fn assign(log: &Log, consumer: &Reader, offsets: &[Offset]) -> Result<(), KafkaError> {
    let mut assignment = TopicPartitionList::new();
    for (at, offset) in offsets.iter().enumerate() {
        assignment.add_partition_offset(&log.topic, partition(at), *offset)?;
    }
    consumer.assign(&assignment)
}

fn follow(store: &Weak<Kafka>) {
    let (mut asked, mut answered) = (Instant::now(), Instant::now());
    while let Some(store) = store.upgrade() {
        let (log, consumer) = (&store.log, store.clients.reader());
        match consumer.poll(POLL) {
            Some(Ok(message)) => log.take(&message),
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => tracing::debug!(%error, topic = %log.topic, "permission_topic_error"),
        }
        if asked.elapsed() >= ASK {
            asked = Instant::now();
            let ends = ends(log, &consumer);
            if ends.is_ok() {
                answered = Instant::now();
            } else if answered.elapsed() >= DOUBT_AFTER {
                answered = Instant::now();
                store.replace_reader();
            }
            judge(log, ends);
        }
    }
}

/// Whether what is known is what the log says.
fn judge(log: &Log, ends: Result<Vec<i64>, KafkaError>) {
    match ends {
        Err(error) => log.ledger().trouble(format!("topic {}: {error}", log.topic)),
        Ok(ends) if log.is_cut_off(&ends) => log.ledger().trouble(format!("topic {}: {CUT_OFF}", log.topic)),
        Ok(ends) if log.next() == ends => log.ledger().confirm(),
        // Behind. That is no trouble yet; if it goes on, the ledger notices the silence.
        Ok(_) => {}
    }
}

/// It was made anew, or a broker has lost its end. What it says now may lack refusals, so it is not followed.
const CUT_OFF: &str = "it has become shorter than it was; restart the server once it is whole";
