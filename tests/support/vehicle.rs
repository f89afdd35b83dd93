//! A vehicle, as far as tests need one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fleet_telemetry::envelope::Envelope;
use fleet_telemetry::proto::vehicle_data::{Datum, Field, Payload, Value, value};
use fleet_telemetry::testing::message::{self, Reply};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

pub const PATIENCE: Duration = Duration::from_secs(10);

/// An upgrade request, for clients that write their own bytes.
pub const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub struct Vehicle {
    pub vin: String,
    pub socket: WebSocketStream<TlsStream<TcpStream>>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Ack { txid: Vec<u8>, topic: Vec<u8> },
    Error { txid: Vec<u8> },
    Closed(Option<u16>),
}

pub async fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(Arc::clone(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await
}

pub fn request(address: SocketAddr) -> Request {
    let mut request = format!("wss://localhost:{}/", address.port()).into_client_request().unwrap();
    request.headers_mut().insert("X-Network-Interface", "wifi".parse().unwrap());
    request.headers_mut().insert("Version", "test-1".parse().unwrap());
    request
}

/// Sends raw bytes on a fresh TLS connection and returns all that comes back until the end.
pub async fn exchange(address: SocketAddr, config: &Arc<ClientConfig>, bytes: &[u8]) -> String {
    let mut tls = tls(address, config).await.unwrap();
    tls.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, tls.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

impl Vehicle {
    pub async fn connect(address: SocketAddr, config: &Arc<ClientConfig>, vin: &str) -> Self {
        Self::connect_with(address, config, vin, request(address)).await
    }

    pub async fn connect_with(address: SocketAddr, config: &Arc<ClientConfig>, vin: &str, request: Request) -> Self {
        Self::try_connect(address, config, vin, request).await.unwrap()
    }

    /// As [`Self::connect_with`], for a server that may be gone.
    pub async fn try_connect(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        vin: &str,
        request: Request,
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let tls = tls(address, config).await?;
        let (socket, _) = tokio_tungstenite::client_async(request, tls).await?;
        Ok(Self { vin: vin.to_owned(), socket })
    }

    pub async fn send_frame(&mut self, frame: Vec<u8>) {
        self.socket.send(Message::Binary(frame.into())).await.unwrap();
    }

    pub async fn send(&mut self, topic: &str, txid: &str, payload: &[u8]) {
        let sender = format!("vehicle_device.{}", self.vin);
        self.send_frame(frame(topic, txid, &sender, payload)).await;
    }

    /// The bytes of the next binary message; `None` when nothing comes in time.
    pub async fn receive_bytes(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match tokio::time::timeout_at(deadline, self.socket.next()).await.ok()?.expect("the connection is open") {
                Ok(Message::Binary(bytes)) => return Some(bytes.into()),
                Ok(_) => {}
                Err(error) => panic!("the connection broke: {error}"),
            }
        }
    }

    /// The next reply; pings are answered on the way.
    pub async fn receive(&mut self) -> Received {
        self.receive_within(PATIENCE).await.expect("a reply in time")
    }

    /// `None` when nothing comes in time.
    pub async fn receive_within(&mut self, patience: Duration) -> Option<Received> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match tokio::time::timeout_at(deadline, self.socket.next()).await.ok()? {
                Some(Ok(Message::Binary(reply))) => {
                    return Some(match message::parse_reply(&reply).expect("an ack or an error response") {
                        Reply::Ack { txid, topic } => Received::Ack { txid: txid.to_vec(), topic: topic.to_vec() },
                        Reply::Error { txid } => Received::Error { txid: txid.to_vec() },
                    });
                }
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map(|CloseFrame { code, .. }| code.into());
                    return Some(Received::Closed(code));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Some(Received::Closed(None)),
            }
        }
    }

    pub async fn expect_ack(&mut self, topic: &str, txid: &str) {
        assert_eq!(self.receive().await, ack(topic, txid));
    }
}

/// A frame of WebSocket with any first byte, masked with zeros.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        0..126 => out.push(0x80 | u8::try_from(payload.len()).unwrap()),
        _ => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

/// On a fresh TLS connection, upgraded: what follows are frames.
pub async fn upgraded(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let mut stream = tls(address, config).await.unwrap();
    stream.write_all(UPGRADE).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the upgrade is answered");
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

pub fn ack(topic: &str, txid: &str) -> Received {
    Received::Ack { txid: txid.into(), topic: topic.into() }
}

pub fn frame(topic: &str, txid: &str, sender: &str, payload: &[u8]) -> Vec<u8> {
    message::encode(&Envelope {
        txid: txid.as_bytes(),
        topic: topic.as_bytes(),
        sender_id: sender.as_bytes(),
        created_at: 1_790_000_000,
        payload,
    })
}

/// A `V` payload with a few fields.
pub fn v_payload(vin: &str, speed: f64) -> Vec<u8> {
    let datum = |field: Field, value| Datum { key: field.into(), value: Some(Value { value: Some(value) }) };
    Payload {
        data: vec![
            datum(Field::VehicleSpeed, value::Value::DoubleValue(speed)),
            datum(Field::VehicleName, value::Value::StringValue("test".to_owned())),
        ],
        created_at: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 }),
        vin: vin.to_owned(),
        is_resend: false,
    }
    .encode_to_vec()
}
