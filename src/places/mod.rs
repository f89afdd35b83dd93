//! Places of a listener for connections that have proven nothing yet, and who makes room when they are taken.
//!
//! A connection that waits for its peer costs its peer nothing, so anybody can have many of them. They are bounded, and
//! the bound locks nobody out: whoever comes last gets a place, of the one that has waited longest. Only a connection
//! that the server itself is at work for keeps its place.

mod addresses;
mod taken;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

pub use self::addresses::{Addresses, Share};
use self::taken::Taken;

/// What speaks for a connection's staying when its place is needed; the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// Nothing: it is silent, and makes room as soon as it has been so for the time that the listener spares it.
    Weak,
    /// Its peer has taken a first step and owes the next: it makes room after [`GRACE`] of waiting.
    Fair,
    /// The server is at work for it.
    Firm,
}

/// How long the server waits for a peer that has taken the first step, in all, before its place is for others: some
/// round trips over a mobile network, and a loss.
pub const GRACE: Duration = Duration::from_secs(2);

/// How often a full listener looks whether somebody's time is over.
const LOOK: Duration = Duration::from_millis(20);

/// A bounded number of places.
pub struct Places {
    /// Asked each time: it may depend on what else there is.
    limit: Box<dyn Fn() -> usize + Send + Sync>,
    addresses: Arc<Addresses>,
    taken: Mutex<Taken>,
    freed: Notify,
}

/// The only connection in a place; given back on drop.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    id: u64,
}

/// Tells a connection that another one has its place now, and what its claim was.
pub type Displaced = oneshot::Receiver<Claim>;

/// An address has as many connections as it may, and none of them makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressFull;

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").field("taken", &self.len()).finish_non_exhaustive()
    }
}

impl Places {
    /// `limit` places, for connections that also count among those of their address. Nobody has to make room before it
    /// has been silent for `spare`: what it has to say may be under way.
    #[must_use]
    pub fn new(
        limit: impl Fn() -> usize + Send + Sync + 'static,
        addresses: Arc<Addresses>,
        spare: Duration,
    ) -> Arc<Self> {
        let taken = Mutex::new(Taken::new(spare));
        Arc::new(Self { limit: Box::new(limit), addresses, taken, freed: Notify::new() })
    }

    /// Waits until a newcomer will find room, which others may have to make.
    pub async fn room(&self) {
        while !self.has_room() {
            let _ = tokio::time::timeout(LOOK, self.freed.notified()).await;
        }
    }

    /// Whether a newcomer would find room.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let taken = self.lock();
        taken.len() < (self.limit)() || taken.first_due(Instant::now()).is_some()
    }

    /// A place with a weak claim; when all are taken, of the one that has to make room first.
    ///
    /// # Errors
    /// [`AddressFull`].
    pub fn enter(places: &Arc<Self>, address: IpAddr) -> Result<(Place, Displaced), AddressFull> {
        let address = addresses::counted(address);
        let now = Instant::now();
        let mut taken = places.lock();
        let share = match Addresses::enter(&places.addresses, address) {
            Some(share) => share,
            None => {
                let due = taken.first_due_of(address, now).ok_or(AddressFull)?;
                taken.displace(due);
                Addresses::enter(&places.addresses, address).ok_or(AddressFull)?
            }
        };
        if taken.len() >= (places.limit)()
            && let Some(due) = taken.first_due(now)
        {
            taken.displace(due);
        }
        let (id, displaced) = taken.enter(address, share, now);
        drop(taken);
        Ok((Place { places: Arc::clone(places), id }, displaced))
    }

    /// Takes the place of the one that has to make room first, for nobody; false if all claims are good.
    pub fn displace(&self) -> bool {
        let mut taken = self.lock();
        let due = taken.first_due(Instant::now());
        due.map(|due| taken.displace(due)).is_some()
    }

    /// Displaces all that have a weak claim.
    pub fn clear_weak(&self) {
        self.lock().clear_weak();
    }

    /// How many are taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until nobody is there.
    pub async fn emptied(&self) {
        while !self.is_empty() {
            let _ = tokio::time::timeout(LOOK, self.freed.notified()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock()
    }
}

impl Place {
    /// From now on, this speaks for the connection. To say it again counts as a sign of life for a weak claim, and as
    /// none for a fair one.
    pub fn claim(&self, claim: Claim) {
        self.places.lock().claim(self.id, claim, Instant::now());
    }

    /// Gives the place back and keeps the connection's share of its address; `None` when it was displaced just now.
    #[must_use]
    pub fn leave(self) -> Option<Share> {
        self.places.lock().remove(self.id)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Given back behind the lock.
        let _share = self.places.lock().remove(self.id);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn places(limit: usize, per_address: usize) -> Arc<Places> {
        Places::new(move || limit, Arc::new(Addresses::new(per_address)), Duration::ZERO)
    }

    fn enter(places: &Arc<Places>, address: IpAddr) -> (Place, Displaced) {
        Places::enter(places, address).unwrap()
    }

    /// Makes all claims older.
    fn age(places: &Places, by: Duration) {
        places.lock().age(by);
    }

    #[test]
    fn the_one_that_was_silent_for_longest_makes_room() {
        let places = places(2, 9);
        let (first, mut first_displaced) = enter(&places, HERE);
        let (_second, mut second_displaced) = enter(&places, HERE);
        let (_third, mut third_displaced) = enter(&places, THERE);
        assert_eq!(first_displaced.try_recv(), Ok(Claim::Weak));
        assert!(second_displaced.try_recv().is_err() && third_displaced.try_recv().is_err());
        assert_eq!(places.len(), 2);
        assert!(first.leave().is_none(), "it has no place any more");
        assert_eq!(places.len(), 2);
    }

    #[test]
    fn a_sign_of_life_puts_a_weak_claim_behind_the_others() {
        let places = places(2, 9);
        let (first, mut first_displaced) = enter(&places, HERE);
        let (_second, mut second_displaced) = enter(&places, HERE);
        first.claim(Claim::Weak);
        let _third = enter(&places, HERE);
        assert!(first_displaced.try_recv().is_err());
        assert_eq!(second_displaced.try_recv(), Ok(Claim::Weak));
    }

    #[test]
    fn whoever_owes_a_step_has_the_grace_and_whom_the_server_works_for_stays() {
        let places = places(2, 9);
        let (fair, mut fair_displaced) = enter(&places, HERE);
        let (firm, mut firm_displaced) = enter(&places, HERE);
        fair.claim(Claim::Fair);
        firm.claim(Claim::Firm);
        assert!(!places.has_room() && !places.displace());
        age(&places, GRACE);
        assert!(places.has_room());
        let _third = enter(&places, HERE);
        assert_eq!(fair_displaced.try_recv(), Ok(Claim::Fair));
        assert!(firm_displaced.try_recv().is_err());
    }

    #[test]
    fn whoever_has_come_just_now_has_a_moment_to_speak() {
        let places = Places::new(|| 1, Arc::new(Addresses::new(9)), Duration::from_secs(60));
        let (_first, mut displaced) = enter(&places, HERE);
        assert!(!places.has_room() && !places.displace());
        age(&places, Duration::from_secs(60));
        assert!(places.has_room());
        let _second = enter(&places, HERE);
        assert_eq!(displaced.try_recv(), Ok(Claim::Weak));
    }

    #[test]
    fn the_slow_make_room_while_all_the_silent_have_come_just_now() {
        let places = Places::new(|| 2, Arc::new(Addresses::new(9)), GRACE);
        let (fair, mut fair_displaced) = enter(&places, HERE);
        fair.claim(Claim::Fair);
        age(&places, GRACE);
        let (_silent, mut silent_displaced) = enter(&places, HERE);
        assert!(places.has_room());
        let _third = enter(&places, HERE);
        assert_eq!(fair_displaced.try_recv(), Ok(Claim::Fair));
        assert!(silent_displaced.try_recv().is_err());
    }

    #[test]
    fn time_that_the_server_takes_is_not_time_that_the_peer_takes() {
        let places = places(1, 9);
        let (place, _displaced) = enter(&places, HERE);
        place.claim(Claim::Firm);
        age(&places, 5 * GRACE);
        place.claim(Claim::Fair);
        assert!(!places.has_room(), "the server was slow, not the peer");
        age(&places, GRACE * 2 / 3);
        place.claim(Claim::Firm);
        place.claim(Claim::Fair);
        assert!(!places.has_room());
        age(&places, GRACE * 2 / 3);
        assert!(places.has_room(), "a byte now and then does not stretch the grace");
    }

    #[test]
    fn an_address_that_has_all_it_may_gets_only_what_is_its_own() {
        let places = places(9, 2);
        let (other, mut other_displaced) = enter(&places, THERE);
        let (first, mut first_displaced) = enter(&places, HERE);
        let (second, _) = enter(&places, HERE);
        let (third, _) = enter(&places, HERE);
        assert_eq!(first_displaced.try_recv(), Ok(Claim::Weak));
        assert!(other_displaced.try_recv().is_err());
        second.claim(Claim::Firm);
        let session = third.leave().unwrap();
        assert_eq!(Places::enter(&places, HERE).unwrap_err(), AddressFull, "a session counts as well");
        drop((first, session));
        assert!(Places::enter(&places, HERE).is_ok());
        drop(other);
    }

    #[test]
    fn nothing_is_left_of_connections_that_have_gone() {
        let places = places(9, 9);
        let (one, _) = enter(&places, HERE);
        let (two, _) = enter(&places, THERE);
        two.claim(Claim::Fair);
        drop(one);
        drop(two.leave());
        assert!(places.lock().is_clean());
    }

    #[test]
    fn the_silent_can_be_sent_away_together() {
        let places = places(9, 9);
        let (_one, mut one) = enter(&places, HERE);
        let (fair, mut two) = enter(&places, HERE);
        fair.claim(Claim::Fair);
        age(&places, 2 * GRACE);
        places.clear_weak();
        assert_eq!(one.try_recv(), Ok(Claim::Weak));
        assert!(two.try_recv().is_err());
    }

    #[tokio::test]
    async fn who_waits_for_room_is_told() {
        let places = places(1, 9);
        let (place, _displaced) = enter(&places, HERE);
        place.claim(Claim::Firm);
        let waits = tokio::spawn({
            let places = Arc::clone(&places);
            async move { tokio::join!(places.room()) }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(place);
        tokio::time::timeout(Duration::from_secs(20), waits).await.unwrap().unwrap();
        places.emptied().await;
    }
}
