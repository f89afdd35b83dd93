//! What a process has only so much of: file descriptors and memory, when vehicles come and go or make up new things.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::pki::Pki;
use crate::support::process;
use crate::support::server::{Server, config, get, start, start_with};
use crate::support::vehicle::{UPGRADE, Vehicle, frame, masked, request, tls, upgraded, v_payload};
use crate::witness::Witness;

const VIN: &str = "5YJ3E1EA0PF000001";
const KIB: u64 = 1024;
const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// How many connections come and go; `CHURN=10000` for the whole of it.
fn churn() -> usize {
    std::env::var("CHURN").map_or(3000, |count| count.parse().expect("a number"))
}

async fn descriptors_become(server: &Server, most: usize) {
    let deadline = Instant::now() + PATIENCE;
    while process::descriptors(server.pid()) > most {
        assert!(Instant::now() < deadline, "{} descriptors, not {most}", process::descriptors(server.pid()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_descriptors_those_connected_go_on_and_others_come_in_when_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let server = Server::start_behind(&pki, &config(&pki), "ulimit -n 64");
    let witness = Witness::of(&server, &pki);
    let vehicle = pki.vehicle(VIN);
    // Far more than there are descriptors: some are vehicles, some only connect.
    let mut held = JoinSet::new();
    for n in 0..150 {
        let (address, vehicle) = (server.address, Arc::clone(&vehicle));
        held.spawn(async move {
            if n % 2 == 0 {
                let _silent = TcpStream::connect(address).await;
                std::future::pending::<()>().await;
            }
            let _session = Vehicle::try_connect(address, &vehicle, VIN, request(address)).await;
            std::future::pending::<()>().await;
        });
    }
    let deadline = Instant::now() + PATIENCE;
    while process::descriptors(server.pid()) < 48 {
        assert!(Instant::now() < deadline, "{} descriptors in use", process::descriptors(server.pid()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{} descriptors are in use", process::descriptors(server.pid()));
    held.shutdown().await;
    let connecting = async {
        loop {
            if let Ok(mut newcomer) = Vehicle::try_connect(server.address, &vehicle, VIN, request(server.address)).await
            {
                newcomer.send("V", "new", &v_payload(VIN, 1.0)).await;
                newcomer.expect_ack("V", "new").await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, connecting).await.expect("a vehicle comes in again");
    witness.testify("150 clients for 64 descriptors").await;
}

/// One connection that comes, does something, and goes in one of four ways.
async fn come_and_go(server: std::net::SocketAddr, config: &Arc<ClientConfig>, n: usize) {
    match n % 4 {
        // As it should be.
        0 | 1 => {
            let mut vehicle = Vehicle::connect(server, config, VIN).await;
            let txid = n.to_string();
            vehicle.send("V", &txid, &v_payload(VIN, 1.0)).await;
            vehicle.expect_ack("V", &txid).await;
            if n.is_multiple_of(4) {
                vehicle.socket.close(None).await.unwrap();
                vehicle.receive().await;
            } else {
                vehicle.socket.get_ref().get_ref().0.set_zero_linger().unwrap();
            }
        }
        // A record, and gone before its ack.
        2 => {
            let mut stream = upgraded(server, config).await;
            stream.write_all(&masked(0x82, &frame("V", "gone", VIN, &v_payload(VIN, 1.0)))).await.unwrap();
            stream.flush().await.unwrap();
        }
        // Gone before the upgrade is answered.
        _ => {
            let mut stream = tls(server, config).await.unwrap();
            stream.write_all(&UPGRADE[..n % UPGRADE.len()]).await.unwrap();
            stream.get_ref().0.set_zero_linger().unwrap();
        }
    }
}

/// Connections `from` to `to`, a few dozen at a time.
async fn many_come_and_go(server: &Server, config: &Arc<ClientConfig>, from: usize, to: usize) {
    let next = Arc::new(AtomicUsize::new(from));
    let mut workers = JoinSet::new();
    for _ in 0..32 {
        let (next, address, config) = (Arc::clone(&next), server.address, Arc::clone(config));
        workers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= to {
                    return;
                }
                come_and_go(address, &config, n).await;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    server.metric_becomes("num_connections", 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_that_come_and_go_leave_neither_memory_nor_descriptors_behind() {
    let (_dir, pki, server) = start_with(|config| config["log_level"] = json!("info"));
    let witness = Witness::of(&server, &pki);
    let config = pki.vehicle(VIN);
    let descriptors = process::descriptors(server.pid());
    many_come_and_go(&server, &config, 0, 1000).await;
    let before = process::resident_bytes(server.pid());
    let started = Instant::now();
    many_come_and_go(&server, &config, 1000, churn()).await;
    descriptors_become(&server, descriptors).await;
    let after = process::resident_bytes(server.pid());
    println!(
        "{} connections came and went in {:?}: {} KiB before, {} KiB after, {descriptors} descriptors",
        churn() - 1000,
        started.elapsed(),
        before / KIB,
        after / KIB
    );
    assert!(after < before + 12 * MIB, "memory grew from {before} to {after} bytes");
    witness.testify(&format!("{} connections that come and go", churn())).await;
}

/// Lines of `/metrics`: one for each set of labels.
async fn series(server: &Server) -> usize {
    get(server.metrics, "/metrics").await.1.lines().filter(|line| !line.starts_with('#')).count()
}

/// A vehicle sends records of which everything is new, in a burst.
async fn invent(vehicle: &mut Vehicle, from: usize, to: usize) {
    for n in from..to {
        let sender = format!("vehicle_device.{VIN}");
        vehicle.send_frame(frame(&format!("topic-{n}"), &format!("txid-{n}"), &sender, b"x")).await;
        vehicle.send_frame(frame("V", &format!("v-{n}"), &format!("sender-{n}"), &v_payload(VIN, 1.0))).await;
        // Nobody else's.
        vehicle.send_frame(frame(&format!("topic-{n}"), "t", &format!("sender-{n}"), b"x")).await;
        for _ in 0..3 {
            vehicle.receive().await;
        }
    }
}

#[tokio::test]
async fn names_that_vehicles_make_up_become_neither_labels_nor_memory() {
    let (_dir, pki, server) = start_with(|config| config["log_level"] = json!("info"));
    let witness = Witness::of(&server, &pki);
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    invent(&mut vehicle, 0, 200).await;
    let (series_before, before) = (series(&server).await, process::resident_bytes(server.pid()));
    invent(&mut vehicle, 200, 2000).await;
    let config = pki.vehicle(VIN);
    for n in 0..200 {
        let mut request = request(server.address);
        for name in ["X-Network-Interface", "Version", "User-Agent", "X-Forwarded-For"] {
            request.headers_mut().insert(name, format!("{n}-{}", "x".repeat(300)).parse().unwrap());
        }
        request.headers_mut().insert("X-TXID", uuid::Uuid::new_v4().to_string().parse().unwrap());
        let mut other = Vehicle::connect_with(server.address, &config, VIN, request).await;
        other.send("V", &format!("h-{n}"), &v_payload(VIN, 1.0)).await;
        other.expect_ack("V", &format!("h-{n}")).await;
    }
    let grown = process::resident_bytes(server.pid()).saturating_sub(before);
    println!("7,000 made-up names: memory grew by {} KiB, {series_before} series stayed", grown / KIB);
    assert_eq!(series(&server).await, series_before, "a name has become a label");
    assert!(grown < 16 * MIB, "memory grew by {grown} bytes");
    witness.testify("7,000 made-up names").await;
}

#[tokio::test]
async fn paths_that_clients_make_up_become_no_labels() {
    let (_dir, pki, server) = start();
    get(server.status, "/nothing").await;
    get(server.metrics, "/nothing").await;
    let before = series(&server).await;
    for n in 0..50 {
        assert_eq!(get(server.status, &format!("/made-up-{n}")).await.0, 404);
        assert_eq!(get(server.metrics, &format!("/made-up-{n}")).await.0, 404);
    }
    assert_eq!(series(&server).await, before);
    drop(pki);
}
