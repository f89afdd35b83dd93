//! The end of one connection.

use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::SECOND;
use super::site::Site;
use crate::session::SessionEnd;

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_gets_everything_that_waits_for_it_and_then_the_answer() {
    let site = Site::new(|_| {});
    site.sink.set_acking(true);
    let mut peer = site.connect("VIN");
    let txids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for txid in &txids {
        peer.send(txid).await;
    }
    peer.close().await;
    // All replies do not fit into the pipe, so some are left when the close frame is read.
    tokio::time::sleep(SECOND).await;
    assert!(!peer.session.is_finished());
    let start = Instant::now();
    for txid in &txids {
        peer.expect_ack(txid).await;
    }
    assert_eq!(peer.message().await.close_code(), Some(1000));
    assert_eq!(peer.session.await.unwrap(), SessionEnd::ClosedByPeer);
    assert!(start.elapsed() < SECOND, "no timer had to wake it: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_and_reads_nothing_more_is_given_up_after_the_write_timeout() {
    let site = Site::new(|limits| limits.write_timeout = 7 * SECOND);
    site.sink.set_acking(true);
    let mut peer = site.connect("VIN");
    for n in 0..100 {
        peer.send(&n.to_string()).await;
    }
    peer.close().await;
    let start = Instant::now();
    assert_eq!(peer.session.await.unwrap(), SessionEnd::WriteTimeout);
    assert!(start.elapsed() <= 8 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_a_rule_and_does_not_close_is_left_after_two_seconds() {
    let site = Site::new(|_| {});
    let mut peer = site.connect("VIN");
    let start = Instant::now();
    // Reserved bits.
    tokio::io::AsyncWriteExt::write_all(&mut peer.stream, &[0xf2, 0x80, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(peer.message().await.close_code(), Some(1002));
    let mut rest = Vec::new();
    peer.stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 2);
    assert_eq!(peer.session.await.unwrap(), SessionEnd::Protocol);
}
