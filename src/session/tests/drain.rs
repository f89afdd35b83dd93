//! The end of the process, as its sessions live through it.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use uuid::Uuid;

use super::SECOND;
use super::site::{Peer, Site};
use crate::config::Shutdown;
use crate::session::SessionEnd;
use crate::session::websocket::close_code;

fn shutdown(drain_ms: u64, deadline_ms: u64) -> Shutdown {
    Shutdown { drain: Duration::from_millis(drain_ms), deadline: Duration::from_millis(deadline_ms) }
}

/// Connections whose turns to close are spread evenly.
fn connect(site: &Site, vehicles: u32) -> Vec<Peer> {
    (0..vehicles)
        .map(|n| {
            let id = Uuid::from_fields(u32::MAX / vehicles * n, 0, 0, &[0; 8]);
            site.connect_as(&format!("VIN{n}"), id)
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_vehicle_is_told_in_time_whatever_the_times_are_and_whatever_it_has_in_flight() {
    for (drain, deadline) in [(0, 1000), (500, 1000), (3000, 6000), (200, 10_000), (10_000, 25_000), (30_000, 60_000)] {
        let site = Site::ending(shutdown(drain, deadline));
        let mut peers = connect(&site, 40);
        for (n, peer) in peers.iter_mut().enumerate() {
            if n % 2 == 0 {
                peer.send("never-settles").await;
            }
        }
        tokio::time::sleep(SECOND).await;
        site.pipeline.shutdown.drain();
        let end = site.pipeline.shutdown.sessions_end();
        for mut peer in peers {
            assert_eq!(peer.message().await.close_code(), Some(close_code::GOING_AWAY), "{drain} of {deadline} ms");
            assert_eq!(
                tokio::time::timeout_at(end, peer.session).await.expect("in time").unwrap(),
                SessionEnd::Drained
            );
        }
        assert!(Instant::now() <= end);
    }
}

#[tokio::test(start_paused = true)]
async fn what_settles_in_time_is_acked_before_the_goodbye() {
    let site = Site::ending(shutdown(0, 8000));
    let mut peer = site.connect("VIN");
    peer.send("late").await;
    tokio::time::sleep(SECOND).await;
    site.pipeline.shutdown.drain();
    tokio::time::sleep(SECOND).await;
    site.sink.settle_all();
    peer.expect_ack("late").await;
    assert_eq!(peer.message().await.close_code(), Some(close_code::GOING_AWAY));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_once_a_vehicles_turn_has_come() {
    let site = Site::ending(shutdown(0, 8000));
    let mut peers = connect(&site, 10);
    for peer in &mut peers {
        peer.send("before").await;
    }
    tokio::time::sleep(SECOND).await;
    site.pipeline.shutdown.drain();
    for _ in 0..80 {
        for peer in &mut peers {
            let frame = peer.record("after", 10);
            let _ = tokio::time::timeout(Duration::from_millis(1), peer.stream.write_all(&frame)).await;
        }
        tokio::time::sleep(SECOND / 10).await;
    }
    assert_eq!(site.sink.taken(), ["before"; 10]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_to_be_announced_does_not_outlast_its_time() {
    let site = Site::announcing(shutdown(500, 2000));
    let first = site.connect("FIRST");
    // There is no room for the announcement of this one, nor for that of anybody's end.
    let second = site.connect("SECOND");
    tokio::time::sleep(SECOND / 10).await;
    site.pipeline.shutdown.drain();
    let end = site.pipeline.shutdown.sessions_end();
    for mut peer in [first, second] {
        assert_eq!(peer.message().await.close_code(), Some(close_code::GOING_AWAY));
        tokio::time::timeout_at(end, peer.session).await.expect("in time").unwrap();
    }
}
