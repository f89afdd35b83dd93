//! What the system is told about a vehicle's TCP connection.

use std::io;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::config;

/// Probes of a quiet connection before it is given up, spread over as long as it was quiet.
const PROBES: u32 = 4;

/// Sends at once what there is to send, and has the system find out when nobody acknowledges it any more.
pub(super) fn configure(tcp: &TcpStream, config: &config::Listener) -> io::Result<()> {
    // A few hundred bytes in each direction; waiting to fill a segment only delays acks.
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(config.tcp_keepalive)
        .with_interval((config.tcp_keepalive / PROBES).max(std::time::Duration::from_secs(1)))
        .with_retries(PROBES);
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(config.tcp_user_timeout))
}
