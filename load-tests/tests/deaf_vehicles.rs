//! Vehicles that send and never read, beside others that do.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use load_tests::certs::Files;
use load_tests::cli::Arguments;
use load_tests::floor::{self, Floor};
use load_tests::modes;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime")
}

/// Runs vehicles for a second against `port`; returns whether that went well, and the report.
fn simulate(dir: &Path, port: u16, arguments: &[&str]) -> (bool, Value) {
    let json = dir.join("report.json");
    let [certs, report] = [dir, &json].map(|path| path.to_str().expect("UTF-8"));
    let port = port.to_string();
    let common = ["fleet-sim", "steady", "--port", &port, "--certs", certs, "--json", report];
    let times = ["--seconds", "1", "--warmup-seconds", "0.3", "--drain-seconds", "5", "--max-backoff-ms", "100"];
    let all = common.iter().chain(&times).chain(arguments);
    let good = modes::run(Arguments::try_parse_from(all).expect("valid arguments")).expect("ran");
    (good, serde_json::from_slice(&std::fs::read(&json).expect("report")).expect("JSON"))
}

/// Sends until the vehicle has taken nothing for a while, then drops it without having read more than one record.
async fn stall(tcp: TcpStream, tls: TlsAcceptor, stalled: Arc<AtomicUsize>) {
    let stream = tls.accept(tcp).await.expect("handshake");
    let mut socket = tokio_tungstenite::accept_async(stream).await.expect("upgrade");
    socket.next().await;
    let reply = || Message::Binary(vec![0; 1024].into());
    while let Ok(sent) = timeout(Duration::from_millis(200), socket.send(reply())).await {
        if sent.is_err() {
            return;
        }
    }
    stalled.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_deaf_vehicle_takes_no_reply_and_comes_back_when_it_is_dropped() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let files = Files::in_dir(dir.path());
    files.create().expect("certificates");
    let runtime = runtime();
    let tls = TlsAcceptor::from(Arc::new(floor::server_config(&files).expect("valid")));
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("bound");
    let port = listener.local_addr().expect("address").port();
    let stalled = Arc::new(AtomicUsize::new(0));
    let counter = stalled.clone();
    runtime.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(stall(tcp, tls.clone(), counter.clone()));
        }
    });
    let (good, report) = simulate(dir.path(), port, &["--vehicles", "1", "--rate", "50", "--deaf-share", "1"]);
    assert!(good, "being dropped is what a deaf vehicle expects: {report}");
    let ended = report["totals"]["deaf_ended"].as_u64().expect("a count");
    assert!(ended > 0 && ended <= stalled.load(Ordering::Relaxed) as u64, "{report}");
    assert!(report["totals"]["connected"].as_u64() > Some(1), "{report}");
    assert_eq!(report["totals"]["sent"], 0, "what deaf vehicles send has its own count: {report}");
}

#[test]
fn deaf_vehicles_send_until_they_are_held_back_and_the_others_do_not_notice() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let files = Files::in_dir(dir.path());
    files.create().expect("certificates");
    let runtime = runtime();
    let floor = runtime.block_on(Floor::bind((Ipv4Addr::LOCALHOST, 0).into(), &files)).expect("bound");
    let port = floor.local_addr().expect("address").port();
    runtime.spawn(floor.serve());
    let (good, report) = simulate(dir.path(), port, &["--vehicles", "10", "--rate", "400", "--deaf-share", "0.2"]);
    assert!(good, "{report}");
    let total = |count: &str| report["totals"][count].as_u64().expect("a count");
    assert_eq!((report["deaf_vehicles"].as_u64(), total("deaf_ended")), (Some(2), 0));
    assert!(total("deaf_sent") > 500, "{report}");
    assert!(total("acked") > 200 && total("acked") == total("made"), "{report}");
}
