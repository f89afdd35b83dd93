//! TLS records as no library writes them, on a connection that rustls has set up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use rustls::{ClientConfig, ConnectionTrafficSecrets, KeyLog, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::vehicle::tls;

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// The client's half of a connection after its handshake. What the server sends is not decrypted.
pub(crate) struct RawTls {
    pub(crate) tcp: TcpStream,
    suite: Suite,
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    /// Of TLS 1.3: what the next key comes from.
    secret: Vec<u8>,
    version: ProtocolVersion,
}

#[derive(Clone, Copy)]
struct Suite {
    aead: &'static aead::Algorithm,
    hash: hkdf::Algorithm,
    key_len: usize,
    hash_len: usize,
    /// TLS 1.2 writes half of the nonce into each record of AES-GCM.
    explicit_nonce: bool,
}

#[derive(Debug, Default)]
struct Secrets(Mutex<Vec<u8>>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == "CLIENT_TRAFFIC_SECRET_0" {
            *self.0.lock().unwrap() = secret.to_vec();
        }
    }
}

impl RawTls {
    pub(crate) async fn connect(address: SocketAddr, config: &ClientConfig) -> Self {
        let secrets = Arc::new(Secrets::default());
        let mut config = config.clone();
        config.enable_secret_extraction = true;
        config.key_log = secrets.clone();
        let (tcp, connection) = tls(address, &Arc::new(config)).await.unwrap().into_inner();
        let version = connection.protocol_version().unwrap();
        let (sequence, keys) = connection.dangerous_extract_secrets().unwrap().tx;
        let (suite, key, iv) = match &keys {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::AES_128, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::AES_256, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::CHACHA, key, iv),
            _ => panic!("a suite that rustls did not have"),
        };
        let key = LessSafeKey::new(UnboundKey::new(suite.aead, key.as_ref()).unwrap());
        let iv = iv.as_ref().try_into().unwrap();
        let secret = std::mem::take(&mut *secrets.0.lock().unwrap());
        Self { tcp, suite, key, iv, sequence, secret, version }
    }

    /// One record, ready to be sent. It must be sent before the next one is made.
    pub(crate) fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let nonce = self.nonce();
        if self.version == ProtocolVersion::TLSv1_3 {
            let mut sealed = content.to_vec();
            sealed.push(kind);
            let head = header(DATA, sealed.len() + aead::AES_256_GCM.tag_len());
            self.seal(nonce, &head, &mut sealed);
            return [&head[..], &sealed].concat();
        }
        let mut sealed = content.to_vec();
        let aad = [&self.sequence.to_be_bytes()[..], &header(kind, content.len())].concat();
        self.seal(nonce, &aad, &mut sealed);
        let explicit: &[u8] = if self.suite.explicit_nonce { &nonce[4..] } else { &[] };
        let head = header(kind, explicit.len() + sealed.len());
        [&head[..], explicit, &sealed].concat()
    }

    /// As [`Self::record`], sent.
    pub(crate) async fn send(&mut self, kind: u8, content: &[u8]) -> std::io::Result<()> {
        let record = self.record(kind, content);
        self.tcp.write_all(&record).await
    }

    /// TLS 1.3: the key that the client uses behind its `KeyUpdate`.
    pub(crate) fn next_key(&mut self) {
        self.secret = self.expand("traffic upd", self.suite.hash_len);
        let key = self.expand("key", self.suite.key_len);
        self.key = LessSafeKey::new(UnboundKey::new(self.suite.aead, &key).unwrap());
        self.iv = self.expand("iv", 12).try_into().unwrap();
        self.sequence = 0;
    }

    /// Waits until the server ends the connection; whether it did in time.
    pub(crate) async fn is_ended(&mut self, patience: Duration) -> bool {
        let mut sink = [0; 4096];
        let end = async { while matches!(self.tcp.read(&mut sink).await, Ok(1..)) {} };
        tokio::time::timeout(patience, end).await.is_ok()
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= sequence;
        }
        nonce
    }

    fn seal(&mut self, nonce: [u8; 12], aad: &[u8], bytes: &mut Vec<u8>) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(aad), bytes).unwrap();
        self.sequence += 1;
    }

    /// HKDF-Expand-Label of RFC 8446, 7.1, without context.
    fn expand(&self, label: &str, len: usize) -> Vec<u8> {
        let label = format!("tls13 {label}");
        let length = u16::try_from(len).unwrap().to_be_bytes();
        let info = [&length[..], &[u8::try_from(label.len()).unwrap()], label.as_bytes(), &[0]];
        let mut out = vec![0; len];
        let prk = hkdf::Prk::new_less_safe(self.suite.hash, &self.secret);
        prk.expand(&info, Length(len)).unwrap().fill(&mut out).unwrap();
        out
    }
}

impl Suite {
    const AES_128: Self =
        Self { aead: &aead::AES_128_GCM, hash: hkdf::HKDF_SHA256, key_len: 16, hash_len: 32, explicit_nonce: true };
    const AES_256: Self =
        Self { aead: &aead::AES_256_GCM, hash: hkdf::HKDF_SHA384, key_len: 32, hash_len: 48, explicit_nonce: true };
    const CHACHA: Self = Self {
        aead: &aead::CHACHA20_POLY1305,
        hash: hkdf::HKDF_SHA256,
        key_len: 32,
        hash_len: 32,
        explicit_nonce: false,
    };
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn header(kind: u8, len: usize) -> [u8; 5] {
    let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
    [kind, 3, 3, high, low]
}
