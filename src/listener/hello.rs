//! The first thing that a client says, read before anything is spent on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

/// Longest ClientHello: one TLS record. Vehicles send up to 2 KiB; rustls would hold 64 KiB of one that never ends.
const MAX_BYTES: usize = 16 * 1024;

/// Reads the ClientHello. The caller bounds the time.
///
/// # Errors
/// What the connection or rustls says; [`io::ErrorKind::InvalidData`] is the client's fault.
pub(super) async fn read(tcp: TcpStream) -> io::Result<StartHandshake<TcpStream>> {
    // A client that is silent costs no buffer.
    tcp.readable().await?;
    let bounded = Bounded { tcp, left: MAX_BYTES };
    let StartHandshake { accepted, io, .. } = Box::pin(LazyConfigAcceptor::new(Acceptor::default(), bounded)).await?;
    Ok(StartHandshake::from_parts(accepted, io.tcp))
}

/// Gives no more than about so many bytes.
struct Bounded {
    tcp: TcpStream,
    left: usize,
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let error = format!("the ClientHello is longer than {MAX_BYTES} bytes");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

/// For the alert to a client that does not speak TLS.
impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
