//! TCP, TLS and the WebSocket upgrade, client side.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Socket;

/// No server sends more header bytes than this.
const MAX_HEAD: usize = 16 * 1024;
/// Any 16 bytes do; the key guards against caches, and there are none.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The kernel doubles it, and the handshake must fit.
const LITTLE: u32 = 4 * 1024;
/// Bytes.
const MOBILE_SEGMENT: u32 = 1_400;

/// Why a connection did not open.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP or TLS failed; rustls' reasons come as I/O errors.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server answered the upgrade with something else.
    #[error("server refused the upgrade: {0:?}")]
    Refused(String),
    /// Longer than 16 KiB.
    #[error("server's upgrade response has no end within 16 KiB")]
    EndlessHead,
    /// Nothing opened in time.
    #[error("no connection within the time limit")]
    Timeout,
}

/// Where vehicles connect to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The server.
    pub address: SocketAddr,
    /// Name on the server's certificate.
    pub server_name: ServerName<'static>,
    /// Number of loopback addresses to connect from, 127.0.0.1 upwards; 1 leaves it to the kernel.
    pub local_addresses: u32,
}

/// How much a vehicle's kernel takes of what nobody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// Its default.
    Normal,
    /// A few KiB, in segments as long as those of a mobile network: loopback's 64 KiB would make the
    /// server's kernel take megabytes before the server notices anything.
    Little,
}

/// What a vehicle says in its upgrade request.
#[derive(Clone, Debug)]
pub struct Hello<'a> {
    /// Name of this connection: a UUID.
    pub txid: uuid::Uuid,
    /// `wifi` or `cellular`.
    pub network_interface: &'a str,
    /// Version of the vehicle's telemetry client.
    pub version: &'a str,
}

impl Endpoint {
    /// Opens a connection for a vehicle.
    ///
    /// # Errors
    /// [`ConnectError`], except the timeout, which is the caller's.
    pub async fn connect(
        &self,
        vehicle: u32,
        tls: Arc<ClientConfig>,
        hello: &Hello<'_>,
        receive: Receive,
    ) -> Result<Socket, ConnectError> {
        let tcp = self.tcp(vehicle, receive).await?;
        tcp.set_nodelay(true)?;
        let mut stream = TlsConnector::from(tls).connect(self.server_name.clone(), tcp).await?;
        self.upgrade(&mut stream, hello).await?;
        Ok(Socket::new(stream))
    }

    async fn tcp(&self, vehicle: u32, receive: Receive) -> io::Result<TcpStream> {
        let is_v4 = self.address.is_ipv4();
        let socket = if is_v4 { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if is_v4 && self.local_addresses > 1 {
            let local = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + vehicle % self.local_addresses);
            socket.bind((IpAddr::V4(local), 0).into())?;
        }
        if receive == Receive::Little {
            socket.set_recv_buffer_size(LITTLE)?;
            SockRef::from(&socket).set_tcp_mss(MOBILE_SEGMENT)?;
        }
        socket.connect(self.address).await
    }

    async fn upgrade(&self, stream: &mut TlsStream<TcpStream>, hello: &Hello<'_>) -> Result<(), ConnectError> {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\nX-TXID: {}\r\nX-Network-Interface: {}\r\nVersion: {}\r\n\r\n",
            self.address, hello.txid, hello.network_interface, hello.version
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let head = read_head(stream).await?;
        if is_accepted(&head) { Ok(()) } else { Err(ConnectError::Refused(first_line(&head))) }
    }
}

/// Reads up to the empty line and not a byte further: frames may follow at once.
async fn read_head(stream: &mut TlsStream<TcpStream>) -> Result<String, ConnectError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let chunk = stream.fill_buf().await?;
        if chunk.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let used = chunk.iter().position(|byte| *byte == b'\n').map_or(chunk.len(), |end| end + 1);
        head.extend_from_slice(&chunk[..used]);
        stream.consume(used);
        if head.len() > MAX_HEAD {
            return Err(ConnectError::EndlessHead);
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn is_accepted(head: &str) -> bool {
    let accept = derive_accept_key(KEY.as_bytes());
    head.starts_with("HTTP/1.1 101 ")
        && head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .any(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == accept)
}

fn first_line(head: &str) -> String {
    head.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_101_with_the_right_accept_key_opens_the_socket() {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; // RFC 6455 §1.3
        assert!(is_accepted(&format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {accept}\r\n\r\n")));
        assert!(!is_accepted("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n"));
        assert!(!is_accepted(&format!("HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")));
    }
}
