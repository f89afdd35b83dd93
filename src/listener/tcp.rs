//! What the system is told about vehicles' TCP connections.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;

use crate::config;

/// Probes of a quiet connection before it is given up, spread over as long as it was quiet.
const PROBES: u32 = 4;

/// Has connections send at once what there is to send, and the system find out when nobody acknowledges it any more.
///
/// Said to the listening socket, once: the connections that it accepts inherit it, which saves each of them six system
/// calls.
pub(super) fn configure(listener: &TcpListener, config: &config::Listener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    // A few hundred bytes in each direction; waiting to fill a segment only delays acks.
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(config.tcp_keepalive)
        .with_interval((config.tcp_keepalive / PROBES).max(Duration::from_secs(1)))
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(config.tcp_user_timeout))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::Env;
    use crate::config::file::FileConfig;

    #[tokio::test]
    async fn accepted_connections_inherit_what_the_listener_was_told() {
        let text = r#"{
            "port": 1, "tls": {"ca_file": "-", "server_cert": "-", "server_key": "-"}, "records": {},
            "limits": {"tcp_keepalive": "40s", "tcp_user_timeout": "77s"}
        }"#;
        let (config, _) = config::resolve(FileConfig::parse(text.as_bytes()).unwrap(), &Env::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        configure(&listener, &config.listener).unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, _client) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (accepted, _) = accepted.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(40));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(77)));
    }
}
