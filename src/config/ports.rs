//! Where listeners listen.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::error::Problems;

pub(super) fn address(key: &'static str, host: &str, port: u16, problems: &mut Problems) -> Option<SocketAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = match bare.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, port)),
        Err(_) => (bare, port).to_socket_addrs().ok().and_then(|mut addresses| addresses.next()),
    };
    if found.is_none() {
        problems.not_allowed(key, host, "IP addresses and host names that resolve");
    }
    found
}
