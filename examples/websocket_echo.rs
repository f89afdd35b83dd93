//! Sends every WebSocket message back, over plain TCP: the server's own upgrade and framing, for suites that test
//! the protocol (see `scripts/autobahn`).
//!
//! ```text
//! cargo run --release --example websocket_echo -- PORT
//! ```
//!
//! Listens on 127.0.0.1; port 0 picks a free one. The address is printed once it listens.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::BytesMut;
use fleet_telemetry::config;
use fleet_telemetry::listener::upgrade::{self, Access, Upgraded};
use fleet_telemetry::session::websocket::{self, Decoder, Event, Outgoing, close_code};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read the close frame and close.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
const READ_BUFFER: usize = 64 * 1024;

/// What the decoder reads of it is far above the server's defaults: the suite sends messages of 16 MiB, and of
/// 65,536 frames.
const LIMITS: config::Session = config::Session {
    max_message_bytes: 16 << 20,
    max_frame_bytes: 16 << 20,
    max_fragments: 1_000_000,
    max_pings_per_second: u32::MAX,
    idle_timeout: Duration::MAX,
    ping_interval: Duration::MAX,
    max_unsettled: config::InFlight { records: 0, bytes: 0 },
    max_kept_bytes: 0,
    max_unread_reply_bytes: 0,
    write_timeout: Duration::MAX,
    connection_id_from_header: false,
};

#[tokio::main]
async fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: websocket_echo PORT");
        std::process::exit(64);
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let upgraded = upgrade::serve(stream, Access::Granted, HEADER_TIMEOUT).await.map_err(io::Error::other)?;
    let Upgraded::WebSocket(mut stream, early, _) = upgraded else { return Ok(()) };
    let mut echo = Echo { decoder: Decoder::new(&LIMITS), message: Vec::new() };
    let mut input = BytesMut::from(early);
    let mut replies = Vec::new();
    loop {
        let answered = echo.answer(&input, &mut replies);
        input.clear();
        stream.write_all(&replies).await?;
        replies.clear();
        if answered == Answered::Closed {
            break;
        }
        input.reserve(READ_BUFFER);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the client could lose the close frame.
    let rest = tokio::time::timeout(CLOSE_GRACE, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await;
    rest.map_or(Ok(()), |read| read.map(drop))
}

struct Echo {
    decoder: Decoder,
    /// The message being answered.
    message: Vec<u8>,
}

#[derive(PartialEq, Eq)]
enum Answered {
    /// The client may go on.
    Open,
    /// The last reply is a close frame.
    Closed,
}

impl Echo {
    /// Reads all of `input` and appends what is to be sent for it.
    fn answer(&mut self, mut input: &[u8], replies: &mut Vec<u8>) -> Answered {
        while !input.is_empty() {
            let event = self.decoder.decode(input, &mut self.message).and_then(|(read, complete)| {
                input = &input[read..];
                complete.map(|complete| complete.event(&self.message)).transpose()
            });
            let close = match event {
                Ok(Some(event)) => reply(&event, replies),
                Ok(None) => None,
                Err(violation) => Some(Some(violation.close_code())),
            };
            if let Some(code) = close {
                websocket::put_close(replies, code);
                return Answered::Closed;
            }
        }
        Answered::Open
    }
}

/// Appends what answers `event`, or says with what code to close.
fn reply(event: &Event<'_>, replies: &mut Vec<u8>) -> Option<Option<u16>> {
    match event {
        Event::Binary(payload) => put(replies, Outgoing::Binary, payload),
        Event::Text(payload) => {
            if std::str::from_utf8(payload).is_err() {
                return Some(Some(close_code::INVALID_PAYLOAD));
            }
            let header = replies.len();
            put(replies, Outgoing::Binary, payload);
            // The server sends no text, so its codec has no name for it.
            replies[header] = 0x81;
        }
        Event::Ping(payload) => put(replies, Outgoing::Pong, payload),
        Event::Pong => {}
        Event::Close(code) => return Some(*code),
    }
    None
}

fn put(replies: &mut Vec<u8>, opcode: Outgoing, payload: &[u8]) {
    websocket::put_header(replies, opcode, payload.len());
    replies.extend_from_slice(payload);
}
