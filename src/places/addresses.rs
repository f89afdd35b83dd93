//! Connections per client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// Counts connections; touched when a connection starts and when it ends, never per record.
#[derive(Debug)]
pub struct Addresses {
    limit: usize,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address; given back on drop.
#[derive(Debug)]
pub struct Share {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

/// What counts as one address: whoever has an IPv6 address mostly has all 2^64 of its network.
pub(super) fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

impl Addresses {
    /// At most `limit` connections of each address.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, connections: Mutex::default() }
    }

    /// `None` when the address has as many connections as it may.
    pub(super) fn enter(addresses: &Arc<Self>, address: IpAddr) -> Option<Share> {
        let mut connections = addresses.lock();
        let count = connections.entry(address).or_default();
        if *count >= addresses.limit {
            return None;
        }
        *count += 1;
        Some(Share { addresses: Arc::clone(addresses), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.connections.lock()
    }
}

impl Drop for Share {
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

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_ipv4_address_is_itself() {
        let counted = |text: &str| super::counted(text.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(counted("192.0.2.1"), "192.0.2.1");
    }
}
