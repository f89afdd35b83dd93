//! A proxy before a mock broker that can answer as a broker does that its controller has fenced: there are topics,
//! but no brokers.
//!
//! It answers every Metadata request itself, in one form, which the broker behind it is told to offer alone, and
//! passes everything else on.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;

use super::kafka::{Message, consume};

const METADATA: i16 = 3;
const METADATA_VERSION: i16 = 4;
const LEADER_NOT_AVAILABLE: i16 = 5;

/// One broker, whose topics have one partition each.
pub struct Fenced {
    address: SocketAddr,
    state: Arc<State>,
    mock: MockCluster<'static, DefaultProducerContext>,
}

struct State {
    address: SocketAddr,
    upstream: String,
    topics: Vec<String>,
    fenced: AtomicBool,
    /// Metadata answers without brokers.
    told: AtomicU64,
    /// Of clients; those that have ended, too.
    connections: Mutex<Vec<TcpStream>>,
}

impl Fenced {
    pub fn start(topics: &[&str]) -> Self {
        let mock = MockCluster::new(1).unwrap();
        mock.apiversion(RDKafkaApiKey::Metadata, Some(METADATA_VERSION), Some(METADATA_VERSION)).unwrap();
        // It would tell consumers the way past this proxy.
        mock.apiversion(RDKafkaApiKey::FindCoordinator, None, None).unwrap();
        topics.iter().for_each(|topic| mock.create_topic(topic, 1, 1).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            address,
            upstream: mock.bootstrap_servers(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            fenced: AtomicBool::new(false),
            told: AtomicU64::new(0),
            connections: Mutex::default(),
        });
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                accepting.connections.lock().unwrap().push(client.try_clone().unwrap());
                let state = Arc::clone(&accepting);
                std::thread::spawn(move || serve(&client, &state));
            }
        });
        Self { address, state, mock }
    }

    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// The broker behind.
    pub fn mock(&self) -> &MockCluster<'static, DefaultProducerContext> {
        &self.mock
    }

    /// Answers without brokers for `time` at least, and until somebody was told.
    pub async fn fence(&self, time: std::time::Duration) {
        let told = self.state.told.load(Ordering::SeqCst);
        self.state.fenced.store(true, Ordering::SeqCst);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        tokio::time::sleep(time).await;
        while self.state.told.load(Ordering::SeqCst) == told {
            assert!(std::time::Instant::now() < deadline, "nobody asks for metadata");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        self.state.fenced.store(false, Ordering::SeqCst);
    }

    /// Ends all connections. Who connects again asks for metadata first.
    pub fn cut(&self) {
        for connection in self.state.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// All messages of a topic, in the order of its one partition.
    pub fn consume(&self, topic: &str) -> Vec<Message> {
        consume(&self.mock.bootstrap_servers(), topic)
    }
}

fn serve(client: &TcpStream, state: &State) {
    let Ok(broker) = TcpStream::connect(&state.upstream) else { return };
    for stream in [client, &broker] {
        stream.set_nodelay(true).unwrap();
    }
    // Answers of both directions go to the client, each as a whole.
    let answers = Mutex::new(client);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Some(answer) = frame(&broker) {
                if send(&answers, &answer).is_none() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Both);
        });
        while let Some(request) = frame(client) {
            let (api, correlation) = (i16::from_be_bytes([request[0], request[1]]), &request[4..8]);
            let passed = match api {
                METADATA => send(&answers, &state.metadata(correlation, &request[8..])),
                _ => send(&Mutex::new(&broker), &request),
            };
            if passed.is_none() {
                break;
            }
        }
        let _ = broker.shutdown(Shutdown::Both);
    });
}

/// What follows a length.
fn frame(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn send(stream: &Mutex<&TcpStream>, frame: &[u8]) -> Option<()> {
    let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    stream.lock().unwrap().write_all(&bytes).ok()
}

impl State {
    /// An answer of version 4 to a request whose rest is: client id, topics (none: all), a flag.
    fn metadata(&self, correlation: &[u8], rest: &[u8]) -> Vec<u8> {
        let fenced = self.fenced.load(Ordering::SeqCst);
        if fenced {
            self.told.fetch_add(1, Ordering::SeqCst);
        }
        let mut answer = Answer(correlation.to_vec());
        answer.int(0); // throttled
        answer.int(i32::from(!fenced));
        if !fenced {
            answer.int(1);
            answer.text("127.0.0.1");
            answer.int(self.address.port().into());
            answer.short(-1); // no rack
        }
        answer.text("mock");
        answer.int(if fenced { -1 } else { 1 });
        let topics = requested(rest).unwrap_or_else(|| self.topics.clone());
        answer.int(i32::try_from(topics.len()).unwrap());
        for topic in topics {
            answer.topic(&topic, fenced);
        }
        answer.0
    }
}

fn requested(rest: &[u8]) -> Option<Vec<String>> {
    let mut rest = rest;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at(count);
        rest = left;
        taken
    };
    let client_id = i16::from_be_bytes(take(2).try_into().unwrap());
    take(usize::try_from(client_id).unwrap_or(0));
    let count = i32::from_be_bytes(take(4).try_into().unwrap());
    if count < 0 {
        return None;
    }
    let text = |_| {
        let length = usize::from(u16::from_be_bytes(take(2).try_into().unwrap()));
        String::from_utf8(take(length).to_vec()).unwrap()
    };
    Some((0..count).map(text).collect())
}

struct Answer(Vec<u8>);

impl Answer {
    fn short(&mut self, value: i16) {
        self.0.extend(value.to_be_bytes());
    }

    fn int(&mut self, value: i32) {
        self.0.extend(value.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.short(i16::try_from(text.len()).unwrap());
        self.0.extend(text.as_bytes());
    }

    fn topic(&mut self, topic: &str, fenced: bool) {
        let error = if fenced { LEADER_NOT_AVAILABLE } else { 0 };
        self.short(error);
        self.text(topic);
        self.0.push(0); // not internal
        self.int(1);
        self.short(error);
        self.int(0);
        self.int(if fenced { -1 } else { 1 });
        for _ in ["replicas", "in sync"] {
            self.int(1);
            self.int(1);
        }
    }
}
