//! MQTT 3.1.1 as far as a publisher speaks it, without I/O.
//!
//! ```text
//!  byte 0: type (4 bits), flags (4 bits)   bytes 1 to 4: length of what follows, 7 bits each, low ones first
//!
//!  CONNECT  ─▶                       PUBLISH (QoS 1) ─▶            PUBLISH (QoS 2) ─▶
//!           ◀─ CONNACK                               ◀─ PUBACK                     ◀─ PUBREC
//!  PINGREQ  ─▶                                                     PUBREL          ─▶
//!           ◀─ PINGRESP              DISCONNECT ─▶                                 ◀─ PUBCOMP
//! ```

use crate::config::QoS;

/// Who connects, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connect<'a> {
    pub(super) client_id: &'a str,
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) clean_session: bool,
    /// Seconds; the broker gives a silent client up after one and a half times as long.
    pub(super) keep_alive: u16,
}

/// One message to publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publish<'a> {
    /// At most 65,535 bytes.
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// It was sent before, under this id.
    pub(super) again: bool,
    /// Not 0; QoS 0 has none.
    pub(super) id: u16,
}

/// What a broker says to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker has accepted the connection, or not (`code` other than 0).
    ConnAck {
        /// It remembers what was on its way.
        session_present: bool,
        /// 0: accepted.
        code: u8,
    },
    /// QoS 1: it has the message.
    PubAck(u16),
    /// QoS 2: it has the message, and waits to hear that this is known.
    PubRec(u16),
    /// QoS 2: it has forgotten the id.
    PubComp(u16),
    /// It is there.
    PingResp,
}

/// The broker sent something that a publisher is never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker does not speak MQTT 3.1.1: packet of type {kind} with {len} bytes")]
pub struct Malformed {
    kind: u8,
    len: usize,
}

const CONNECT: u8 = 1 << 4;
const CONNACK: u8 = 2 << 4;
const PUBLISH: u8 = 3 << 4;
const PUBACK: u8 = 4 << 4;
const PUBREC: u8 = 5 << 4;
/// Its flags are fixed.
const PUBREL: u8 = 6 << 4 | 0b10;
const PUBCOMP: u8 = 7 << 4;
const PINGREQ: u8 = 12 << 4;
const PINGRESP: u8 = 13 << 4;
const DISCONNECT: u8 = 14 << 4;

/// The longest packet that the four bytes of the length allow.
const MOST: usize = 268_435_455;

impl Connect<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = u8::from(self.clean_session) << 1;
        flags |= u8::from(self.username.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        let mut body = Vec::with_capacity(64);
        text(&mut body, "MQTT");
        body.extend([4, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        text(&mut body, self.client_id);
        self.username.iter().chain(&self.password).for_each(|part| text(&mut body, part));
        out.push(CONNECT);
        length(out, body.len());
        out.extend(body);
    }
}

impl Publish<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let has_id = self.qos > QoS::AtMostOnce;
        out.push(PUBLISH | u8::from(self.again && has_id) << 3 | (self.qos as u8) << 1 | u8::from(self.retain));
        length(out, self.len());
        text(out, self.topic);
        if has_id {
            out.extend(self.id.to_be_bytes());
        }
        out.extend_from_slice(self.payload);
    }

    fn len(&self) -> usize {
        2 + self.topic.len() + if self.qos > QoS::AtMostOnce { 2 } else { 0 } + self.payload.len()
    }
}

/// Whether a message fits into a packet.
pub(super) fn fits(topic: &str, payload: usize) -> bool {
    topic.len() <= usize::from(u16::MAX) && 2 + topic.len() + 2 + payload <= MOST
}

/// The answer to [`Answer::PubRec`].
pub(super) fn release(id: u16, out: &mut Vec<u8>) {
    let [high, low] = id.to_be_bytes();
    out.extend([PUBREL, 2, high, low]);
}

pub(super) fn ping(out: &mut Vec<u8>) {
    out.extend([PINGREQ, 0]);
}

pub(super) fn disconnect(out: &mut Vec<u8>) {
    out.extend([DISCONNECT, 0]);
}

/// Reads one answer from the front of `bytes`, and how many bytes it took; `None` while it is not whole.
///
/// # Errors
/// [`Malformed`], by the first bytes alone: no answer to a publisher is longer than four bytes, so nothing else is
/// waited for.
pub fn decode(bytes: &[u8]) -> Result<Option<(Answer, usize)>, Malformed> {
    let [head, len, body @ ..] = bytes else { return Ok(None) };
    let malformed = Malformed { kind: head >> 4, len: usize::from(*len) };
    let expected = match *head {
        CONNACK | PUBACK | PUBREC | PUBCOMP => 2,
        PINGRESP => 0,
        _ => return Err(malformed),
    };
    if *len != expected {
        return Err(malformed);
    }
    let answer = match (*head, body) {
        (PINGRESP, _) => Answer::PingResp,
        (_, [] | [_]) => return Ok(None),
        (CONNACK, [flags, code, ..]) => Answer::ConnAck { session_present: flags & 1 == 1, code: *code },
        (kind, [high, low, ..]) => {
            let id = u16::from_be_bytes([*high, *low]);
            match kind {
                PUBACK => Answer::PubAck(id),
                PUBREC => Answer::PubRec(id),
                _ => Answer::PubComp(id),
            }
        }
    };
    Ok(Some((answer, 2 + usize::from(expected))))
}

/// Why a broker refuses a connection.
pub(super) fn refusal(code: u8) -> &'static str {
    match code {
        1 => "it does not speak MQTT 3.1.1",
        2 => "it does not accept the client id",
        3 => "it is not available",
        4 => "wrong user name or password",
        5 => "not authorised",
        _ => "for a reason that MQTT 3.1.1 does not know",
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("texts are cut before");
    out.extend(len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn length(out: &mut Vec<u8>, mut len: usize) {
    loop {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits")]
        let low = (len & 0x7f) as u8;
        len >>= 7;
        out.push(low | u8::from(len > 0) << 7);
        if len == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        out
    }

    const CONNECTION: Connect<'_> =
        Connect { client_id: "ft", username: None, password: None, clean_session: true, keep_alive: 30 };

    #[test]
    fn packets_are_those_of_the_standard() {
        let plain = encoded(|out| CONNECTION.encode(out));
        assert_eq!(plain, b"\x10\x0e\0\x04MQTT\x04\x02\0\x1e\0\x02ft");
        let named = Connect { username: Some("u"), password: Some("pw"), clean_session: false, ..CONNECTION };
        assert_eq!(encoded(|out| named.encode(out)), b"\x10\x15\0\x04MQTT\x04\xc0\0\x1e\0\x02ft\0\x01u\0\x02pw");
        let publish =
            Publish { topic: "a/b", payload: b"5", qos: QoS::AtMostOnce, retain: false, again: true, id: 258 };
        assert_eq!(encoded(|out| publish.encode(out)), b"\x30\x06\0\x03a/b5", "nobody knows an earlier one");
        let publish = Publish { qos: QoS::ExactlyOnce, retain: true, ..publish };
        assert_eq!(encoded(|out| publish.encode(out)), b"\x3d\x08\0\x03a/b\x01\x025");
        assert_eq!(encoded(|out| release(258, out)), b"\x62\x02\x01\x02");
        assert_eq!(encoded(ping), b"\xc0\0");
        assert_eq!(encoded(disconnect), b"\xe0\0");
    }

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        for (len, bytes) in [
            (0, &b"\0"[..]),
            (127, b"\x7f"),
            (128, b"\x80\x01"),
            (16_383, b"\xff\x7f"),
            (16_384, b"\x80\x80\x01"),
            (MOST, b"\xff\xff\xff\x7f"),
        ] {
            assert_eq!(encoded(|out| length(out, len)), bytes, "{len}");
        }
    }

    #[test]
    fn answers_are_read_once_they_are_whole() {
        let stream = b"\x20\x02\x01\x05\x40\x02\x01\x02\x50\x02\0\x07\x70\x02\0\x07\xd0\0";
        let mut answers = Vec::new();
        let mut rest = &stream[..];
        while let Some((answer, taken)) = decode(rest).unwrap() {
            (0..taken).for_each(|cut| assert_eq!(decode(&rest[..cut]), Ok(None)));
            answers.push(answer);
            rest = &rest[taken..];
        }
        assert!(rest.is_empty());
        assert_eq!(
            answers,
            [
                Answer::ConnAck { session_present: true, code: 5 },
                Answer::PubAck(258),
                Answer::PubRec(7),
                Answer::PubComp(7),
                Answer::PingResp
            ]
        );
    }

    #[test]
    fn what_no_publisher_is_sent_is_refused_at_once() {
        for bytes in [&b"\x30\xff"[..], b"\x40\x03", b"\x40\x80", b"\xd0\x01", b"\x90\x03", b"HTTP/1.1 400"] {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.starts_with("the broker does not speak MQTT 3.1.1: packet of type "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes: Vec<u8>) {
            let mut rest = &bytes[..];
            while let Ok(Some((_, taken))) = decode(rest) {
                prop_assert!((2..=4).contains(&taken));
                rest = &rest[taken..];
            }
        }
    }
}
