//! Ports, which are all bound in one way.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Of a host that is given by its name.
    #[error("host {host:?}, port {port}: {source}")]
    Host {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// Of an address.
    #[error("{key}: cannot listen on {address}: {source}")]
    Address {
        /// The configuration's key.
        key: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// Connections of vehicles that the kernel completes before this process accepts them.
const VEHICLES: u32 = 4096;
/// The same, of operators and applications.
const OPERATORS: u32 = 1024;

/// Binds a port for vehicles, on the first address of `host` that can be had. No host means all interfaces.
///
/// # Errors
/// [`BindError`] names the host and the port.
pub async fn bind_host(host: &str, port: u16) -> Result<TcpListener, BindError> {
    let error = |source| BindError::Host { host: host.to_owned(), port, source };
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = if name.is_empty() {
        vec![(Ipv6Addr::UNSPECIFIED, port).into()]
    } else {
        tokio::net::lookup_host((name, port)).await.map_err(error)?.collect()
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match listen(address, VEHICLES) {
            Ok(listener) => return Ok(listener),
            Err(source) => last = source,
        }
    }
    Err(error(last))
}

/// Binds a port for operators or applications, within a Tokio runtime.
///
/// # Errors
/// When the port is taken or the address is not this host's.
pub fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address, OPERATORS).map_err(|source| BindError::Address { key, address, source })
}

/// `[::]` means all interfaces, also on hosts without IPv6.
fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    match listen_on(address, backlog) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_no_ipv6(&error) => {
            listen_on((Ipv4Addr::UNSPECIFIED, address.port()).into(), backlog)
        }
        bound => bound,
    }
}

fn listen_on(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

fn is_no_ipv6(error: &io::Error) -> bool {
    /// Linux' number for an address family that the kernel does not have.
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_host_and_the_address_without_one_mean_all_interfaces() {
        for listener in [bind_host("", 0).await.unwrap(), bind("port", "[::]:0".parse().unwrap()).unwrap()] {
            let port = listener.local_addr().unwrap().port();
            assert!(tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_its_key() {
        let taken = bind("port", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind("status_port", address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("status_port: cannot listen on {address}: ")), "{error}");
        let error = bind_host("[127.0.0.1]", address.port()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("host \"[127.0.0.1]\", port {}: ", address.port())), "{error}");
    }
}
