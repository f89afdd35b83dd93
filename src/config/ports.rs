//! Where listeners listen, and that no two of them want the same.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use super::Config;
use super::error::{ConfigError, Problems};

/// Where `host` is.
pub(super) fn address(key: &'static str, host: &str, port: u16, problems: &mut Problems) -> Option<SocketAddr> {
    let found = look_up(host, port);
    if found.is_none() {
        problems.not_allowed(key, host, "IP addresses and host names that resolve");
    }
    found
}

/// Reports listeners that would take each other's port. Port 0 is a free one.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    let wanted = wanted(config);
    for (at, (key, address)) in wanted.iter().enumerate() {
        let taken = wanted[..at].iter().find(|(_, other)| overlap(*address, *other));
        if let Some((other, taken)) = taken {
            let problem = format!("{address} is taken by {other} ({taken}); give another port");
            problems.error(ConfigError::Conflict { key, problem });
        }
    }
}

/// Each listener's key, and its address, in the order in which they are bound.
fn wanted(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let listener = &config.listener;
    let vehicles = match listener.host.as_str() {
        "" => Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), listener.port)),
        // One that does not resolve is the listener's to report: it may at another time.
        host => look_up(host, listener.port),
    };
    let api = config.permissions.as_ref().and_then(|permissions| permissions.api.as_ref());
    let public = config.onboarding.as_ref().and_then(|onboarding| onboarding.public.as_ref());
    let all = [
        ("port", vehicles),
        ("status_port", config.admin.status),
        ("monitoring.prometheus_metrics_port", config.admin.metrics),
        ("permissions.api.port", api.map(|api| api.address)),
        ("onboarding.public.port", public.map(|public| public.address)),
    ];
    all.into_iter().filter_map(|(key, address)| Some((key, address?))).collect()
}

fn look_up(host: &str, port: u16) -> Option<SocketAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, port)),
        Err(_) => (bare, port).to_socket_addrs().ok()?.next(),
    }
}

/// Whether the system gives only one of them to a process. `[::]` is all addresses, of IPv4, too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| match all {
        IpAddr::V6(all) => all.is_unspecified(),
        IpAddr::V4(all) => all.is_unspecified() && one.is_ipv4(),
    };
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_as_the_system_sees_them() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::1]:1", "[::]:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        }
    }
}
