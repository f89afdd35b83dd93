//! A real Kafka broker for tests, through `scripts/kafka`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::process;
use super::service::free_ports;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka");
const TIMEOUT: Duration = Duration::from_secs(20);

/// One broker with its own data, gone when this is dropped or the process ends, however it ends.
pub struct Broker {
    dir: PathBuf,
    port: u16,
    controller_port: u16,
    /// Kills the broker and removes its data when its stdin, whose other end only this process holds, ends.
    guard: Child,
}

/// A message as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    /// In the order of the message.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub partition: i32,
    pub offset: i64,
}

impl Message {
    pub fn header(&self, key: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_slice())
    }
}

impl Broker {
    /// The one that tests of this binary share, as long as they neither stop nor fill it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A fresh one.
    pub fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{}-{count}", std::process::id()));
        let guard = Command::new(SCRIPT).arg("guard").arg(&dir).stdin(Stdio::piped()).spawn().unwrap();
        let [port, controller_port] = free_ports();
        let broker = Self { dir, port, controller_port, guard };
        broker.restart();
        broker
    }

    /// For `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub fn kill(&self) {
        run(Command::new(SCRIPT).arg("kill").arg(&self.dir));
    }

    /// After [`Self::kill`]; with the same ports and data. Returns when the broker is ready.
    pub fn restart(&self) {
        let ports = [self.port.to_string(), self.controller_port.to_string()];
        run(Command::new(SCRIPT).arg("start").arg(&self.dir).args(ports));
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn pause(&self) {
        process::signal(self.pid(), "STOP");
        // On a busy machine some of its threads go on for a while.
        while !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// After [`Self::pause`].
    pub fn resume(&self) {
        process::signal(self.pid(), "CONT");
    }

    fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        // A thread may end between the listing and the look.
        let mut stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
        stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')))
    }

    fn pid(&self) -> String {
        std::fs::read_to_string(self.dir.join("pid")).unwrap().trim().to_owned()
    }

    /// As [`consume`].
    pub fn consume(&self, topic: &str) -> Vec<Message> {
        consume(&self.bootstrap(), topic)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// All messages of a topic, each partition in order of its offsets, until where it ends now.
pub fn consume(bootstrap: &str, topic: &str) -> Vec<Message> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "tests")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let ends = ends(&consumer, topic);
    let mut from = TopicPartitionList::new();
    for (partition, _) in &ends {
        from.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&from).unwrap();
    let expected = ends.iter().map(|(_, end)| usize::try_from(*end).unwrap()).sum();
    let deadline = Instant::now() + TIMEOUT;
    let mut messages = Vec::new();
    while messages.len() < expected {
        assert!(Instant::now() < deadline, "{topic}: {} of {expected} messages in time", messages.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            messages.push(owned(&message));
        }
    }
    messages.sort_by_key(|message| (message.partition, message.offset));
    messages
}

/// Every partition and the offset after its last message.
fn ends(consumer: &BaseConsumer, topic: &str) -> Vec<(i32, i64)> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let partitions = metadata.topics()[0].partitions();
    partitions.iter().map(|partition| (partition.id(), end(consumer, topic, partition.id()))).collect()
}

/// For a moment after a broker was stopped, it may not yet be the leader again.
fn end(consumer: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match consumer.fetch_watermarks(topic, partition, TIMEOUT) {
            Ok((_, end)) => return end,
            Err(error) => assert!(Instant::now() < deadline, "{topic} {partition}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn owned(message: &rdkafka::message::BorrowedMessage<'_>) -> Message {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    });
    Message {
        key: message.key().unwrap_or_default().to_vec(),
        payload: message.payload().unwrap_or_default().to_vec(),
        headers: headers.unwrap_or_default(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        partition: message.partition(),
        offset: message.offset(),
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
