//! Vehicles that stream numbered records, keep what is not acked, and come back whenever the connection ends.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::tungstenite;

use crate::support::kafka::Message;
use crate::support::pki::Pki;
use crate::support::vehicle::{self, Received, Vehicle, v_payload};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RECONNECT: Duration = Duration::from_millis(50);
/// A connection on which the oldest record waits longer than this for its ack is given up.
const ACK_TIMEOUT: Duration = Duration::from_secs(45);
const LOOK: Duration = Duration::from_millis(10);

/// How fast each vehicle makes records.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) every: Duration,
    /// None is made while so many are not acked.
    pub(crate) window: usize,
}

/// Vehicles that stream until [`Fleet::finish`].
pub(crate) struct Fleet {
    vehicles: Vec<Streaming>,
    making: watch::Sender<bool>,
}

struct Streaming {
    journal: Arc<Mutex<Journal>>,
    life: JoinHandle<()>,
}

/// What one vehicle saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) vin: String,
    /// Records made; they are numbered from 0.
    pub(crate) made: u64,
    pub(crate) acked: BTreeSet<u64>,
    /// Records sent once more, on a later connection.
    pub(crate) resent: u64,
    pub(crate) connections: u64,
    /// Connections given up because an ack did not come.
    pub(crate) timeouts: u64,
}

/// What a topic holds of a fleet's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) records: usize,
    /// Messages beyond the first of each record.
    pub(crate) duplicates: usize,
}

impl Fleet {
    pub(crate) fn start(address: SocketAddr, pki: &Pki, vehicles: usize, pace: Pace) -> Self {
        let (making, watched) = watch::channel(true);
        let vehicles = (0..vehicles)
            .map(|n| {
                let vin = format!("5YJ3E1EA0PF{n:06}");
                let tls = pki.vehicle(&vin);
                let journal = Arc::new(Mutex::new(Journal { vin: vin.clone(), ..Journal::default() }));
                let life = Life {
                    vin,
                    address,
                    tls,
                    pace,
                    making: watched.clone(),
                    journal: Arc::clone(&journal),
                    unacked: VecDeque::new(),
                };
                Streaming { journal, life: tokio::spawn(life.run()) }
            })
            .collect();
        Self { vehicles, making }
    }

    /// Waits until every vehicle has an ack for a record that it makes from now on; how long that took.
    pub(crate) async fn streams(&self, patience: Duration) -> Duration {
        self.streams_on(1, patience).await
    }

    /// As [`Self::streams`], for that many further records.
    pub(crate) async fn streams_on(&self, records: u64, patience: Duration) -> Duration {
        let before = self.journals();
        let far_enough = |(now, before): (&Journal, &Journal)| {
            now.acked.last().is_some_and(|last| last + 1 >= before.made + records)
        };
        self.wait("are acked", patience, |now| now.iter().zip(&before).all(far_enough)).await
    }

    /// Waits until every vehicle's window is full.
    pub(crate) async fn stalls(&self, window: usize, patience: Duration) -> Duration {
        let full = |vehicle: &Journal| vehicle.unacked() >= window;
        self.wait("have full windows", patience, |now| now.iter().all(full)).await
    }

    /// Makes no more records, and waits until every vehicle has an ack for each that it made.
    pub(crate) async fn finish(self, patience: Duration) -> Vec<Journal> {
        let _ = self.making.send(false);
        self.wait("are all acked", patience, |now| now.iter().all(|vehicle| vehicle.unacked() == 0)).await;
        let journals = self.journals();
        for vehicle in self.vehicles {
            vehicle.life.await.unwrap();
        }
        journals
    }

    pub(crate) fn journals(&self) -> Vec<Journal> {
        self.vehicles.iter().map(|vehicle| vehicle.journal.lock().unwrap().clone()).collect()
    }

    async fn wait(&self, what: &str, patience: Duration, done: impl Fn(&[Journal]) -> bool) -> Duration {
        let started = Instant::now();
        loop {
            let now = self.journals();
            if done(&now) {
                return started.elapsed();
            }
            // A vehicle that ends early has panicked, and said why.
            let lives = self.vehicles.iter().zip(&now).all(|(it, now)| !it.life.is_finished() || now.unacked() == 0);
            assert!(lives, "a vehicle has given up");
            assert!(started.elapsed() < patience, "not all {what} after {patience:?}: {:#?}", summaries(&now));
            sleep(LOOK).await;
        }
    }
}

impl Journal {
    pub(crate) fn unacked(&self) -> usize {
        usize::try_from(self.made).unwrap() - self.acked.len()
    }
}

fn summaries(journals: &[Journal]) -> Vec<String> {
    let summary = |it: &Journal| {
        format!("{}: {} made, {} not acked, {} connections", it.vin, it.made, it.unacked(), it.connections)
    };
    journals.iter().map(summary).collect()
}

/// Checks that the topic holds every acked record, and each vehicle's records in the order in which it made them:
/// copies may come again, but none comes first after a later one.
pub(crate) fn check(journals: &[Journal], messages: &[Message]) -> Tally {
    let mut by_vin: HashMap<&[u8], Vec<&Message>> = HashMap::new();
    for message in messages {
        by_vin.entry(&message.key).or_default().push(message);
    }
    let mut records = 0;
    for journal in journals {
        let messages = by_vin.remove(journal.vin.as_bytes()).unwrap_or_default();
        assert!(messages.iter().all(|it| it.partition == messages[0].partition), "{} has one partition", journal.vin);
        let mut seen = BTreeSet::new();
        for message in messages {
            let number = number(message.header("txid").expect("a header txid"), &journal.vin).expect("its own txid");
            let last = seen.last().copied();
            if seen.insert(number) {
                let overtaken = last.filter(|last| *last > number);
                assert_eq!(overtaken, None, "{} {number} came after a later one", journal.vin);
            }
        }
        let lost: Vec<_> = journal.acked.difference(&seen).collect();
        assert!(lost.is_empty(), "{}: acked and not in the topic: {lost:?}", journal.vin);
        records += seen.len();
    }
    assert!(by_vin.is_empty(), "nobody sent {:?}", by_vin.keys());
    Tally { records, duplicates: messages.len() - records }
}

fn number(txid: &[u8], vin: &str) -> Option<u64> {
    str::from_utf8(txid).ok()?.strip_prefix(vin)?.strip_prefix('-')?.parse().ok()
}

/// One vehicle.
struct Life {
    vin: String,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    pace: Pace,
    making: watch::Receiver<bool>,
    journal: Arc<Mutex<Journal>>,
    /// In the order in which they were made.
    unacked: VecDeque<u64>,
}

impl Life {
    async fn run(mut self) {
        while !self.is_over() {
            let connect = Vehicle::try_connect(self.address, &self.tls, &self.vin, vehicle::request(self.address));
            if let Ok(Ok(vehicle)) = timeout(CONNECT_TIMEOUT, connect).await {
                self.note(|journal| journal.connections += 1);
                // However it ended: what is not acked is sent again.
                let _ = self.stream(vehicle).await;
            }
            sleep(RECONNECT).await;
        }
    }

    fn is_over(&self) -> bool {
        !*self.making.borrow() && self.unacked.is_empty()
    }

    /// Until the connection ends (`None`) or there is nothing left to do.
    async fn stream(&mut self, mut vehicle: Vehicle) -> Option<()> {
        for n in &self.unacked {
            self.send(&mut vehicle, *n).await?;
            self.note(|journal| journal.resent += 1);
        }
        let mut ticks = interval(self.pace.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        while !self.is_over() {
            tokio::select! {
                received = vehicle.receive_within(ACK_TIMEOUT) => {
                    self.settle(received?)?;
                    heard = Instant::now();
                }
                _ = ticks.tick() => {
                    if self.unacked.is_empty() {
                        heard = Instant::now();
                    } else if heard.elapsed() > ACK_TIMEOUT {
                        self.note(|journal| journal.timeouts += 1);
                        return None;
                    }
                    self.make(&mut vehicle).await?;
                }
            }
        }
        let _ = vehicle.socket.close(None).await;
        while !matches!(vehicle.receive_within(CONNECT_TIMEOUT).await, None | Some(Received::Closed(_))) {}
        Some(())
    }

    /// Makes a record, if it is to.
    async fn make(&mut self, vehicle: &mut Vehicle) -> Option<()> {
        if !*self.making.borrow() || self.unacked.len() >= self.pace.window {
            return Some(());
        }
        let mut next = 0;
        self.note(|journal| {
            next = journal.made;
            journal.made += 1;
        });
        self.unacked.push_back(next);
        self.send(vehicle, next).await
    }

    async fn send(&self, vehicle: &mut Vehicle, number: u64) -> Option<()> {
        let txid = format!("{}-{number}", self.vin);
        let sender = format!("vehicle_device.{}", self.vin);
        let speed = f64::from(u32::try_from(number % 200).unwrap());
        let frame = vehicle::frame("V", &txid, &sender, &v_payload(&self.vin, speed));
        vehicle.socket.send(tungstenite::Message::Binary(frame.into())).await.ok()
    }

    /// `None` when the server has closed the connection.
    fn settle(&mut self, received: Received) -> Option<()> {
        let (txid, topic) = match received {
            Received::Ack { txid, topic } => (txid, topic),
            Received::Error { txid } => panic!("{} was refused", String::from_utf8_lossy(&txid)),
            Received::Closed(_) => return None,
        };
        assert_eq!(topic, b"V");
        let number = number(&txid, &self.vin).expect("an ack names a record of this vehicle");
        let at = self.unacked.iter().position(|unacked| *unacked == number);
        self.unacked.remove(at.expect("each copy on a connection is acked once"));
        self.note(|journal| assert!(journal.acked.insert(number), "acked once"));
        Some(())
    }

    fn note(&self, note: impl FnOnce(&mut Journal)) {
        note(&mut self.journal.lock().unwrap());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(acked: u64) -> [Journal; 1] {
        [Journal { vin: "VIN".to_owned(), made: acked, acked: (0..acked).collect(), ..Journal::default() }]
    }

    fn topic(numbers: &[u64]) -> Vec<Message> {
        let message = |number: &u64| Message {
            key: b"VIN".to_vec(),
            payload: Vec::new(),
            headers: vec![("txid".to_owned(), format!("VIN-{number}").into_bytes())],
            timestamp: 0,
            partition: 0,
            offset: 0,
        };
        numbers.iter().map(message).collect()
    }

    #[test]
    fn copies_are_counted_and_may_come_late() {
        assert_eq!(check(&journal(3), &topic(&[0, 1, 0, 2, 1])), Tally { records: 3, duplicates: 2 });
    }

    #[test]
    #[should_panic(expected = "acked and not in the topic: [1]")]
    fn an_acked_record_that_is_missing_fails_the_check() {
        check(&journal(3), &topic(&[0, 2]));
    }

    #[test]
    #[should_panic(expected = "VIN 1 came after a later one")]
    fn a_record_that_first_comes_after_a_later_one_fails_the_check() {
        check(&journal(3), &topic(&[0, 2, 1]));
    }
}
