//! Real Redis servers: one, over TLS, a cluster, a master with sentinels. And a small client that is not the server's own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::service::{Service, await_port, free_ports};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server that has written to its disk what it has answered.
pub struct Redis {
    dir: TempDir,
    pub port: u16,
    options: Vec<String>,
    service: Mutex<Service>,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Text(Vec<u8>),
    Integer(i64),
    List(Vec<Reply>),
    Error(String),
    Nil,
}

impl Reply {
    pub fn text(&self) -> &[u8] {
        let Self::Text(text) = self else { panic!("{self:?} is no text") };
        text
    }

    pub fn list(&self) -> &[Reply] {
        let Self::List(list) = self else { panic!("{self:?} is no list") };
        list
    }
}

/// A connection.
pub struct Client(BufReader<TcpStream>);

/// Somebody who subscribes to all channels, and what came: channel and message.
#[derive(Clone)]
pub struct Listener(Arc<Mutex<Vec<Message>>>);

/// A channel, and what came over it.
type Message = (String, Vec<u8>);

impl Redis {
    pub fn start() -> Self {
        Self::with(&[], |_| ())
    }

    /// With more options, in which `DIR` is its folder, and the files of `prepare` in that.
    pub fn with(options: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        prepare(dir.path());
        let [port, bus] = free_ports();
        let folder = dir.path().to_str().unwrap();
        let number = port.to_string();
        let own = if options.contains(&"--tls-port") { vec!["--port", "0"] } else { vec!["--port", &number] };
        let fixed =
            ["--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        let options = own.into_iter().chain(fixed).chain(options.iter().copied());
        let options: Vec<_> = options
            .map(|option| option.replace("DIR", folder).replace("PORT", &number).replace("BUS", &bus.to_string()))
            .collect();
        let service = Mutex::new(run(dir.path(), port, &options));
        Self { dir, port, options, service }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.service().kill();
    }

    /// After [`Self::kill`].
    pub fn restart(&self) {
        let mut service = self.service();
        *service = run(self.dir.path(), self.port, &self.options);
        drop(service);
        // It answers other commands only once it has read its data.
        until("loaded", || self.client().command(&[b"PING"]) == Reply::Text(b"PONG".to_vec()));
    }

    pub fn pause(&self) {
        self.service().pause();
    }

    pub fn resume(&self) {
        self.service().resume();
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// Subscribes to everything.
    pub fn listen(&self) -> Listener {
        let mut client = self.client();
        client.send(&[b"PSUBSCRIBE", b"*"]);
        assert_eq!(client.reply().list()[0].text(), b"psubscribe");
        let heard: Listener = Listener(Arc::default());
        let into = Arc::clone(&heard.0);
        client.0.get_ref().set_read_timeout(None).unwrap();
        std::thread::spawn(move || {
            while let Ok(reply) = client.try_reply() {
                let message = reply.list();
                let channel = String::from_utf8(message[2].text().to_vec()).unwrap();
                into.lock().unwrap().push((channel, message[3].text().to_vec()));
            }
        });
        heard
    }

    fn service(&self) -> std::sync::MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Listener {
    pub fn heard(&self) -> Vec<Message> {
        self.0.lock().unwrap().clone()
    }
}

impl Client {
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn command(&mut self, arguments: &[&[u8]]) -> Reply {
        self.send(arguments);
        self.reply()
    }

    /// All entries of a stream, each as its fields.
    pub fn entries(&mut self, stream: &str) -> Vec<BTreeMap<String, Vec<u8>>> {
        let reply = self.command(&[b"XRANGE", stream.as_bytes(), b"-", b"+"]);
        let fields = |entry: &Reply| {
            let pairs = entry.list()[1].list().chunks(2);
            pairs.map(|pair| (String::from_utf8(pair[0].text().to_vec()).unwrap(), pair[1].text().to_vec())).collect()
        };
        reply.list().iter().map(fields).collect()
    }

    fn send(&mut self, arguments: &[&[u8]]) {
        let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            out.extend(format!("${}\r\n", argument.len()).into_bytes());
            out.extend_from_slice(argument);
            out.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&out).unwrap();
    }

    fn reply(&mut self) -> Reply {
        self.try_reply().unwrap()
    }

    fn try_reply(&mut self) -> std::io::Result<Reply> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        let text = std::str::from_utf8(&line).unwrap().trim_end();
        let Some(kind) = text.chars().next() else { return Err(std::io::ErrorKind::UnexpectedEof.into()) };
        let number = || text[1..].parse::<i64>().unwrap();
        Ok(match (kind, kind == '+' || kind == '-' || number() >= 0) {
            ('+', _) => Reply::Text(text.as_bytes()[1..].to_vec()),
            ('-', _) => Reply::Error(text[1..].to_owned()),
            (':', _) => Reply::Integer(number()),
            (_, false) => Reply::Nil,
            ('$', _) => {
                let mut bytes = vec![0; usize::try_from(number()).unwrap() + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Text(bytes)
            }
            ('*', _) => {
                let count = number();
                Reply::List((0..count).map(|_| self.try_reply()).collect::<Result<_, _>>()?)
            }
            _ => panic!("{text} is no reply"),
        })
    }
}

/// Three masters.
pub struct Cluster {
    pub nodes: Vec<Redis>,
}

impl Cluster {
    pub fn start() -> Self {
        // A port for the nodes among themselves that is free for certain: the usual one may be another process'.
        let options = [
            "--cluster-port",
            "BUS",
            "--cluster-enabled",
            "yes",
            "--cluster-config-file",
            "nodes.conf",
            "--cluster-node-timeout",
            "2000",
        ];
        let nodes: Vec<_> = std::iter::repeat_with(|| Redis::with(&options, |_| ())).take(3).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        let output = create.arg("--cluster-yes").output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
        let cluster = Self { nodes };
        cluster.await_ready();
        cluster
    }

    /// Every node knows where every slot is.
    pub fn await_ready(&self) {
        for node in &self.nodes {
            until("one cluster", || {
                let info = node.client().command(&[b"CLUSTER", b"INFO"]);
                let info = String::from_utf8_lossy(info.text()).into_owned();
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            });
        }
    }

    /// The node that answers for a key.
    pub fn node(&self, key: &str) -> &Redis {
        let has = |node: &&Redis| !matches!(node.client().command(&[b"EXISTS", key.as_bytes()]), Reply::Error(_));
        self.nodes.iter().find(has).expect("some node has it")
    }
}

fn run(dir: &Path, port: u16, options: &[String]) -> Service {
    let log: PathBuf = dir.join("log");
    let service = Service::start(&log, "redis-server", options.iter().map(String::as_str));
    await_port(port, &service, &log);
    service
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not {what} in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
