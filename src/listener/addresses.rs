//! Connections per client address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections; touched when a connection starts and when it ends, never per record.
#[derive(Debug)]
pub(super) struct Addresses {
    limit: usize,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address; given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, connections: Mutex::default() }
    }

    /// `None` when the address has as many connections as it may.
    pub(super) fn enter(addresses: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut connections = addresses.lock();
        let count = connections.entry(address).or_default();
        if *count >= addresses.limit {
            return None;
        }
        *count += 1;
        Some(Place { addresses: Arc::clone(addresses), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.addresses.lock();
        if let Some(count) = connections.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_place_back_and_leaves_nothing_behind() {
        let addresses = Arc::new(Addresses::new(2));
        let address = IpAddr::from([192, 0, 2, 1]);
        let first = Addresses::enter(&addresses, address).unwrap();
        let second = Addresses::enter(&addresses, address).unwrap();
        assert!(Addresses::enter(&addresses, address).is_none());
        assert!(Addresses::enter(&addresses, IpAddr::from([192, 0, 2, 2])).is_some());
        drop(first);
        let third = Addresses::enter(&addresses, address).unwrap();
        drop((second, third));
        assert!(addresses.lock().is_empty());
    }
}
