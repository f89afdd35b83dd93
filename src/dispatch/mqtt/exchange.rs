//! What is on its way to the broker: messages, in which state each is, and how the state goes on after a reconnection.
//!
//! ```text
//!            fill                 PUBACK (QoS 1), flushed (QoS 0)
//!  Waiting ───────▶ Sent(id) ─────────────────────────────────────▶ Done
//!                       │ PUBREC (QoS 2)                              ▲
//!                       └──────────────▶ Released(id) ── PUBCOMP ─────┘
//! ```

use std::collections::HashMap;

use bytes::BytesMut;

use super::messages::Message;
use super::packet::{self, Answer, Publish};
use crate::config::QoS;

/// Messages that go out together, in order.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    outgoing: Vec<Outgoing>,
    /// From here on, nothing has gone over the present connection.
    next: usize,
    /// So many were handed to the system in full.
    flushed: usize,
    /// By packet id: sent over the present connection, and not done.
    open: HashMap<u16, usize>,
    done: usize,
}

/// A message under way.
#[derive(Debug)]
struct Outgoing {
    message: Message,
    /// Which record of the batch it belongs to.
    owner: usize,
    qos: QoS,
    retain: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sent(u16),
    Released(u16),
    Done,
}

/// Packet ids, which are never used twice at the same time.
#[derive(Debug, Default)]
pub(super) struct Ids(u16);

/// Unanswered messages, at most. Far less than there are ids, far more than a broker's answer takes.
const WINDOW: usize = 4096;

/// Bytes that are encoded ahead of the socket.
const CHUNK: usize = 64 * 1024;

impl Exchange {
    pub(super) fn push(&mut self, message: Message, owner: usize, qos: QoS, retain: bool) {
        self.outgoing.push(Outgoing { message, owner, qos, retain, state: State::Waiting });
    }

    /// Whether all messages of the first `owners` are done.
    pub(super) fn is_done(&self, owners: usize) -> bool {
        let is_all = self.outgoing.last().is_none_or(|last| last.owner < owners);
        self.done == self.outgoing.len() || !is_all && self.first_owner() >= owners
    }

    /// The first that has something to send.
    pub(super) fn first_owner(&self) -> usize {
        let mut open = self.outgoing.iter().filter(|outgoing| outgoing.state != State::Done);
        open.next().map_or(usize::MAX - 1, |outgoing| outgoing.owner)
    }

    /// Messages that are done.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// For each of `owners`, whether all of its messages are done.
    pub(super) fn finished(&self, owners: usize) -> Vec<bool> {
        let mut finished = vec![true; owners];
        for outgoing in self.outgoing.iter().filter(|outgoing| outgoing.state != State::Done) {
            finished[outgoing.owner] = false;
        }
        finished
    }

    /// The messages that are done, for those who count them.
    pub(super) fn delivered(&self) -> impl Iterator<Item = (usize, &Message)> {
        let done = self.outgoing.iter().filter(|outgoing| outgoing.state == State::Done);
        done.map(|outgoing| (outgoing.owner, &outgoing.message))
    }

    /// Keeps what the unfinished owners still have to send; they are numbered anew.
    pub(super) fn retain_unfinished(&mut self, finished: &[bool]) {
        let mut numbers = Vec::with_capacity(finished.len());
        let mut number = 0;
        for finished in finished {
            numbers.push(number);
            number += usize::from(!finished);
        }
        self.outgoing.retain(|outgoing| outgoing.state != State::Done);
        self.outgoing.iter_mut().for_each(|outgoing| outgoing.owner = numbers[outgoing.owner]);
        (self.next, self.flushed, self.done) = (0, 0, 0);
        self.open.clear();
    }

    /// Gives up what `owner` still has to send.
    pub(super) fn abandon(&mut self, owner: usize) {
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| outgoing.owner == owner) {
            outgoing.state = State::Done;
        }
    }

    /// Over a new connection. Without its session, a broker knows nothing of what was on its way.
    pub(super) fn resume(&mut self, session_present: bool) {
        (self.next, self.flushed) = (0, 0);
        self.open.clear();
        if !session_present {
            for outgoing in self.outgoing.iter_mut().filter(|outgoing| outgoing.state != State::Done) {
                outgoing.state = State::Waiting;
            }
        }
    }

    /// Encodes as much of `owners` as may be on its way.
    pub(super) fn fill(&mut self, owners: usize, ids: &mut Ids, out: &mut BytesMut) {
        let mut packets = Vec::new();
        while self.open.len() < WINDOW && out.len() + packets.len() < CHUNK {
            let Some(outgoing) = self.outgoing.get_mut(self.next).filter(|outgoing| outgoing.owner < owners) else {
                break;
            };
            outgoing.send(ids, &self.open, &mut packets);
            if let State::Sent(id) | State::Released(id) = outgoing.state
                && outgoing.qos > QoS::AtMostOnce
            {
                self.open.insert(id, self.next);
            }
            self.next += 1;
        }
        out.extend_from_slice(&packets);
    }

    /// Everything that was encoded has been handed to the system: the end of a message without an answer.
    pub(super) fn flushed(&mut self) {
        for outgoing in &mut self.outgoing[self.flushed..self.next] {
            if outgoing.qos == QoS::AtMostOnce && outgoing.state != State::Done {
                outgoing.state = State::Done;
                self.done += 1;
            }
        }
        self.flushed = self.next;
    }

    /// What an answer changes; what it asks for goes to `out`.
    pub(super) fn answered(&mut self, answer: Answer, out: &mut BytesMut) {
        match answer {
            Answer::PubAck(id) => self.end(id, QoS::AtLeastOnce),
            Answer::PubComp(id) => self.end(id, QoS::ExactlyOnce),
            Answer::PubRec(id) => {
                if let Some(at) = self.open.get(&id)
                    && self.outgoing[*at].qos == QoS::ExactlyOnce
                {
                    self.outgoing[*at].state = State::Released(id);
                }
                // Also for an id that nobody knows any more: else the broker would keep it for ever.
                let mut release = Vec::with_capacity(4);
                packet::release(id, &mut release);
                out.extend_from_slice(&release);
            }
            Answer::PingResp | Answer::ConnAck { .. } => {}
        }
    }

    fn end(&mut self, id: u16, qos: QoS) {
        let Some(at) = self.open.get(&id).copied().filter(|at| self.outgoing[*at].qos == qos) else { return };
        self.open.remove(&id);
        self.outgoing[at].state = State::Done;
        self.done += 1;
    }
}

impl Outgoing {
    fn send(&mut self, ids: &mut Ids, open: &HashMap<u16, usize>, out: &mut Vec<u8>) {
        let (id, again) = match self.state {
            State::Done => return,
            State::Released(id) => return packet::release(id, out),
            State::Sent(id) => (id, true),
            State::Waiting if self.qos == QoS::AtMostOnce => (0, false),
            State::Waiting => (ids.free(open), false),
        };
        self.publish(id, again).encode(out);
        self.state = State::Sent(id);
    }

    fn publish(&self, id: u16, again: bool) -> Publish<'_> {
        let Self { message, qos, retain, .. } = self;
        Publish { topic: &message.topic, payload: message.payload.as_bytes(), qos: *qos, retain: *retain, again, id }
    }
}

impl Ids {
    fn free(&mut self, open: &HashMap<u16, usize>) -> u16 {
        loop {
            self.0 = self.0.checked_add(1).unwrap_or(1);
            if !open.contains_key(&self.0) {
                return self.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(qos: QoS, messages: usize) -> Exchange {
        let mut exchange = Exchange::default();
        for n in 0..messages {
            let message = Message { topic: format!("t{n}"), payload: n.to_string(), field: None };
            exchange.push(message, n / 2, qos, false);
        }
        exchange
    }

    fn filled(exchange: &mut Exchange, ids: &mut Ids) -> Vec<u8> {
        let mut out = BytesMut::new();
        exchange.fill(usize::MAX, ids, &mut out);
        out.to_vec()
    }

    #[test]
    fn a_record_is_finished_when_all_of_its_messages_are() {
        let mut exchange = exchange(QoS::AtLeastOnce, 5);
        assert!(!filled(&mut exchange, &mut Ids::default()).is_empty());
        for id in [1, 2, 3, 3, 700] {
            exchange.answered(Answer::PubAck(id), &mut BytesMut::new());
        }
        assert_eq!(exchange.finished(3), [true, false, false]);
        assert_eq!(exchange.done(), 3);
        exchange.retain_unfinished(&[true, false, false]);
        assert_eq!(exchange.finished(2), [false, false]);
        assert_eq!(exchange.outgoing.len(), 2, "the half that is done is not sent again");
    }

    #[test]
    fn an_answer_for_another_quality_of_service_ends_nothing() {
        let mut exchange = exchange(QoS::ExactlyOnce, 1);
        filled(&mut exchange, &mut Ids::default());
        exchange.answered(Answer::PubAck(1), &mut BytesMut::new());
        assert!(!exchange.is_done(usize::MAX));
        let mut out = BytesMut::new();
        exchange.answered(Answer::PubRec(1), &mut out);
        assert_eq!(&out[..], b"\x62\x02\0\x01");
        exchange.answered(Answer::PubComp(1), &mut out);
        assert!(exchange.is_done(usize::MAX));
    }

    #[test]
    fn a_session_that_is_still_there_goes_on_and_a_new_one_starts_again() {
        for (session_present, expected) in [
            (true, &b"\x62\x02\0\x01\x3c\x07\0\x02t1\0\x021\x34\x07\0\x02t2\0\x032"[..]),
            (false, b"\x34\x07\0\x02t0\0\x020\x34\x07\0\x02t1\0\x031\x34\x07\0\x02t2\0\x042"),
        ] {
            let (mut exchange, mut ids) = (exchange(QoS::ExactlyOnce, 3), Ids::default());
            let mut out = BytesMut::new();
            exchange.fill(1, &mut ids, &mut out);
            exchange.answered(Answer::PubRec(1), &mut out);
            if !session_present {
                ids = Ids(1);
            }
            exchange.resume(session_present);
            assert_eq!(filled(&mut exchange, &mut ids), expected, "session present: {session_present}");
        }
    }

    #[test]
    fn without_answers_being_handed_to_the_system_is_the_end() {
        let mut exchange = exchange(QoS::AtMostOnce, 3);
        let mut out = BytesMut::new();
        exchange.fill(1, &mut Ids::default(), &mut out);
        assert_eq!(&out[..], b"\x30\x05\0\x02t00\x30\x05\0\x02t11");
        exchange.flushed();
        assert_eq!(exchange.finished(2), [true, false]);
        exchange.resume(false);
        assert_eq!(filled(&mut exchange, &mut Ids::default()), b"\x30\x05\0\x02t22");
    }

    #[test]
    fn the_window_bounds_what_is_unanswered_and_ids_in_use_are_left_out() {
        let (mut exchange, mut ids) = (exchange(QoS::AtLeastOnce, WINDOW + 10), Ids(65_530));
        while !filled(&mut exchange, &mut ids).is_empty() {}
        assert_eq!(exchange.open.len(), WINDOW);
        assert!(!exchange.open.contains_key(&0), "0 is no id");
        exchange.answered(Answer::PubAck(65_531), &mut BytesMut::new());
        assert_eq!(filled(&mut exchange, &mut ids).len(), 2 + 2 + 5 + 2 + 4);
        let mut busy = Ids(u16::MAX - 1);
        assert_eq!(busy.free(&HashMap::from([(u16::MAX, 0), (1, 0), (2, 0)])), 3);
    }
}
