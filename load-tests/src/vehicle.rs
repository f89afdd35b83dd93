//! One vehicle: connects, sends, checks every reply, connects again.

mod deaf;

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_telemetry::testing::message::{Reply, parse_reply};
use rustls::ClientConfig;
use tokio::time::{self, MissedTickBehavior};

use crate::backoff::Backoff;
use crate::buffer::{Buffer, Settled};
use crate::certs::{Authority, CertsError};
use crate::fleet::Lane;
use crate::pacer::{Due, Wake};
use crate::plan::{Content, Load, Phase};
use crate::record::fixed::FixedRecord;
use crate::record::{Message, encode, vin};
use crate::signals::Drive;
use crate::socket::connect::{ConnectError, Hello, Receive};
use crate::socket::{Socket, SocketError};
use crate::tally::Count;

/// Above, messages stay in the vehicle's buffer until the network has taken some.
const MAX_BACKLOG: usize = 64 * 1024;
/// How often unacked messages are looked at.
const RESEND_CHECK: Duration = Duration::from_secs(1);
/// For the closing handshake.
const GOODBYE: Duration = Duration::from_secs(2);

/// A simulated vehicle.
pub struct Vehicle {
    index: u32,
    vin: String,
    lane: Rc<Lane>,
    wake: Rc<Wake>,
    tls: Arc<ClientConfig>,
    content: Maker,
    buffer: Buffer,
    backoff: Backoff,
    rng: fastrand::Rng,
    sent_its_one: bool,
    is_deaf: bool,
}

enum Maker {
    Fixed(FixedRecord),
    Driving(Box<Drive>),
}

/// Why a connection is no longer used.
enum End {
    Finished,
    Parked,
    Lost(SocketError),
}

impl Vehicle {
    /// A parked vehicle with a fresh certificate.
    ///
    /// # Errors
    /// [`CertsError`].
    pub fn new(index: u32, lane: Rc<Lane>, wake: Rc<Wake>, authority: &Authority) -> Result<Self, CertsError> {
        let vin = vin(index);
        let mut rng = fastrand::Rng::with_seed(lane.plan.seed ^ (u64::from(index) << 32));
        let content = match lane.plan.content {
            Content::Fixed => Maker::Fixed(FixedRecord::new(&vin, lane.clock.system(Instant::now()))),
            Content::Driving { string_share } => Maker::Driving(Box::new(Drive::new(&vin, rng.fork(), string_share))),
        };
        Ok(Self {
            index,
            tls: authority.vehicle(&vin)?,
            vin,
            content,
            buffer: Buffer::new(lane.plan.run, index),
            backoff: Backoff::new(lane.plan.max_backoff),
            rng,
            sent_its_one: false,
            is_deaf: lane.plan.is_deaf(index),
            lane,
            wake,
        })
    }

    /// Lives through the plan.
    pub async fn run(mut self) {
        while self.wait_for_start().await {
            let lost = match self.open().await {
                None => continue,
                Some(Err(error)) => {
                    self.lane.tally.add(Count::ConnectFailed, 1);
                    format!("connect: {error}")
                }
                Some(Ok(socket)) => match self.use_up(socket).await {
                    End::Finished => break,
                    End::Parked => continue,
                    End::Lost(error) => {
                        self.lane.tally.add(Count::Disconnected, 1);
                        format!("connection{} lost: {error}", if self.is_deaf { " of a deaf vehicle" } else { "" })
                    }
                },
            };
            self.lane.note_trouble(lost);
            let delay = self.backoff.delay(&mut self.rng);
            self.unless_over(time::sleep(delay)).await;
        }
        let unsent = self.buffer.never_sent();
        self.lane.tally.add(Count::Unsent, unsent);
        self.lane.tally.add(Count::Lost, self.buffer.len() - unsent);
    }

    /// False when there is nothing left to do.
    async fn wait_for_start(&mut self) -> bool {
        while !self.is_called() {
            self.backoff.reset();
            self.wake.notified().await;
            let Some(rate) = self.lane.plan.connect_rate.filter(|_| self.is_called()) else { continue };
            let position = self.index.saturating_sub(self.lane.plan.newcomers(self.lane.wave.get()).start);
            let turn = self.lane.since.get() + Duration::from_secs_f64(f64::from(position) / rate);
            self.unless_over(time::sleep_until(turn.into())).await;
        }
        self.buffer.rewind();
        self.make();
        !self.is_over()
    }

    /// `None` when the plan ended first.
    async fn open(&mut self) -> Option<Result<Socket, ConnectError>> {
        let hello = Hello {
            txid: uuid::Builder::from_random_bytes(self.rng.u128(..).to_ne_bytes()).into_uuid(),
            network_interface: if self.rng.u8(..4) == 0 { "wifi" } else { "cellular" },
            version: "1.3.0",
        };
        let lane = self.lane.clone();
        let _permit = self.unless_over(lane.attempts.acquire()).await?.expect("never closed");
        let (started, wave) = (Instant::now(), lane.wave.get());
        let plan = self.lane.plan.clone();
        let receive = if self.is_deaf { Receive::Little } else { Receive::Normal };
        // Boxed, so that the handshake's memory is gone while the vehicle streams.
        let connect = Box::pin(plan.endpoint.connect(self.index, self.tls.clone(), &hello, receive));
        let socket = match self.unless_over(time::timeout(plan.connect_timeout, connect)).await? {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Some(Err(error)),
            Err(_) => return Some(Err(ConnectError::Timeout)),
        };
        self.lane.latency.borrow_mut().connected(wave, started.elapsed());
        self.lane.tally.add(Count::Connected, 1);
        self.backoff.reset();
        Some(Ok(socket))
    }

    async fn use_up(&mut self, socket: Socket) -> End {
        if self.is_deaf { self.shout(socket).await } else { self.stream(socket).await }
    }

    /// Sends and receives until the connection or the plan ends.
    async fn stream(&mut self, mut socket: Socket) -> End {
        let mut check = time::interval_at(time::Instant::now() + RESEND_CHECK, RESEND_CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.make();
            self.feed(&mut socket);
            if self.is_over() {
                // A server that does not answer is left all the same.
                let _ = time::timeout(GOODBYE, socket.close()).await;
                self.lane.tally.add(Count::Closed, 1);
                return if self.lane.phase.get() == Phase::Parked { End::Parked } else { End::Finished };
            }
            let Self { lane, wake, buffer, vin, .. } = self;
            tokio::select! {
                biased;
                outcome = socket.exchange(|reply| settle(lane, buffer, vin, reply)) => match outcome {
                    Ok(()) => {}
                    Err(error) => return End::Lost(error),
                },
                () = wake.notified() => {}
                _ = check.tick(), if !buffer.is_empty() => self.resend(&mut socket),
            }
        }
    }

    /// Makes the messages that are due.
    fn make(&mut self) {
        match (self.lane.plan.load, self.lane.phase.get()) {
            _ if self.is_deaf => {}
            (Load::Paced, _) => {
                while let Some(due) = self.wake.pop() {
                    self.make_one(due);
                }
            }
            (Load::Closed(in_flight), Phase::Run(step)) => {
                while self.buffer.len() < in_flight {
                    self.make_one(Due { at: Instant::now(), step });
                }
            }
            (Load::Once, Phase::Connect(_)) if !self.sent_its_one => {
                self.sent_its_one = true;
                self.make_one(Due { at: Instant::now(), step: 0 });
            }
            _ => {}
        }
    }

    fn make_one(&mut self, Due { at, step }: Due) {
        let Self { buffer, lane, vin, .. } = self;
        match &mut self.content {
            Maker::Fixed(record) => {
                let txid = buffer.next_txid();
                keep(lane, buffer, Message { txid, topic: "V", due: at, step, frame: record.with(txid) });
            }
            Maker::Driving(drive) => {
                let now = lane.clock.system(at);
                for (topic, payload) in drive.tick(now) {
                    let txid = buffer.next_txid();
                    let frame = encode(vin, txid, topic, now, &payload).into();
                    keep(lane, buffer, Message { txid, topic, due: at, step, frame });
                }
            }
        }
    }

    /// Sends what was not sent on this connection, as far as the network takes it.
    fn feed(&mut self, socket: &mut Socket) {
        while socket.backlog() < MAX_BACKLOG {
            let now = Instant::now();
            let Some(outgoing) = self.buffer.take_unsent(now) else { return };
            socket.queue(&outgoing.message.frame);
            if outgoing.first {
                self.lane.tally.add(Count::Sent, 1);
                let late = now.saturating_duration_since(outgoing.message.due);
                self.lane.latency.borrow_mut().sent(outgoing.message.step, late);
            } else {
                self.lane.tally.add(Count::Resent, 1);
            }
        }
    }

    /// Sends again what was not acked in time: the same bytes.
    fn resend(&mut self, socket: &mut Socket) {
        let now = Instant::now();
        for index in 0..self.buffer.len() {
            if socket.backlog() >= MAX_BACKLOG {
                return;
            }
            if let Some(outgoing) = self.buffer.take_stale(index, now, self.lane.plan.resend_after) {
                socket.queue(&outgoing.message.frame);
                self.lane.tally.add(Count::Resent, 1);
            }
        }
    }

    /// Whether it is to be connected.
    fn is_called(&self) -> bool {
        match self.lane.phase.get() {
            Phase::Parked => false,
            Phase::Connect(wave) => self.index < self.lane.plan.waves[wave],
            Phase::Run(_) | Phase::Drain | Phase::Stop => true,
        }
    }

    fn is_over(&self) -> bool {
        match self.lane.phase.get() {
            Phase::Parked | Phase::Stop => true,
            Phase::Drain => self.buffer.is_empty(),
            Phase::Connect(_) | Phase::Run(_) => false,
        }
    }

    /// `None` when the plan ended first.
    async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let over = async {
            while !self.is_over() {
                self.wake.notified().await;
            }
        };
        tokio::select! {
            output = future => Some(output),
            () = over => None,
        }
    }
}

fn keep(lane: &Lane, buffer: &mut Buffer, message: Message) {
    lane.tally.add(Count::Made, 1);
    if buffer.push(message).is_some() {
        lane.tally.add(Count::Dropped, 1);
    }
}

/// Checks a reply against what was sent.
fn settle(lane: &Lane, buffer: &mut Buffer, vin: &str, reply: &[u8]) {
    let count = match parse_reply(reply) {
        Some(Reply::Ack { txid, topic }) => match buffer.ack(txid, topic) {
            Settled::Acked(message) => {
                lane.latency.borrow_mut().acked(message.step, message.due.elapsed());
                lane.note_ack(vin, message.topic, message.txid);
                Count::Acked
            }
            Settled::Repeated => Count::Repeated,
            Settled::Duplicate => Count::DuplicateAck,
            Settled::Unknown => Count::UnknownAck,
            Settled::WrongTopic => Count::WrongTopic,
        },
        Some(Reply::Error { txid }) => {
            buffer.refuse(txid);
            Count::Refused
        }
        None => Count::Unreadable,
    };
    lane.tally.add(count, 1);
}
