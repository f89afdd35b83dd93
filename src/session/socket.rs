//! A WebSocket over TLS, as poll functions: frames in, reply bytes out, nothing held while idle.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};

use super::Io;
use super::websocket::{Decoder, Event, Violation};
use crate::config;

/// Both halves of one connection.
#[derive(Debug)]
pub(super) struct Socket<IO> {
    io: IO,
    /// What came in behind the upgrade request.
    early: Bytes,
    decoder: Decoder,
    /// Replies that the connection had no room for; empty on a healthy connection.
    unsent: BytesMut,
    /// The connection (its TLS session) holds bytes that the kernel had no room for.
    flushing: bool,
}

/// Why no more frames can be read.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The peer ended the stream without a close frame.
    Eof,
    /// The connection broke.
    Io(io::Error),
    /// The peer broke a rule.
    Violation(Violation),
}

/// A scratch buffer that grew beyond this is given back after use.
const KEEP_SCRATCH: usize = 64 * 1024;

impl<IO: Io> Socket<IO> {
    pub(super) fn new(io: IO, early: Bytes, config: &config::Session) -> Self {
        Self { io, early, decoder: Decoder::new(config), unsent: BytesMut::new(), flushing: false }
    }

    /// The next thing that the peer sent, unmasked into `scratch`.
    pub(super) fn poll_event<'a>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &'a mut Vec<u8>,
    ) -> Poll<Result<Event<'a>, ReadEnd>> {
        if scratch.capacity() > KEEP_SCRATCH {
            *scratch = Vec::new();
        }
        loop {
            let input = if self.early.is_empty() {
                match ready!(Pin::new(&mut self.io).poll_fill_buf(cx)) {
                    Ok([]) => return Poll::Ready(Err(ReadEnd::Eof)),
                    Ok(input) => input,
                    Err(error) => return Poll::Ready(Err(ReadEnd::Io(error))),
                }
            } else {
                &self.early[..]
            };
            let (read, complete) = match self.decoder.decode(input, scratch) {
                Ok(decoded) => decoded,
                Err(violation) => return Poll::Ready(Err(ReadEnd::Violation(violation))),
            };
            if self.early.is_empty() {
                Pin::new(&mut self.io).consume(read);
            } else {
                self.early.advance(read);
            }
            if let Some(complete) = complete {
                return Poll::Ready(complete.event(scratch).map_err(ReadEnd::Violation));
            }
        }
    }

    /// A part of a message is there, and the rest is not.
    pub(super) fn is_unfinished(&self) -> bool {
        self.decoder.is_unfinished()
    }

    /// Writes `replies` (emptied) and what was left from before, as far as the peer takes it.
    /// Ready when everything has left this process.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, replies: &mut Vec<u8>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            let sent = self.write(cx, replies)?;
            self.unsent.extend_from_slice(&replies[sent..]);
        } else {
            self.unsent.extend_from_slice(replies);
            let mut unsent = std::mem::take(&mut self.unsent);
            let sent = self.write(cx, &unsent)?;
            // The remainder stays where it is: a peer that takes little at a time costs no more than one that takes all.
            unsent.advance(sent);
            // Gives the memory back once the peer has caught up.
            self.unsent = if unsent.is_empty() { BytesMut::new() } else { unsent };
        }
        replies.clear();
        if self.flushing {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(result) => {
                    self.flushing = false;
                    result?;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.unsent.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Reads and throws away whatever comes; ready when the peer has ended the stream.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(Pin::new(&mut self.io).poll_fill_buf(cx)) {
                Ok([]) | Err(_) => return Poll::Ready(()),
                Ok(input) => {
                    let read = input.len();
                    Pin::new(&mut self.io).consume(read);
                }
            }
        }
    }

    /// Ends the TLS session and the stream, as far as that goes without waiting for the peer.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        Poll::Ready(())
    }

    /// Memory that is kept until the peer sends, or takes, more.
    pub(super) fn kept_bytes(&self) -> usize {
        self.decoder.kept_bytes() + self.unsent.len()
    }

    /// Bytes of replies that wait for the peer.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// The peer has hung up, whatever it sent before.
    pub(super) fn is_hung_up(&self) -> bool {
        self.io.is_hung_up()
    }

    /// How much of `bytes` the connection took.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match Pin::new(&mut self.io).poll_write(cx, &bytes[sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    sent += n;
                    self.flushing = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(sent)
    }
}
