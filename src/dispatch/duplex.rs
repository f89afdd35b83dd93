//! A connection to a server of others, in the clear or over TLS, that is written to and read from at the same time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How TLS is spoken, and the name that the other side's certificate must have.
pub(super) type Tls = (Arc<ClientConfig>, ServerName<'static>);

/// Both directions, and what was read and not yet understood.
pub(super) struct Duplex {
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    pub(super) input: BytesMut,
    /// Something was written that TLS may still hold.
    unflushed: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Room for one read; what these servers answer is short.
const INPUT: usize = 4096;

impl Duplex {
    /// Connects.
    pub(super) async fn connect(host: &str, port: u16, tls: Option<&Tls>) -> io::Result<Self> {
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some((config, name)) => Box::new(TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await?),
        };
        let (read, write) = split(stream);
        Ok(Self { read, write, input: BytesMut::with_capacity(INPUT), unflushed: false })
    }

    /// Reads something into `input`, or hands some of `out` to the system, whichever can be done first. Can be given up
    /// and begun again.
    ///
    /// # Errors
    /// When the connection has ended, which an end of what can be read counts as.
    pub(super) async fn turn(&mut self, out: &mut BytesMut) -> io::Result<()> {
        self.input.reserve(INPUT);
        let has_more = !out.is_empty() || self.unflushed;
        tokio::select! {
            biased;
            read = self.read.read_buf(&mut self.input) => match read {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                read => read.map(|_| ()),
            },
            sent = send(&mut self.write, out), if has_more => {
                self.unflushed = sent?;
                Ok(())
            },
        }
    }

    /// Nothing is on its way that has not been handed to the system: where there is no answer, the end of a message.
    #[cfg(feature = "mqtt")]
    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Says `goodbye`, so that the other side does not think that this one has died.
    pub(super) async fn close(mut self, goodbye: &[u8], patience: Duration) {
        let end = async {
            self.write.write_all(goodbye).await?;
            self.write.flush().await?;
            self.write.shutdown().await
        };
        // It is the end of the connection either way.
        let _ = timeout(patience, end).await;
    }
}

/// Hands some of `out` over, or what TLS still holds; whether that holds anything now.
async fn send(write: &mut WriteHalf<Box<dyn Stream>>, out: &mut BytesMut) -> io::Result<bool> {
    if out.is_empty() {
        write.flush().await?;
        return Ok(false);
    }
    write.write_buf(out).await?;
    Ok(true)
}
