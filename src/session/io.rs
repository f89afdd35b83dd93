//! What a session needs of its connection.

use futures_util::FutureExt;
use tokio::io::{AsyncBufRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection: frames in, replies out, and whether anybody is still there.
pub trait Io: AsyncBufRead + AsyncWrite + Send + Unpin + 'static {
    /// The peer has closed the connection or reset it, or it broke. Known without reading what came before that.
    fn is_hung_up(&self) -> bool;
}

impl Io for TlsStream<TcpStream> {
    fn is_hung_up(&self) -> bool {
        let (tcp, _) = self.get_ref();
        // The kernel tells the reactor of a hang-up at once, also behind bytes that nobody has read.
        let known = tcp.ready(Interest::READABLE | Interest::ERROR).now_or_never();
        known.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed() || ready.is_error()))
    }
}
