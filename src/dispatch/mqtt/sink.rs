//! What becomes of a batch: over one connection, until the broker has confirmed each of its messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use metrics::{Counter, counter};

use super::connection::{Broker, Connection, Lost};
use super::consent::Consent;
use super::discovery::Discovery;
use super::exchange::{Exchange, Ids};
use super::messages::{Message, field_topic, messages, vehicle};
use super::packet::{self, Answer, Connect};
use super::vehicles::Vehicles;
use crate::config::{self, Secret};
use crate::dispatch::batching::{Fate, Sink};
use crate::record::{Decoded, Record, RecordKind, Topics};

/// Owns the connection.
pub(super) struct Publisher {
    config: config::Mqtt,
    broker: Broker,
    client_id: String,
    connection: Option<Connection>,
    ids: Ids,
    /// The last batch, as far as it has to be sent again.
    unfinished: Option<Unfinished>,
    /// What an earlier process left in a session at the broker would mistake our packet ids for its own.
    must_clean: bool,
    /// So many connections in a row ended at the first record of the batch: is it the record?
    strikes: u32,
    consent: Consent,
    discovery: Option<Discovery>,
    vehicles: Vehicles,
    counted: Counted,
}

/// A batch under way.
struct Unfinished {
    records: Vec<Record>,
    exchange: Exchange,
    /// Records that cannot be sent.
    refused: Vec<Option<String>>,
    /// By which grants it was made.
    generation: u64,
}

/// Why messages were not sent.
struct Failure {
    reason: String,
    /// The broker ended a new connection at the first of them.
    is_suspect: bool,
}

/// MQTT messages that the broker has, and bytes of their JSON.
struct Counted(Box<[(Counter, Counter)]>);

/// After so many connections that ended at one record, sent alone, the record is refused.
const STRIKES: u32 = 3;
/// Vehicles whose removals go out together.
const TOGETHER: usize = 50;

/// Between two looks at an idle broker, at most.
const LOOK: Duration = Duration::from_secs(5);
/// Where removals must not wait for records.
const LOOK_AT_CONSENT: Duration = Duration::from_millis(500);

impl Publisher {
    pub(super) fn new(
        config: &config::Mqtt,
        broker: Broker,
        client_id: String,
        consent: Consent,
        topics: &Topics,
    ) -> Self {
        let discovery = config
            .home_assistant
            .as_ref()
            .map(|home| Discovery { prefix: home.discovery_prefix.clone(), has_connectivity: home.has_connectivity });
        Self {
            config: config.clone(),
            broker,
            client_id,
            connection: None,
            ids: Ids::default(),
            unfinished: None,
            must_clean: !config.clean_session,
            strikes: 0,
            consent,
            discovery,
            vehicles: Vehicles::new(config.max_vehicles),
            counted: Counted::register(topics),
        }
    }

    /// The batch as messages; what is left of it if this is another attempt.
    fn unfinished(&mut self, batch: &[Record]) -> Unfinished {
        let generation = self.consent.generation();
        if let Some(unfinished) = self.unfinished.take() {
            if unfinished.generation == generation && is_same(&unfinished.records, batch) {
                return unfinished;
            }
            // The broker may still wait for the end of some of these ids.
            self.must_clean = !self.config.clean_session;
            self.connection = None;
        }
        let mut exchange = Exchange::default();
        let refused = batch.iter().enumerate().map(|(owner, record)| {
            let messages = self.messages_of(record);
            messages
                .map(|messages| {
                    let retained = self.config.retained;
                    for (message, is_announcement) in messages {
                        exchange.push(message, owner, self.config.qos, retained || is_announcement);
                    }
                })
                .err()
        });
        let refused = refused.collect();
        Unfinished { records: batch.to_vec(), exchange, refused, generation }
    }

    /// Each with whether it announces another one.
    fn messages_of(&mut self, record: &Record) -> Result<Vec<(Message, bool)>, String> {
        let payload = self.consent.allowed(record).map_err(|error| error.to_string())?;
        let decoded = Decoded::decode(record.kind(), &payload).map_err(|error| error.to_string())?;
        let vin = record.vin();
        let messages = messages(&decoded, &self.config.topic_base, vin)
            .ok_or_else(|| "MQTT carries no records of custom types".to_owned())?;
        if let Some(message) = messages.iter().find(|message| !packet::fits(&message.topic, message.payload.len())) {
            let (topic, payload) = (message.topic.len(), message.payload.len());
            return Err(format!(
                "a topic of {topic} bytes with {payload} bytes of JSON does not fit into an MQTT packet"
            ));
        }
        let mut all = Vec::with_capacity(messages.len());
        self.meet(vin);
        for message in messages {
            all.extend(self.announcements(vin, message.field).into_iter().map(|message| (message, true)));
            all.push((message, false));
        }
        Ok(all)
    }

    /// Remembers a vehicle. At the first sight of it, an earlier process may have left what is not allowed now.
    fn meet(&mut self, vin: &str) {
        let removes = self.removes();
        if !removes && self.discovery.is_none() {
            return;
        }
        if self.vehicles.meet(vin) && removes {
            self.consent.is_due(vin.into());
        }
    }

    fn announcements(&mut self, vin: &str, field: Option<i32>) -> Vec<Message> {
        let (Some(discovery), Some(key)) = (&self.discovery, field) else { return Vec::new() };
        // It may be here all the same, marked as invalid.
        if self.consent.hides(vin, key) {
            return Vec::new();
        }
        if self.vehicles.tell(vin, key) {
            discovery.announce(vin, &vehicle(&self.config.topic_base, vin), key)
        } else {
            Vec::new()
        }
    }

    /// Whether anything is left at the broker that consent may end for.
    fn removes(&self) -> bool {
        self.consent.is_enforced() && (self.config.retained || self.discovery.is_some())
    }

    /// Removes what the broker retains and is no longer allowed.
    async fn keep_up_with_consent(&mut self) -> Result<(), String> {
        if !self.removes() {
            return Ok(());
        }
        self.consent.look();
        loop {
            let due: Vec<Arc<str>> = std::iter::from_fn(|| self.consent.next_due()).take(TOGETHER).collect();
            if due.is_empty() {
                return Ok(());
            }
            let mut exchange = Exchange::default();
            for message in due.iter().flat_map(|vin| self.removals(vin)).collect::<Vec<_>>() {
                exchange.push(message, 0, self.config.qos, true);
            }
            if let Err(failure) = self.run(&mut exchange, 1).await {
                due.into_iter().for_each(|vin| self.consent.is_due(vin));
                return Err(failure.reason);
            }
        }
    }

    /// Empty messages under the topics of what `vin` may not send.
    fn removals(&mut self, vin: &str) -> Vec<Message> {
        let prefix = vehicle(&self.config.topic_base, vin);
        let mut removals = Vec::new();
        for key in self.consent.withheld(vin) {
            if self.config.retained {
                removals.push(Message { topic: field_topic(&prefix, key), payload: String::new(), field: None });
            }
            if let Some(discovery) = self.discovery.as_ref().filter(|_| self.consent.hides(vin, key)) {
                removals.extend(discovery.withdraw(vin, &prefix, key));
            }
            self.vehicles.untell(vin, key);
        }
        removals
    }

    /// Sends the messages of the first `owners` until all of them are done.
    async fn run(&mut self, exchange: &mut Exchange, owners: usize) -> Result<(), Failure> {
        loop {
            let (mut connection, is_fresh) = match self.connection.take() {
                Some(connection) => (connection, false),
                None => (self.open().await.map_err(|reason| Failure { reason, is_suspect: false })?, true),
            };
            exchange.resume(connection.session_present);
            let before = exchange.done();
            match self.over(&mut connection, exchange, owners).await {
                Ok(()) => {
                    // The session is the same as long as the connection is.
                    connection.session_present = true;
                    self.connection = Some(connection);
                    return Ok(());
                }
                // It may have ended long ago, unnoticed: nothing was lost yet.
                Err(Lost::Closed(_)) if !is_fresh && exchange.done() == before => {}
                Err(lost) => {
                    let is_suspect = matches!(lost, Lost::Closed(_)) && exchange.done() == before;
                    return Err(Failure { reason: self.complain(&lost), is_suspect });
                }
            }
        }
    }

    async fn over(&mut self, connection: &mut Connection, exchange: &mut Exchange, owners: usize) -> Result<(), Lost> {
        let mut out = BytesMut::new();
        loop {
            exchange.fill(owners, &mut self.ids, &mut out);
            if out.is_empty() && connection.is_flushed() {
                exchange.flushed();
                if exchange.is_done(owners) {
                    return Ok(());
                }
            }
            if let Some(answer) = connection.turn(&mut out, self.config.publish_timeout).await? {
                exchange.answered(answer, &mut out);
            }
        }
    }

    async fn open(&mut self) -> Result<Connection, String> {
        let patience = self.config.connect_timeout;
        if self.must_clean {
            let connect = connect(&self.config, &self.client_id, true);
            let opened = self.broker.open(&connect, patience).await;
            opened.map_err(|error| self.complain(&error))?.close(self.config.disconnect_timeout).await;
            self.must_clean = false;
        }
        let connect = connect(&self.config, &self.client_id, self.config.clean_session);
        self.broker.open(&connect, patience).await.map_err(|error| self.complain(&error))
    }

    fn complain(&self, error: &dyn std::error::Error) -> String {
        format!("{}:{}: {error}", self.broker.host, self.broker.port)
    }

    /// Whether the broker answers.
    async fn ping(&mut self) -> Result<(), String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                // That it accepts is an answer, too.
                self.connection = Some(self.open().await?);
                return Ok(());
            }
        };
        let mut out = Vec::new();
        packet::ping(&mut out);
        let mut out = BytesMut::from(&out[..]);
        loop {
            match connection.turn(&mut out, self.config.publish_timeout).await {
                Ok(Some(Answer::PingResp)) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                Ok(_) => {}
                Err(lost) => return Err(self.complain(&lost)),
            }
        }
    }

    fn settle(&mut self, mut unfinished: Unfinished, outcome: Result<(), String>) -> Vec<Fate> {
        let Unfinished { records, exchange, refused, .. } = &mut unfinished;
        for (owner, message) in exchange.delivered() {
            self.counted.count(records[owner].kind(), message);
        }
        let mut finished = exchange.finished(records.len());
        if self.strikes >= STRIKES
            && let Some(first) = finished.iter().position(|finished| !finished)
        {
            refused[first] = Some(format!("the broker has closed {STRIKES} connections at this record"));
            exchange.abandon(first);
            self.vehicles.forget(records[first].vin());
            (finished[first], self.strikes) = (true, 0);
        }
        let reason = outcome.err().unwrap_or_else(|| "after a record that the broker may not like".to_owned());
        let fates = finished.iter().zip(&mut *refused).map(|(finished, refused)| match (finished, refused.take()) {
            (_, Some(reason)) => Fate::Refused(reason),
            (true, None) => Fate::Delivered,
            (false, None) => Fate::Retry(reason.clone()),
        });
        let fates: Vec<Fate> = fates.collect();
        if finished.contains(&false) {
            exchange.retain_unfinished(&finished);
            let mut finished = finished.iter();
            records.retain(|_| !finished.next().is_some_and(|finished| *finished));
            *refused = vec![None; records.len()];
            self.unfinished = Some(unfinished);
        }
        fates
    }
}

impl Sink for Publisher {
    async fn send(&mut self, batch: &[Record]) -> Vec<Fate> {
        let mut unfinished = self.unfinished(batch);
        if let Err(reason) = self.keep_up_with_consent().await {
            return self.settle(unfinished, Err(reason));
        }
        // One that may end the connection goes alone.
        let owners = if self.strikes == 0 { batch.len() } else { unfinished.exchange.first_owner() + 1 };
        let outcome = self.run(&mut unfinished.exchange, owners).await;
        self.strikes = match &outcome {
            Err(Failure { is_suspect: true, .. }) => self.strikes + 1,
            _ => 0,
        };
        self.settle(unfinished, outcome.map_err(|failure| failure.reason))
    }

    async fn probe(&mut self) -> Result<Duration, String> {
        self.ping().await?;
        self.keep_up_with_consent().await?;
        let look = if self.removes() { LOOK_AT_CONSENT } else { LOOK };
        Ok(look.min(Duration::from_secs(self.config.keep_alive.into()) / 2))
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close(self.config.disconnect_timeout).await;
        }
    }
}

/// As whom to connect.
pub(super) fn connect<'a>(config: &'a config::Mqtt, client_id: &'a str, clean_session: bool) -> Connect<'a> {
    Connect {
        client_id,
        username: config.username.as_deref(),
        password: config.password.as_ref().map(Secret::expose),
        clean_session,
        keep_alive: config.keep_alive,
    }
}

fn is_same(a: &[Record], b: &[Record]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is(b))
}

impl Counted {
    fn register(topics: &Topics) -> Self {
        let families = |topic: &str| {
            ["mqtt_publish_total", "mqtt_publish_total_bytes"]
                .map(|family| counter!(family, "record_type" => topic.to_owned()))
                .into()
        };
        Self(topics.table(|_, topic| families(topic)))
    }

    fn count(&self, kind: RecordKind, message: &Message) {
        let (messages, bytes) = &self.0[kind.index()];
        messages.increment(1);
        bytes.increment(message.payload.len() as u64);
    }
}
