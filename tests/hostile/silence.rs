//! Connections to the vehicles' port that prove nothing. Good vehicles connect and get their acks meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::pki::Pki;
use crate::support::server::{self, Server, start_with};
use crate::support::vehicle::{Vehicle, request, v_payload};

const VIN: &str = "5YJ3E1EA0PF000001";
const OTHER: &str = "5YJ3E1EA0PF000002";
/// A vehicle takes tens of milliseconds on a quiet machine. Where silence kept places, it took the ten seconds of a
/// timeout.
const SOON: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

/// A vehicle that is connected before anything happens.
struct Established(Vehicle);

impl Established {
    async fn connect(server: &Server, pki: &Pki) -> Self {
        Self(Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await)
    }

    /// Sends a record; the time to its ack.
    async fn ack(&mut self, txid: &str) -> Duration {
        let sent = Instant::now();
        self.0.send("V", txid, &v_payload(VIN, 1.0)).await;
        self.0.expect_ack("V", txid).await;
        sent.elapsed()
    }

    /// Five vehicles connect, one after the other, and this one gets acks meanwhile.
    async fn feels_nothing(&mut self, server: &Server, newcomer: &Arc<ClientConfig>, meanwhile: &str) {
        let (mut slowest_connect, mut slowest_ack) = (Duration::ZERO, Duration::ZERO);
        for n in 0..5 {
            let started = Instant::now();
            let connecting = Vehicle::connect(server.address, newcomer, OTHER);
            let mut vehicle = tokio::time::timeout(SOON, connecting).await.unwrap_or_else(|_| {
                panic!("a vehicle is not connected after {SOON:?} beside {meanwhile}");
            });
            slowest_connect = slowest_connect.max(started.elapsed());
            vehicle.send("V", "new", &v_payload(OTHER, 1.0)).await;
            vehicle.expect_ack("V", "new").await;
            slowest_ack = slowest_ack.max(self.ack(&format!("old-{n}")).await);
        }
        println!("beside {meanwhile}: slowest connect {slowest_connect:?}, slowest ack {slowest_ack:?}");
        assert!(slowest_ack < SOON, "an ack took {slowest_ack:?} beside {meanwhile}");
    }
}

/// This process needs more open files than most shells allow at first.
fn many_open_files() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
}

fn start(limits: serde_json::Value) -> (TempDir, Pki, Server) {
    many_open_files();
    start_with(|config| {
        config["limits"] = limits;
        config["log_level"] = json!("info");
    })
}

async fn silent(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        sockets.push(TcpStream::connect(server.address).await.unwrap());
    }
    sockets
}

/// The first flight of a vehicle.
fn client_hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Clients that send a valid ClientHello, and then nothing.
async fn stalled(server: &Server, config: &Arc<ClientConfig>, count: usize) -> Vec<TcpStream> {
    let mut sockets = silent(server, count).await;
    for socket in &mut sockets {
        socket.write_all(&client_hello(config)).await.unwrap();
    }
    sockets
}

/// Clients that send their ClientHello one byte a second until they are cut off.
fn dribble(sockets: Vec<TcpStream>, config: &Arc<ClientConfig>) -> JoinSet<()> {
    let hello = client_hello(config);
    sockets
        .into_iter()
        .map(|mut socket| {
            let hello = hello.clone();
            async move {
                for byte in hello {
                    if socket.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    let cut = tokio::time::timeout(Duration::from_secs(1), socket.read_u8());
                    if cut.await.is_ok() {
                        return;
                    }
                }
            }
        })
        .collect()
}

async fn refused(server: &Server, reason: &str) -> f64 {
    server.metric(&format!("connection_refused_total{{reason=\"{reason}\"}}")).await
}

async fn refused_reaches(server: &Server, reason: &str, count: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = refused(server, reason).await;
        if found >= count {
            return;
        }
        assert!(Instant::now() < deadline, "{found} of {count} were refused with {reason}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_that_are_silent_or_dribble_delay_nobody() {
    let (_dir, pki, server) = start(json!({ "max_handshakes": 8, "client_hello_timeout": "6s" }));
    let newcomer = pki.vehicle(OTHER);
    let mut established = Established::connect(&server, &pki).await;
    let silent_ones = silent(&server, 1000).await;
    let mut dribbling = dribble(silent(&server, 1000).await, &newcomer);
    established.feels_nothing(&server, &newcomer, "2,000 silent or dribbling connections").await;
    // A byte a second does not stretch the time; a ClientHello would take minutes.
    let cut = async { while dribbling.join_next().await.is_some() {} };
    assert!(tokio::time::timeout(PATIENCE, cut).await.is_ok(), "some still dribble");
    refused_reaches(&server, "client_hello_timeout", 2000.0).await;
    server.metric_becomes("num_pending_connections", 0.0).await;
    drop(silent_ones);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stall_behind_their_client_hello_delay_nobody() {
    let (_dir, pki, server) = start(json!({ "max_handshakes": 2 }));
    let newcomer = pki.vehicle(OTHER);
    let mut established = Established::connect(&server, &pki).await;
    let _stalled = stalled(&server, &newcomer, 300).await;
    established.feels_nothing(&server, &newcomer, "300 stalled handshakes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_silent_connections_makes_room_for_a_vehicle() {
    let limits = json!({ "max_pending_connections": 100, "client_hello_timeout": "1m", "handshake_timeout": "1m" });
    let (_dir, pki, server) = start(limits);
    let mut established = Established::connect(&server, &pki).await;
    let _silent = silent(&server, 500).await;
    established.feels_nothing(&server, &pki.vehicle(OTHER), "a flood of silent connections").await;
    refused_reaches(&server, "displaced_silent", 400.0).await;
    assert_eq!(server.event("pending_connections_full").await["limit"], 100);
    assert!(server.metric("num_pending_connections").await <= 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_handshakes_in_every_place_make_room_after_their_grace() {
    let limits = json!({ "max_pending_connections": 20, "client_hello_timeout": "1m", "handshake_timeout": "1m" });
    let (_dir, pki, server) = start(limits);
    let newcomer = pki.vehicle(OTHER);
    let mut established = Established::connect(&server, &pki).await;
    let stalled = stalled(&server, &newcomer, 20).await;
    for socket in &stalled {
        // The server's answer is there.
        tokio::time::timeout(PATIENCE, socket.readable()).await.unwrap().unwrap();
    }
    established.feels_nothing(&server, &newcomer, "stalled handshakes in every place").await;
    assert!(refused(&server, "displaced_slow").await >= 1.0);
    assert_eq!(refused(&server, "displaced_silent").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_silent_ones_of_an_address_make_room_for_a_vehicle_behind_the_same_address() {
    let limits = json!({ "max_connections_per_address": 10, "client_hello_timeout": "1m", "handshake_timeout": "1m" });
    let (_dir, pki, server) = start(limits);
    let mut established = Established::connect(&server, &pki).await;
    let _silent = silent(&server, 30).await;
    established.feels_nothing(&server, &pki.vehicle(OTHER), "silent connections from its own address").await;
    assert_eq!(refused(&server, "address_limit").await, 0.0);
}

/// A fleet that connects at once; each vehicle tries until it is in. How many tries failed.
async fn fleet(server: &Server, config: &Arc<ClientConfig>, size: usize) -> usize {
    let mut connecting = JoinSet::new();
    for _ in 0..size {
        let (config, address) = (Arc::clone(config), server.address);
        connecting.spawn(async move {
            let mut failed = 0;
            loop {
                match Vehicle::try_connect(address, &config, VIN, request(address)).await {
                    Ok(vehicle) => return (vehicle, failed),
                    Err(_) => failed += 1,
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    let vehicles = tokio::time::timeout(2 * PATIENCE, connecting.join_all()).await.expect("the whole fleet is in");
    let connected = f64::from(u32::try_from(size).unwrap());
    server.metric_becomes("num_connections", connected).await;
    vehicles.iter().map(|(_, failed)| failed).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_comes_at_once_gets_in_by_a_few_turns() {
    let (_dir, pki, server) = start(json!({ "max_handshakes": 2 }));
    assert_eq!(fleet(&server, &pki.vehicle(VIN), 500).await, 0, "nobody had to try again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_comes_at_once_gets_in_by_a_few_places() {
    let (_dir, pki, server) = start(json!({ "max_pending_connections": 20 }));
    let failed = fleet(&server, &pki.vehicle(VIN), 500).await;
    println!("500 vehicles through 20 places: {failed} tries failed");
}

#[tokio::test]
async fn a_client_hello_that_never_ends_is_cut_off_before_it_fills_memory() {
    let (_dir, _pki, server) = start(json!({ "client_hello_timeout": "1m", "handshake_timeout": "1m" }));
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    // A ClientHello of 60,000 bytes, in records of 4,096.
    let mut first = vec![0x16, 3, 1, 0x10, 0, 1, 0, 0xea, 0x60];
    first.resize(5 + 4096, 0);
    let mut record = vec![0x16, 3, 1, 0x10, 0];
    record.resize(5 + 4096, 0);
    let mut sent = socket.write_all(&first).await;
    for _ in 0..10 {
        sent = sent.and(socket.write_all(&record).await);
    }
    let mut answer = Vec::new();
    let cut = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    assert!(cut.is_ok(), "it is still connected: {sent:?}");
    refused_reaches(&server, "tls", 1.0).await;
}

#[tokio::test]
async fn at_the_limit_of_sessions_a_newcomer_is_told_at_once_and_those_connected_notice_nothing() {
    let (_dir, pki, server) = start(json!({ "max_connections": 2 }));
    let config = pki.vehicle(OTHER);
    let mut established = Established::connect(&server, &pki).await;
    let second = Vehicle::connect(server.address, &config, OTHER).await;
    for _ in 0..3 {
        let third = Vehicle::try_connect(server.address, &config, OTHER, request(server.address));
        let third = tokio::time::timeout(SOON, third).await.expect("an answer, and no wait in the backlog");
        assert!(third.is_err(), "there is no place");
    }
    refused_reaches(&server, "connection_limit", 3.0).await;
    assert_eq!(server.event("connection_limit_reached").await["limit"], 2);
    assert!(established.ack("still-here").await < SOON);
    drop(second);
    server.metric_becomes("num_connections", 1.0).await;
    established.0.send("V", "t", &v_payload(VIN, 1.0)).await;
    established.0.expect_ack("V", "t").await;
    let deadline = Instant::now() + PATIENCE;
    while Vehicle::try_connect(server.address, &config, OTHER, request(server.address)).await.is_err() {
        assert!(Instant::now() < deadline, "the place has not come back");
    }
}

#[tokio::test]
async fn silent_connections_do_not_hold_up_the_end() {
    let (_dir, _pki, mut server) = start(json!({ "client_hello_timeout": "1m", "handshake_timeout": "1m" }));
    let _silent = silent(&server, 100).await;
    server.metric_becomes("num_pending_connections", 100.0).await;
    let asked = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(PATIENCE).code(), Some(0));
    // They would have held it up to half of the deadline of ten seconds.
    assert!(asked.elapsed() < SOON, "it took {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_file_descriptors_the_silent_make_room() {
    let (_dir, pki, server) = start(json!({ "client_hello_timeout": "1m", "handshake_timeout": "1m" }));
    let mut established = Established::connect(&server, &pki).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count() as u64;
    let limit = Rlimit { current: Some(open + 12), maximum: Some(open + 12) };
    prlimit(Pid::from_raw(server.pid().cast_signed()), Resource::Nofile, limit).unwrap();
    let silent_ones = silent(&server, 40).await;
    established.feels_nothing(&server, &pki.vehicle(OTHER), "silent connections that use up all descriptors").await;
    drop(silent_ones);
    assert!(refused(&server, "accept").await >= 1.0);
    assert!(server.event("accept_error").await["error"].as_str().unwrap().contains("Too many open files"));
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let mut config = server::config(&pki);
    let server = Server::start_behind(&pki, &config, "ulimit -Sn 300");
    let hard = getrlimit(Resource::Nofile).maximum.unwrap();
    assert_eq!(server.event("open_files").await["limit"], hard);
    server.metric_becomes("limit{bound=\"open_files\"}", hard as f64).await;
    drop(server);

    config["limits"] = json!({ "max_connections": 1000, "max_pending_connections": 100 });
    let server = Server::start_behind(&pki, &config, "ulimit -Sn 800 && ulimit -Hn 1200");
    let warning = server.event("open_files_below_connections").await;
    assert_eq!((&warning["limit"], &warning["needed"]), (&json!(1200), &json!(1612)));
    server.metric_becomes("limit{bound=\"open_files\"}", 1200.0).await;
    // A quarter is reserved, and a sixteenth of the rest is for newcomers.
    server.metric_becomes("limit{bound=\"connections\"}", 844.0).await;
    drop(server);

    config["limits"] = json!({ "max_connections": 100, "max_pending_connections": 50 });
    let server = Server::start_behind(&pki, &config, "ulimit -n 1200");
    assert!(server.events("open_files_below_connections").is_empty());
}
