//! Health and metrics over real sockets.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_telemetry::admin::{self, Phase, Readiness, State, Surface, Unhealthy};
use fleet_telemetry::config;
use fleet_telemetry::metrics::Metrics;
use fleet_telemetry::port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Server {
    address: SocketAddr,
    state: Arc<State>,
    unhealthy: Arc<Mutex<Vec<Unhealthy>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(surface: Surface) -> Server {
    let unhealthy = Arc::new(Mutex::new(Vec::new()));
    let sampled = Arc::clone(&unhealthy);
    let state = Arc::new(State {
        readiness: Readiness::default(),
        unhealthy: Box::new(move || sampled.lock().unwrap().clone()),
        metrics: Arc::new(Metrics::default()),
    });
    let listener = port::bind("status_port", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let bounds = config::Http::default();
    let task = tokio::spawn(admin::serve(listener, surface, bounds, Arc::clone(&state), async { drop(stopped.await) }));
    Server { address, state, unhealthy, stop, task }
}

impl Server {
    /// Head and body of the answer.
    async fn ask(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// Status code and body.
    async fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = self.ask("GET", path).await;
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }
}

fn answer(code: u16, body: &str) -> (u16, String) {
    (code, body.to_owned())
}

#[tokio::test]
async fn answers_status_as_the_reference_does() {
    let server = start(Surface::Status).await;
    assert_eq!(server.get("/status").await, answer(200, "ok"));
    assert!(server.ask("POST", "/status").await.0.starts_with("HTTP/1.1 200 "));
    assert_eq!(server.get("/").await, answer(404, "404 page not found\n"));
    assert_eq!(server.get("/metrics").await, answer(404, "404 page not found\n"));
}

#[tokio::test]
async fn is_ready_only_between_loading_and_draining() {
    for surface in [Surface::Status, Surface::Metrics] {
        let server = start(surface).await;
        assert_eq!(server.get("/readyz").await, answer(503, "loading\n"));
        assert_eq!(server.get("/livez").await, answer(200, "ok"));
        server.state.readiness.advance(Phase::Ready);
        assert_eq!(server.get("/readyz").await, answer(200, "ready"));
        server.state.readiness.advance(Phase::Draining);
        assert_eq!(server.get("/readyz").await, answer(503, "draining\n"));
        assert_eq!(server.get("/livez").await, answer(200, "ok"));
    }
}

#[tokio::test]
async fn names_each_dispatcher_that_does_not_deliver() {
    let server = start(Surface::Status).await;
    server.state.readiness.advance(Phase::Ready);
    *server.unhealthy.lock().unwrap() = vec![
        Unhealthy { part: "kafka", reason: "all brokers down\nsince 5s".to_owned() },
        Unhealthy { part: "sqlite", reason: "disk full".to_owned() },
    ];
    let expected = "kafka: all brokers down\\nsince 5s\nsqlite: disk full\n";
    assert_eq!(server.get("/readyz").await, answer(503, expected));
    server.unhealthy.lock().unwrap().clear();
    assert_eq!(server.get("/readyz").await, answer(200, "ready"));
}

#[tokio::test]
async fn serves_metrics() {
    let server = start(Surface::Metrics).await;
    server.state.metrics.scope(|| metrics::counter!("record_total", "record_type" => "V")).increment(2);
    let (head, body) = server.ask("GET", "/metrics").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("record_total{record_type=\"V\"} 2\n"), "{body}");
    assert_eq!(server.get("/status").await.0, 404);
}

#[tokio::test]
async fn stops_at_once_although_an_idle_client_stays() {
    let server = start(Surface::Status).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut some = [0; 16];
    idle.read_exact(&mut some).await.unwrap();
    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(1), server.task).await.expect("stopped").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn names_key_and_address_of_a_port_that_is_taken() {
    let taken = port::bind("status_port", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    let error = port::bind("status_port", address).unwrap_err();
    assert!(error.to_string().starts_with(&format!("status_port: cannot listen on {address}: ")), "{error}");
}
