//! Who has a place, in the order in which they make room.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Claim, Displaced, GRACE, Share};

#[derive(Debug)]
pub(super) struct Taken {
    /// For how long nobody who is silent has to make room.
    spare: Duration,
    next: u64,
    entries: HashMap<u64, Entry>,
    /// Of `entries`, those with a weak claim; who makes room first comes first.
    weak: BTreeSet<Rank>,
    /// Those with a fair claim, likewise.
    fair: BTreeSet<Rank>,
    /// Both within each address.
    by_address: HashMap<IpAddr, BTreeSet<Rank>>,
}

#[derive(Debug)]
struct Entry {
    rank: Rank,
    address: IpAddr,
    /// For its peer, while its claim was fair.
    waited: Duration,
    share: Share,
    displace: oneshot::Sender<Claim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    claim: Claim,
    since: Instant,
    id: u64,
}

/// A connection that has to make room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due(Rank);

impl Rank {
    fn due(self, now: Instant, spare: Duration) -> Option<Due> {
        let age = now.saturating_duration_since(self.since);
        let due = match self.claim {
            Claim::Weak => age >= spare,
            Claim::Fair => age >= GRACE,
            Claim::Firm => false,
        };
        due.then_some(Due(self))
    }
}

impl Taken {
    pub(super) fn new(spare: Duration) -> Self {
        Self {
            spare,
            next: 0,
            entries: HashMap::new(),
            weak: BTreeSet::new(),
            fair: BTreeSet::new(),
            by_address: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn enter(&mut self, address: IpAddr, share: Share, now: Instant) -> (u64, Displaced) {
        let (displace, displaced) = oneshot::channel();
        let id = self.next;
        self.next += 1;
        let rank = Rank { claim: Claim::Weak, since: now, id };
        self.entries.insert(id, Entry { rank, address, waited: Duration::ZERO, share, displace });
        self.order(rank, address);
        (id, displaced)
    }

    /// Nothing happens when the place is another one's by now.
    pub(super) fn claim(&mut self, id: u64, claim: Claim, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (before, address) = (entry.rank, entry.address);
        if before.claim == Claim::Fair {
            entry.waited = now.saturating_duration_since(before.since);
        }
        let waited = if claim == Claim::Fair { entry.waited } else { Duration::ZERO };
        let rank = Rank { claim, since: now.checked_sub(waited).unwrap_or(now), id };
        entry.rank = rank;
        self.unorder(before, address);
        self.order(rank, address);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Share> {
        self.take(id).map(|entry| entry.share)
    }

    /// Of those that are silent, else of those that are slow, who has to make room first.
    pub(super) fn first_due(&self, now: Instant) -> Option<Due> {
        let due = |ranks: &BTreeSet<Rank>| ranks.first()?.due(now, self.spare);
        due(&self.weak).or_else(|| due(&self.fair))
    }

    /// The same among the connections of one address. There nobody is spared: the newcomer cannot wait for it, and may be
    /// the only one that has something to say.
    pub(super) fn first_due_of(&self, address: IpAddr, now: Instant) -> Option<Due> {
        self.by_address.get(&address)?.first()?.due(now, Duration::ZERO)
    }

    pub(super) fn displace(&mut self, Due(rank): Due) {
        if let Some(Entry { displace, .. }) = self.take(rank.id) {
            // It may have ended by itself.
            let _ = displace.send(rank.claim);
        }
    }

    pub(super) fn clear_weak(&mut self) {
        while let Some(rank) = self.weak.first() {
            self.displace(Due(*rank));
        }
    }

    fn take(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.unorder(entry.rank, entry.address);
        Some(entry)
    }

    fn order(&mut self, rank: Rank, address: IpAddr) {
        if let Some(ranks) = self.ranks(rank.claim) {
            ranks.insert(rank);
            self.by_address.entry(address).or_default().insert(rank);
        }
    }

    fn unorder(&mut self, rank: Rank, address: IpAddr) {
        if let Some(ranks) = self.ranks(rank.claim) {
            ranks.remove(&rank);
        }
        if let Some(own) = self.by_address.get_mut(&address) {
            own.remove(&rank);
            if own.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// Nobody waits for those whom the server works for.
    fn ranks(&mut self, claim: Claim) -> Option<&mut BTreeSet<Rank>> {
        match claim {
            Claim::Weak => Some(&mut self.weak),
            Claim::Fair => Some(&mut self.fair),
            Claim::Firm => None,
        }
    }

    /// Makes all claims older.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: Duration) {
        let older: Vec<_> = self.entries.values().map(|entry| (entry.rank, entry.address)).collect();
        for (rank, address) in older {
            self.unorder(rank, address);
            let rank = Rank { since: rank.since.checked_sub(by).unwrap(), ..rank };
            self.entries.get_mut(&rank.id).unwrap().rank = rank;
            self.order(rank, address);
        }
    }

    /// Whether nothing is left of anybody.
    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.entries.is_empty() && self.weak.is_empty() && self.fair.is_empty() && self.by_address.is_empty()
    }
}
