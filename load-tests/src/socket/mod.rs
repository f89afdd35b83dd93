//! A vehicle's WebSocket over mutual TLS, lean enough for thousands of them beside the server they load.
//!
//! Replies are read straight from the TLS session's plaintext. Every message leaves in a TLS record and a
//! write of its own, as a vehicle sends it: together they would spare the server most of its work.

pub mod connect;
pub mod frame;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use self::frame::{FrameError, Header};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server sent what no telemetry server sends.
    #[error("server sent a {0}")]
    Frame(#[from] FrameError),
    /// The server closed the WebSocket.
    #[error("server closed the connection with code {0}")]
    Closed(u16),
    /// The server closed the TCP connection.
    #[error("server ended the connection without a close frame")]
    Ended,
}

/// An open WebSocket, client side.
#[derive(Debug)]
pub struct Socket {
    stream: TlsStream<TcpStream>,
    outgoing: Vec<u8>,
    written: usize,
    /// Where the frames in `outgoing` end that are not written yet.
    ends: VecDeque<usize>,
    unflushed: bool,
    /// The start of a frame whose rest has not come yet.
    partial: Vec<u8>,
    masks: fastrand::Rng,
}

impl Socket {
    fn new(stream: TlsStream<TcpStream>) -> Self {
        let masks = fastrand::Rng::new();
        Self {
            stream,
            outgoing: Vec::new(),
            written: 0,
            ends: VecDeque::new(),
            unflushed: false,
            partial: Vec::new(),
            masks,
        }
    }

    /// Queues a binary message; [`Socket::exchange`] sends it.
    pub fn queue(&mut self, message: &[u8]) {
        frame::append_masked(&mut self.outgoing, frame::BINARY, message, self.masks.u32(..).to_ne_bytes());
        self.ends.push_back(self.outgoing.len());
    }

    /// Bytes that the network has not taken yet.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.outgoing.len() - self.written
    }

    /// Sends what is queued and hands every binary message that has come to `on_message`; returns after
    /// at least one read. Cancel-safe.
    ///
    /// # Errors
    /// [`SocketError`]: the connection is over.
    pub async fn exchange(&mut self, mut on_message: impl FnMut(&[u8])) -> Result<(), SocketError> {
        poll_fn(|cx| self.poll_exchange(cx, &mut on_message)).await
    }

    /// Sends what is queued and reads nothing. Cancel-safe.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn send(&mut self) -> Result<(), SocketError> {
        Ok(poll_fn(|cx| self.poll_send(cx)).await?)
    }

    /// Says goodbye; the caller bounds the time.
    pub async fn close(mut self) {
        const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
        frame::append_masked(&mut self.outgoing, frame::CLOSE, &NORMAL, [0; 4]);
        let unsent = &self.outgoing[self.written..];
        if self.stream.write_all(unsent).await.is_ok() {
            // An error means that the server was faster.
            let _ = self.stream.shutdown().await;
        }
    }

    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        on_message: &mut impl FnMut(&[u8]),
    ) -> Poll<Result<(), SocketError>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error.into()));
        }
        let Self { stream, outgoing, ends, partial, masks, .. } = self;
        let chunk = ready!(Pin::new(&mut *stream).poll_fill_buf(cx))?;
        if chunk.is_empty() {
            return Poll::Ready(Err(SocketError::Ended));
        }
        let mut on_frame = |header: Header, payload: &[u8]| match header.opcode {
            frame::PING => {
                frame::append_masked(outgoing, frame::PONG, payload, masks.u32(..).to_ne_bytes());
                ends.push_back(outgoing.len());
                Ok(())
            }
            frame::CLOSE => Err(SocketError::Closed(close_code(payload))),
            frame::PONG => Ok(()),
            _ => {
                on_message(payload);
                Ok(())
            }
        };
        let len = chunk.len();
        if partial.is_empty() {
            let used = each_frame(chunk, &mut on_frame)?;
            partial.extend_from_slice(&chunk[used..]);
        } else {
            partial.extend_from_slice(chunk);
            let used = each_frame(partial, &mut on_frame)?;
            partial.drain(..used);
        }
        Pin::new(stream).consume(len);
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(end) = self.ends.front().copied() {
            self.written += ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing[self.written..end]))?;
            self.unflushed = true;
            if self.written == end {
                self.ends.pop_front();
            }
        }
        if self.written > 0 {
            self.written = 0;
            self.outgoing.clear();
            self.outgoing.shrink_to(1024);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// Calls `on_frame` with every complete frame; returns how many bytes they took.
fn each_frame(
    bytes: &[u8],
    on_frame: &mut impl FnMut(Header, &[u8]) -> Result<(), SocketError>,
) -> Result<usize, SocketError> {
    let mut used = 0;
    while let Some(header) = Header::parse(&bytes[used..])? {
        let start = used + header.len;
        let Some(payload) = bytes.get(start..start + header.payload_len) else { break };
        on_frame(header, payload)?;
        used = start + header.payload_len;
    }
    Ok(used)
}

/// The close frame's code; 1005 stands for none (RFC 6455 §7.1.5).
fn close_code(payload: &[u8]) -> u16 {
    payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
}
