//! Whatever a server does wrong, the simulator notices. The server here is a standard WebSocket
//! implementation, so this also shows that the simulator's own framing is one.

use std::net::Ipv4Addr;
use std::sync::Arc;

use clap::Parser;
use fleet_telemetry::envelope::{Envelope, reply};
use futures_util::{SinkExt, StreamExt};
use load_tests::certs::Files;
use load_tests::cli::Arguments;
use load_tests::{floor, modes};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

/// How a server answers a record.
type Answer = fn(&Envelope<'_>) -> Vec<Vec<u8>>;

/// Runs one vehicle for a second against a server that answers like this; returns the report.
fn simulate(answer: Answer) -> (bool, Value) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let files = Files::in_dir(dir.path());
    files.create().expect("certificates");
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let tls = TlsAcceptor::from(Arc::new(floor::server_config(&files).expect("valid")));
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("bound");
    let port = listener.local_addr().expect("address").port().to_string();
    runtime.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve(tcp, tls.clone(), answer));
        }
    });
    let json = dir.path().join("report.json");
    let [certs, report] = [dir.path(), &json].map(|path| path.to_str().expect("UTF-8"));
    let common = ["--port", &port, "--certs", certs, "--json", report, "--vehicles", "1"];
    let times = ["--seconds", "0.5", "--warmup-seconds", "0", "--drain-seconds", "0.5"];
    let all = ["fleet-sim", "steady", "--rate", "50"].iter().chain(&common).chain(&times);
    let good = modes::run(Arguments::try_parse_from(all).expect("valid arguments")).expect("ran");
    (good, serde_json::from_slice(&std::fs::read(&json).expect("report")).expect("JSON"))
}

async fn serve(tcp: TcpStream, tls: TlsAcceptor, answer: Answer) {
    let stream = tls.accept(tcp).await.expect("handshake");
    let mut socket = tokio_tungstenite::accept_async(stream).await.expect("upgrade");
    socket.send(Message::Ping("hello".into())).await.expect("sent");
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(frame) = message {
            for reply in answer(&Envelope::parse(&frame).expect("a stream message")) {
                socket.send(Message::Binary(reply.into())).await.expect("sent");
            }
        }
    }
}

fn ack(txid: &[u8], topic: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    reply::ack(&mut bytes, txid, topic);
    bytes
}

fn error(txid: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    reply::error(&mut bytes, txid);
    bytes
}

fn assert_noticed(answer: Answer, count: &str) {
    let (good, report) = simulate(answer);
    let records = report["totals"]["sent"].as_u64().expect("a count");
    assert!(records > 1, "{report}");
    assert!(!good && !report["failures"].as_array().expect("a list").is_empty(), "{report}");
    // The vehicle leaves with the last ack, so it may miss what follows it.
    let noticed = report["totals"][count].as_u64().expect("a count");
    assert!(noticed > 0 && (records - 1..=records).contains(&noticed), "{count}: {report}");
}

#[test]
fn an_honest_server_passes() {
    let (good, report) = simulate(|record| vec![ack(record.txid, record.topic)]);
    assert!(good, "{report}");
    assert_eq!(report["totals"]["acked"], report["totals"]["made"]);
}

#[test]
fn a_second_ack_is_noticed() {
    assert_noticed(|record| vec![ack(record.txid, record.topic); 2], "duplicates");
}

#[test]
fn an_ack_for_another_record_is_noticed() {
    assert_noticed(|record| vec![ack(b"1234", record.topic), ack(record.txid, record.topic)], "unknown_acks");
}

#[test]
fn an_ack_with_another_topic_is_noticed() {
    assert_noticed(|record| vec![ack(record.txid, b"alerts"), ack(record.txid, record.topic)], "wrong_topic");
}

#[test]
fn an_error_response_is_noticed() {
    assert_noticed(|record| vec![error(record.txid)], "errors");
}

#[test]
fn a_reply_that_is_no_reply_is_noticed() {
    assert_noticed(|record| vec![b"?".to_vec(), ack(record.txid, record.topic)], "unreadable_replies");
}

#[test]
fn silence_is_noticed() {
    assert_noticed(|_| Vec::new(), "lost");
}
