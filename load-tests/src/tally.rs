//! What happened, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::ser::SerializeMap;
use strum::{IntoStaticStr, VariantArray};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Count {
    /// Connections that opened.
    Connected,
    /// Attempts that did not.
    ConnectFailed,
    /// Connections that the server or the network ended.
    Disconnected,
    /// Connections that the vehicle ended.
    Closed,
    /// Messages that vehicles made.
    Made,
    /// Messages sent for the first time.
    Sent,
    /// Messages sent once more.
    Resent,
    /// Messages acked for the first time.
    Acked,
    /// Further acks of messages that were sent more than once, or dropped after they were sent.
    #[strum(serialize = "repeated_acks")]
    Repeated,
    /// Messages dropped because the buffer was full.
    Dropped,
    /// Messages sent and not acked at the end.
    Lost,
    /// Messages not even sent at the end.
    Unsent,
    /// Error responses.
    #[strum(serialize = "errors")]
    Refused,
    /// More acks than copies were sent.
    #[strum(serialize = "duplicates")]
    DuplicateAck,
    /// Acks for messages that were never sent.
    #[strum(serialize = "unknown_acks")]
    UnknownAck,
    /// Acks with another topic than the message's.
    WrongTopic,
    /// Replies that are neither an ack nor an error response.
    #[strum(serialize = "unreadable_replies")]
    Unreadable,
    /// Messages that deaf vehicles sent; in no other count.
    DeafSent,
    /// Connections of deaf vehicles that the server or the network ended; also in `Disconnected`.
    DeafEnded,
}

/// One thread's counters; any thread may read them.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; Count::VARIANTS.len()]);

impl Tally {
    /// Counts.
    pub fn add(&self, count: Count, n: usize) {
        self.0[count as usize].fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals(std::array::from_fn(|n| self.0[n].load(Ordering::Relaxed)))
    }
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals([u64; Count::VARIANTS.len()]);

impl Totals {
    /// One of them.
    #[must_use]
    pub fn of(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// Connections open now.
    #[must_use]
    pub fn online(&self) -> u64 {
        self.of(Count::Connected).saturating_sub(self.of(Count::Disconnected) + self.of(Count::Closed))
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self(std::array::from_fn(|n| self.0[n] + other.0[n]))
    }

    /// Everything that must not happen with a correct server, in words.
    #[must_use]
    pub fn anomalies(&self) -> Vec<String> {
        use Count::{DuplicateAck, Lost, Refused, UnknownAck, Unreadable, Unsent, WrongTopic};
        let words = [
            (Lost, "records sent and never acked"),
            (Unsent, "records never sent"),
            (Refused, "error responses"),
            (DuplicateAck, "acks for records acked before"),
            (UnknownAck, "acks for records never sent"),
            (WrongTopic, "acks with the wrong topic"),
            (Unreadable, "unreadable replies"),
        ];
        let present = words.into_iter().filter(|(count, _)| self.of(*count) > 0);
        present.map(|(count, words)| format!("{} {words}", self.of(count))).collect()
    }
}

impl Serialize for Totals {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Count::VARIANTS.len()))?;
        for count in Count::VARIANTS {
            map.serialize_entry(<&str>::from(count), &self.of(*count))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_own_place_and_label() {
        let tally = Tally::default();
        for (n, count) in Count::VARIANTS.iter().enumerate() {
            tally.add(*count, n + 1);
        }
        let json = serde_json::to_value(tally.totals()).expect("serializes");
        assert_eq!(json["connected"], 1);
        assert_eq!(json["unreadable_replies"], 17);
    }

    #[test]
    fn a_clean_run_has_no_anomalies_and_a_loss_is_one() {
        let tally = Tally::default();
        use Count::{Acked, DeafEnded, DeafSent, Disconnected, Repeated, Resent, Sent};
        for count in [Sent, Acked, Resent, Repeated, Disconnected, DeafSent, DeafEnded] {
            tally.add(count, 5);
        }
        assert_eq!(tally.totals().anomalies(), Vec::<String>::new());
        tally.add(Count::Lost, 2);
        assert_eq!(tally.totals().anomalies(), ["2 records sent and never acked"]);
    }
}
