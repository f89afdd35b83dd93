//! What a vehicle keeps until it is acked.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::record::Message;
use crate::record::txid::Txid;

/// Messages that a vehicle keeps; the oldest is dropped for a newer one.
pub const CAPACITY: usize = 5_000;

/// A vehicle's unacked messages, oldest first: those sent on this connection, then those to be sent.
#[derive(Debug)]
pub struct Buffer {
    run: u32,
    vehicle: u32,
    next_sequence: u64,
    messages: VecDeque<Kept>,
    /// How many at the front were sent on this connection.
    sent: usize,
    /// Acks that may still come although the message is no longer kept: copies of it that were sent on
    /// this connection and not acked, by sequence number.
    late: HashMap<u64, u32>,
}

#[derive(Debug)]
struct Kept {
    message: Message,
    sent_before: bool,
    last_sent: Option<Instant>,
    /// On this connection.
    copies: u32,
}

/// A message that is about to be sent.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The message.
    pub message: &'a Message,
    /// Whether it was never sent before.
    pub first: bool,
}

/// What an ack means.
#[derive(Debug)]
pub enum Settled {
    /// The message is safe and forgotten.
    Acked(Message),
    /// A further ack of a message that was sent more than once; fine.
    Repeated,
    /// More acks than copies were sent.
    Duplicate,
    /// The txid was never sent.
    Unknown,
    /// The txid is right, the topic is not; the message stays.
    WrongTopic,
}

impl Buffer {
    /// `run` and `vehicle` name the messages.
    #[must_use]
    pub fn new(run: u32, vehicle: u32) -> Self {
        Self { run, vehicle, next_sequence: 0, messages: VecDeque::new(), sent: 0, late: HashMap::new() }
    }

    /// The name of the next message.
    pub fn next_txid(&mut self) -> Txid {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        Txid { run: self.run, vehicle: self.vehicle, sequence }
    }

    /// Keeps a message; returns the oldest when it had to go.
    pub fn push(&mut self, message: Message) -> Option<Message> {
        let dropped = if self.messages.len() >= CAPACITY { self.drop_oldest() } else { None };
        self.messages.push_back(Kept { message, sent_before: false, last_sent: None, copies: 0 });
        dropped
    }

    /// The oldest message that was not sent on this connection yet, marked as sent.
    pub fn take_unsent(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        let kept = self.messages.get_mut(self.sent)?;
        self.sent += 1;
        Some(kept.send(now))
    }

    /// Marks and returns the `index`th message if it was sent on this connection and waited `age` for its ack.
    pub fn take_stale(&mut self, index: usize, now: Instant, age: Duration) -> Option<Outgoing<'_>> {
        if index >= self.sent {
            return None;
        }
        let kept = &mut self.messages[index];
        let waited = kept.last_sent.map_or(Duration::ZERO, |sent| now.saturating_duration_since(sent));
        (waited >= age).then(|| kept.send(now))
    }

    /// The connection is gone: everything is to be sent again.
    pub fn rewind(&mut self) {
        self.sent = 0;
        self.late.clear();
        for kept in &mut self.messages {
            kept.copies = 0;
        }
    }

    /// Applies an ack.
    pub fn ack(&mut self, txid: &[u8], topic: &[u8]) -> Settled {
        let Some(sequence) = self.own(txid) else { return Settled::Unknown };
        match self.find(sequence) {
            Some(index) if self.messages[index].message.topic.as_bytes() != topic => Settled::WrongTopic,
            Some(index) => Settled::Acked(self.remove(index)),
            None => self.settle_late(sequence),
        }
    }

    /// Applies an error response: the message will never be accepted, so it is forgotten.
    pub fn refuse(&mut self, txid: &[u8]) -> Option<Message> {
        let index = self.own(txid).and_then(|sequence| self.find(sequence))?;
        Some(self.remove(index))
    }

    /// Messages kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether everything is acked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Messages kept that were never sent.
    #[must_use]
    pub fn never_sent(&self) -> usize {
        self.messages.iter().filter(|kept| !kept.sent_before).count()
    }

    /// The sequence number of one of this vehicle's txids.
    fn own(&self, txid: &[u8]) -> Option<u64> {
        let txid = Txid::parse(txid)?;
        let is_own = txid.run == self.run && txid.vehicle == self.vehicle && txid.sequence < self.next_sequence;
        is_own.then_some(txid.sequence)
    }

    /// Only messages sent on this connection can be acked; acks come nearly in order, so this is short.
    fn find(&self, sequence: u64) -> Option<usize> {
        self.messages.iter().take(self.sent).position(|kept| kept.message.txid.sequence == sequence)
    }

    fn remove(&mut self, index: usize) -> Message {
        let kept = self.messages.remove(index).expect("found just now");
        self.sent -= 1;
        self.expect_late(&kept, kept.copies - 1);
        kept.message
    }

    fn drop_oldest(&mut self) -> Option<Message> {
        let kept = self.messages.pop_front()?;
        self.sent = self.sent.saturating_sub(1);
        self.expect_late(&kept, kept.copies);
        Some(kept.message)
    }

    fn expect_late(&mut self, kept: &Kept, copies: u32) {
        if copies > 0 {
            self.late.insert(kept.message.txid.sequence, copies);
        }
    }

    fn settle_late(&mut self, sequence: u64) -> Settled {
        let Some(copies) = self.late.get_mut(&sequence) else { return Settled::Duplicate };
        *copies -= 1;
        if *copies == 0 {
            self.late.remove(&sequence);
        }
        Settled::Repeated
    }
}

impl Kept {
    fn send(&mut self, now: Instant) -> Outgoing<'_> {
        let first = !self.sent_before;
        self.sent_before = true;
        self.last_sent = Some(now);
        self.copies += 1;
        Outgoing { message: &self.message, first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(buffer: &mut Buffer) -> (Txid, Option<Message>) {
        let txid = buffer.next_txid();
        let message = Message { txid, topic: "V", due: Instant::now(), step: 0, frame: Box::default() };
        (txid, buffer.push(message))
    }

    fn send_all(buffer: &mut Buffer) -> usize {
        std::iter::from_fn(|| buffer.take_unsent(Instant::now()).map(|_| ())).count()
    }

    #[test]
    fn never_keeps_more_than_5000_and_drops_the_oldest() {
        let mut buffer = Buffer::new(1, 2);
        let dropped: Vec<_> = (0..CAPACITY + 3).filter_map(|_| push(&mut buffer).1).collect();
        assert_eq!(buffer.len(), CAPACITY);
        assert_eq!(dropped.iter().map(|message| message.txid.sequence).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(send_all(&mut buffer), CAPACITY);
    }

    #[test]
    fn one_ack_per_copy_is_expected_and_one_more_is_a_duplicate() {
        let mut buffer = Buffer::new(1, 2);
        let (txid, _) = push(&mut buffer);
        send_all(&mut buffer);
        assert!(buffer.take_stale(0, Instant::now(), Duration::ZERO).is_some_and(|outgoing| !outgoing.first));
        assert!(matches!(buffer.ack(&txid.text(), b"V"), Settled::Acked(_)));
        assert!(matches!(buffer.ack(&txid.text(), b"V"), Settled::Repeated));
        assert!(matches!(buffer.ack(&txid.text(), b"V"), Settled::Duplicate));
    }

    #[test]
    fn a_new_connection_sends_everything_unacked_again_in_order() {
        let mut buffer = Buffer::new(1, 2);
        let txids: Vec<_> = (0..3).map(|_| push(&mut buffer).0).collect();
        send_all(&mut buffer);
        buffer.ack(&txids[1].text(), b"V");
        buffer.rewind();
        let again: Vec<_> =
            std::iter::from_fn(|| buffer.take_unsent(Instant::now()).map(|out| (out.message.txid, out.first)))
                .collect();
        assert_eq!(again, [(txids[0], false), (txids[2], false)]);
        assert!(matches!(buffer.ack(&txids[1].text(), b"V"), Settled::Duplicate));
    }

    #[test]
    fn a_txid_that_was_not_sent_or_is_another_vehicle_s_is_unknown() {
        let mut buffer = Buffer::new(1, 2);
        let (txid, _) = push(&mut buffer);
        send_all(&mut buffer);
        for wrong in [Txid { vehicle: 3, ..txid }, Txid { run: 9, ..txid }, Txid { sequence: 1, ..txid }] {
            assert!(matches!(buffer.ack(&wrong.text(), b"V"), Settled::Unknown));
        }
        assert!(matches!(buffer.ack(b"", b"V"), Settled::Unknown));
        assert!(matches!(buffer.ack(&txid.text(), b"alerts"), Settled::WrongTopic));
        assert_eq!(buffer.len(), 1);
    }

    #[test]
    fn an_ack_for_a_dropped_message_is_not_an_anomaly() {
        let mut buffer = Buffer::new(1, 2);
        let (txid, _) = push(&mut buffer);
        send_all(&mut buffer);
        (0..CAPACITY).for_each(|_| drop(push(&mut buffer)));
        assert!(matches!(buffer.ack(&txid.text(), b"V"), Settled::Repeated));
    }

    #[test]
    fn only_messages_that_waited_long_enough_are_stale() {
        let mut buffer = Buffer::new(1, 2);
        push(&mut buffer);
        assert!(buffer.take_stale(0, Instant::now(), Duration::ZERO).is_none(), "not sent yet");
        send_all(&mut buffer);
        assert!(buffer.take_stale(0, Instant::now(), Duration::from_secs(60)).is_none());
        assert!(buffer.take_stale(0, Instant::now() + Duration::from_secs(60), Duration::from_secs(60)).is_some());
    }
}
