//! Hosts and ports of others.

/// `host:port` or `host`, an IPv6 address in brackets; no host means this machine, as in the reference server.
pub(super) fn host_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (text, default_port),
    };
    let host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None if host.is_empty() => "127.0.0.1",
        None => host,
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '?' | '#' | '[' | ']' | '@');
    (!host.contains(is_odd)).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports() {
        for (text, expected) in [
            ("redis:6380", Some(("redis", 6380))),
            ("redis", Some(("redis", 1))),
            (":1883", Some(("127.0.0.1", 1883))),
            ("[::1]:8884", Some(("::1", 8884))),
            ("[::1]", Some(("::1", 1))),
            ("redis:0", None),
            ("redis:65536", None),
            ("redis:port", None),
            ("a:b:1", None),
            ("[::1:1", None),
            ("user@redis:1", None),
            ("redis/0", None),
        ] {
            assert_eq!(host_port(text, 1), expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
        }
    }
}
