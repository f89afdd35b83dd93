//! The server as a process of its own, configured by a file, as operators run it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pki::Pki;
use super::process;
use super::vehicle::PATIENCE;

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub status: SocketAddr,
    pub metrics: SocketAddr,
    log: Arc<Mutex<Vec<Value>>>,
    stderr: Arc<Mutex<String>>,
}

const BINARY: &str = env!("CARGO_BIN_EXE_fleet-telemetry");

/// A configuration that works: SQLite in `dir`, everything on loopback; changed by the test.
pub fn config(pki: &Pki) -> Value {
    let dir = pki.dir();
    json!({
        "host": "127.0.0.1",
        "port": 0,
        "status_host": "127.0.0.1",
        "status_port": free_port(),
        "log_level": "debug",
        "json_log_enable": true,
        "namespace": "test",
        "monitoring": { "prometheus_metrics_port": free_port() },
        "tls": {
            "ca_file": dir.join("vehicle_ca.crt"),
            "server_cert": dir.join("server.crt"),
            "server_key": dir.join("server.key"),
        },
        "sqlite": { "path": dir.join("telemetry.db"), "linger": "1ms" },
        "records": { "V": ["sqlite"], "alerts": ["sqlite"], "errors": ["sqlite"] },
        "shutdown": { "drain": "200ms", "deadline": "10s" },
    })
}

/// A directory, certificates in it, and a server with the configuration of [`config`].
pub fn start() -> (TempDir, Pki, Server) {
    start_with(|_| {})
}

/// As [`start`], with a configuration that `change` has changed.
pub fn start_with(change: impl FnOnce(&mut Value)) -> (TempDir, Pki, Server) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let mut config = config(&pki);
    change(&mut config);
    let server = Server::start(&pki, &config);
    (dir, pki, server)
}

impl Server {
    /// Starts a server and waits until it says where it listens.
    pub fn start(pki: &Pki, config: &Value) -> Self {
        Self::try_start(pki, config).unwrap_or_else(|(status, log)| panic!("the server ended with {status}: {log:#?}"))
    }

    /// As [`Self::start`], behind a line of shell, such as `ulimit -n 1000`.
    pub fn start_behind(pki: &Pki, config: &Value, line: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{line} && exec \"$0\" \"$@\""), BINARY]);
        Self::spawn(shell, pki, config)
            .unwrap_or_else(|(status, log)| panic!("the server ended with {status}: {log:#?}"))
    }

    /// As [`Self::start`], for a server that may refuse: its exit status and what it said.
    pub fn try_start(pki: &Pki, config: &Value) -> Result<Self, (ExitStatus, Vec<String>)> {
        Self::spawn(Command::new(BINARY), pki, config)
    }

    fn spawn(mut command: Command, pki: &Pki, config: &Value) -> Result<Self, (ExitStatus, Vec<String>)> {
        let path = write_config(pki.dir(), config);
        let mut child = command
            .arg("--config")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = Arc::new(Mutex::new(String::new()));
        let lines = follow(child.stderr.take().unwrap(), Arc::clone(&log), Arc::clone(&stderr));
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["msg"] == "listening" {
                let port =
                    |key: &Value| SocketAddr::from(([127, 0, 0, 1], u16::try_from(key.as_u64().unwrap()).unwrap()));
                return Ok(Self {
                    child,
                    address: event["address"].as_str().unwrap().parse().unwrap(),
                    status: port(&config["status_port"]),
                    metrics: port(&config["monitoring"]["prometheus_metrics_port"]),
                    log,
                    stderr,
                });
            }
            said.push(line);
        }
        let _ = child.kill();
        Err((child.wait().unwrap(), said))
    }

    /// Starts a server whose standard error is `stderr`, which nobody reads until [`Self::read_stderr`], and waits
    /// until it is ready. The configuration needs a port, since no line tells it.
    pub async fn start_unread(pki: &Pki, config: &Value, stderr: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-telemetry"));
        command.stderr(stderr);
        Self::start_command(pki, config, command).await
    }

    /// The same with a command that becomes a server, given its arguments.
    pub async fn start_command(pki: &Pki, config: &Value, mut command: Command) -> Self {
        let port = |key: &Value| SocketAddr::from(([127, 0, 0, 1], u16::try_from(key.as_u64().unwrap()).unwrap()));
        command.arg("--config").arg(write_config(pki.dir(), config));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let server = Self {
            child,
            address: port(&config["port"]),
            status: port(&config["status_port"]),
            metrics: port(&config["monitoring"]["prometheus_metrics_port"]),
            log: Arc::default(),
            stderr: Arc::default(),
        };
        server.until_it_answers().await;
        server
    }

    async fn until_it_answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        // Ready or not: that may be what the test is about.
        while tokio::net::TcpStream::connect(self.status).await.is_err()
            || get(self.status, "/readyz").await.1.contains("loading")
        {
            assert!(Instant::now() < deadline, "the server does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// From now on its standard error, a pipe, is read.
    pub fn read_stderr(&mut self) {
        let stderr = self.child.stderr.take().expect("a pipe that nobody has read");
        drop(follow(stderr, Arc::clone(&self.log), Arc::clone(&self.stderr)));
    }

    /// From now on nobody can read its standard error, a pipe.
    pub fn close_stderr(&mut self) {
        drop(self.child.stderr.take().expect("a pipe that nobody has read"));
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that the process has written to its standard error so far, log lines or not.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Log lines so far with this message.
    pub fn events(&self, message: &str) -> Vec<Value> {
        self.log.lock().unwrap().iter().filter(|event| event["msg"] == message).cloned().collect()
    }

    /// Waits for a log line.
    pub async fn event(&self, message: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.events(message).pop() {
                return event;
            }
            assert!(Instant::now() < deadline, "no {message} in {:#?}", self.log.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until there are `count` lines with this message; more are too many. A line comes after what it tells of:
    /// the server writes it, and this process reads it, each in a thread of its own.
    pub async fn events_become(&self, message: &str, count: usize) {
        let enough = async || self.events(message).len() >= count;
        super::wait::until(&format!("{count} lines {message}"), Duration::from_secs(10), enough).await;
        assert_eq!(self.events(message).len(), count, "lines {message}");
    }

    /// Waits for a log line of which `wanted` holds.
    pub async fn event_where(&self, what: &str, patience: Duration, wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + patience;
        while !self.log.lock().unwrap().iter().any(&wanted) {
            assert!(Instant::now() < deadline, "no line about {what} in {:#?}", self.log.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn signal(&self, name: &str) {
        process::signal(self.pid(), name);
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server is still there after {patience:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until `/readyz` gives this status; its body.
    pub async fn readiness_becomes(&self, status: u16, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let (found, body) = get(self.status, "/readyz").await;
            if found == status {
                return body;
            }
            assert!(Instant::now() < deadline, "/readyz is still {found} after {patience:?}: {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn metric(&self, line: &str) -> f64 {
        let (_, body) = get(self.metrics, "/metrics").await;
        body.lines()
            .find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {line} in\n{body}"))
    }

    /// Waits until a metric has a value.
    pub async fn metric_becomes(&self, line: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = self.metric(line).await;
            if (last - value).abs() < 1e-9 {
                return;
            }
            assert!(Instant::now() < deadline, "{line} is {last}, not {value}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `GET path`, over plain HTTP: status and body.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// A port that nobody listens on. Below the range that the kernel gives to outgoing connections: while a server
/// restarts, one of those must not take its port.
pub fn free_port() -> u16 {
    std::iter::repeat_with(|| 20_000 + uuid::Uuid::new_v4().as_u64_pair().0 % 12_000)
        .map(|port| u16::try_from(port).unwrap())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

pub fn write_config(dir: &Path, config: &Value) -> PathBuf {
    let path = dir.join("config.json");
    std::fs::write(&path, serde_json::to_vec_pretty(config).unwrap()).unwrap();
    path
}

fn follow(stderr: std::process::ChildStderr, log: Arc<Mutex<Vec<Value>>>, all: Arc<Mutex<String>>) -> Receiver<String> {
    let (lines, received) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if std::env::var_os("SHOW_SERVER_LOG").is_some() {
                eprintln!("{line}");
            }
            {
                let mut all = all.lock().unwrap();
                all.push_str(&line);
                all.push('\n');
            }
            if let Ok(event) = serde_json::from_str(&line) {
                log.lock().unwrap().push(event);
            }
            let _ = lines.send(line);
        }
    });
    received
}
