//! The bound on what a dispatcher may hold, and the wait for room in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::{Full, Receipt};
use crate::config::InFlight;

/// Counts the records that a dispatcher has taken and not yet settled, and their bytes.
///
/// Full means back-pressure: the session keeps the record, stops reading from its vehicle and waits in
/// [`Outbox::room`]. A [`Receipt`] that has entered owns its place and gives it back when it settles.
#[derive(Debug)]
pub struct Outbox {
    limit: InFlight,
    /// Records in the upper bits, bytes in the lower ones: one number, so that both are always taken together.
    used: AtomicU64,
    /// Sessions that wait; lets a place that comes back skip the notification while nobody does.
    waiting: AtomicUsize,
    freed: Notify,
}

/// Room for one record in an outbox; comes back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    outbox: Arc<Outbox>,
    bytes: u64,
    was_used: bool,
}

/// 16 million records, a tebibyte.
const BYTE_BITS: u32 = 40;
const ONE_RECORD: u64 = 1 << BYTE_BITS;
const BYTES: u64 = ONE_RECORD - 1;

impl Outbox {
    /// The most that can be counted.
    pub const MOST: InFlight = InFlight { records: (1 << (u64::BITS - BYTE_BITS)) - 1, bytes: BYTES as usize };

    /// Room for `limit` (at least one record, at most [`Outbox::MOST`]). One record is taken whatever its size when
    /// nothing else is there.
    #[must_use]
    pub fn new(limit: InFlight) -> Self {
        let limit =
            InFlight { records: limit.records.clamp(1, Self::MOST.records), bytes: limit.bytes.min(Self::MOST.bytes) };
        Self { limit, used: AtomicU64::new(0), waiting: AtomicUsize::new(0), freed: Notify::new() }
    }

    /// Gives `receipt` a place, which it keeps until it is settled.
    ///
    /// # Errors
    /// [`Full`] when there is none.
    pub fn enter(self: &Arc<Self>, mut receipt: Receipt) -> Result<Receipt, Full> {
        let bytes = (receipt.held_bytes() as u64).min(BYTES);
        let admit = |used| self.admits(used, bytes).then(|| used + ONE_RECORD + bytes);
        if self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, admit).is_err() {
            return Err(Full(receipt));
        }
        receipt.take_place(Place { outbox: Arc::clone(self), bytes, was_used: true });
        Ok(receipt)
    }

    fn admits(&self, used: u64, bytes: u64) -> bool {
        let (records, used) = (used >> BYTE_BITS, used & BYTES);
        let fits = used + bytes <= self.limit.bytes as u64;
        records == 0 || (records < self.limit.records as u64 && fits)
    }

    fn leave(&self, bytes: u64) {
        self.used.fetch_sub(ONE_RECORD + bytes, Ordering::AcqRel);
    }

    /// Wakes whoever waits for room, also when room appeared elsewhere (a client library's own queue).
    pub fn wake(&self) {
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.freed.notify_one();
        }
    }

    /// Records taken and not settled, and their bytes.
    #[must_use]
    pub fn used(&self) -> InFlight {
        let used = self.used.load(Ordering::Relaxed);
        let part = |part: u64| usize::try_from(part).unwrap_or(usize::MAX);
        InFlight { records: part(used >> BYTE_BITS), bytes: part(used & BYTES) }
    }

    /// The bound.
    #[must_use]
    pub fn limit(&self) -> InFlight {
        self.limit
    }

    /// Waits until there may be room. A caller that then finds none waits again; the pause bounds how
    /// long a lost wake-up can last and how often a crowd tries.
    pub async fn room(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let guard = Waiting(self);
        let _ = tokio::time::timeout(RETRY, self.freed.notified()).await;
        drop(guard);
    }
}

impl Place {
    /// Gives it back unused, because the client library had no room. Wakes nobody: those who wait would find the
    /// library just as full, and wake each other in a circle.
    pub(super) fn withdraw(mut self) {
        self.was_used = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.outbox.leave(self.bytes);
        if self.was_used {
            self.outbox.wake();
        }
    }
}

/// How long to wait for a wake-up before looking again.
const RETRY: std::time::Duration = std::time::Duration::from_millis(250);

struct Waiting<'a>(&'a Outbox);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DispatcherName;
    use crate::dispatch::DispatcherMetrics;
    use crate::record::{Record, RecordKind, Topics, fixture};

    fn receipt(bytes: usize) -> Receipt {
        let metrics = Arc::new(DispatcherMetrics::register(DispatcherName::Kafka, &Topics::new([])));
        Receipt::unobserved(
            &Record::from_parts(RecordKind::V, &vec![0; bytes], b"", fixture::origin("VIN"), fixture::received()),
            &metrics,
        )
    }

    fn outbox(records: usize, bytes: usize) -> Arc<Outbox> {
        Arc::new(Outbox::new(InFlight { records, bytes }))
    }

    #[test]
    fn records_and_bytes_are_bounded_each_and_come_back_together() {
        let outbox = outbox(2, 10_000);
        let held = receipt(1000).held_bytes();
        let first = outbox.enter(receipt(1000)).unwrap();
        assert_eq!(outbox.used(), InFlight { records: 1, bytes: held });
        let second = outbox.enter(receipt(1)).unwrap();
        assert!(outbox.enter(receipt(1)).is_err(), "two records are the limit");
        second.delivered();
        let Err(Full(large)) = outbox.enter(receipt(9_900)) else { panic!("the bytes are used up") };
        first.delivered();
        assert_eq!(outbox.used(), InFlight { records: 0, bytes: 0 });
        drop(outbox.enter(large).unwrap());
        assert_eq!(outbox.used(), InFlight { records: 0, bytes: 0 }, "also when nobody settles it");
    }

    #[test]
    fn a_record_above_the_limit_is_taken_when_it_is_alone() {
        let outbox = outbox(10, 100);
        let alone = outbox.enter(receipt(1_000_000)).unwrap();
        assert!(outbox.enter(receipt(1)).is_err());
        drop(alone);
        let small = outbox.enter(receipt(1)).unwrap();
        assert!(outbox.enter(receipt(1_000_000)).is_err());
        drop(small);
    }

    #[test]
    fn counts_stay_apart_at_the_largest_bounds() {
        let outbox = outbox(usize::MAX, usize::MAX);
        assert_eq!(outbox.limit(), Outbox::MOST);
        let held: Vec<_> = (0..1000).map(|_| outbox.enter(receipt(10_000)).unwrap()).collect();
        assert_eq!(outbox.used(), InFlight { records: 1000, bytes: held.iter().map(Receipt::held_bytes).sum() });
        drop(held);
        assert_eq!(outbox.used(), InFlight { records: 0, bytes: 0 });
    }
}
