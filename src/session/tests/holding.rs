//! Bounds that keep a session from reading: what wakes it, and what becomes of peers that go meanwhile.

use std::sync::atomic::Ordering;
use std::task::Poll;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use uuid::Uuid;

use super::SECOND;
use super::site::{Site, record};
use crate::config::InFlight;
use crate::session::SessionEnd;
use crate::session::websocket::close_code;

const ONE: InFlight = InFlight { records: 1, bytes: 1 << 20 };

/// A site whose dispatcher has room for one record, with an idle timeout of four seconds.
fn site() -> Site {
    Site::bounded(ONE, |limits| (limits.ping_interval, limits.idle_timeout) = (SECOND, 4 * SECOND))
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_when_the_peer_takes_its_replies() {
    let site = Site::new(|limits| limits.max_unread_reply_bytes = 1024);
    site.sink.set_acking(true);
    let peer = site.connect("VIN");
    let start = Instant::now();
    let records: Vec<u8> = (0..200).flat_map(|n| peer.record(&n.to_string(), 10)).collect();
    let (mut replies, mut sending) = tokio::io::split(peer.stream);
    let sent = tokio::spawn(async move { sending.write_all(&records).await });
    // Until the session is held back with all buffers full.
    tokio::time::sleep(SECOND).await;
    let taken = site.sink.taken().len();
    assert!(taken < 200, "it is held back");
    let mut read = vec![0; 1 << 20];
    let mut bytes = 0;
    while site.sink.taken().len() < 200 {
        let reading = tokio::io::AsyncReadExt::read(&mut replies, &mut read[bytes..]);
        bytes += tokio::time::timeout(10 * SECOND, reading).await.expect("the session goes on").unwrap();
    }
    sent.await.unwrap().unwrap();
    assert!(start.elapsed() < 2 * SECOND, "no timer had to wake it: {:?}", start.elapsed());
}

/// Lets every other task that is ready have its turn, once.
async fn turn_of_others() {
    let mut had = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut had, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn others_get_their_turn_between_great_messages_and_after_many_small_ones() {
    for (bytes, messages, at_once) in [(100 << 10, 12, 3), (300 << 10, 4, 1), (10, 200, 64)] {
        let site = Site::new(|_| {});
        let frames: Vec<u8> = (0..messages).flat_map(|n| record("VIN", "VIN", &n.to_string(), bytes)).collect();
        let _peer = site.connect_behind(&frames, "VIN", Uuid::new_v4());
        // A task of its own, which takes turns with the session's.
        let watched = tokio::spawn(async move {
            let mut turns = Vec::new();
            for _ in 0..messages {
                let taken = site.sink.taken().len();
                turn_of_others().await;
                turns.push(site.sink.taken().len() - taken);
            }
            (turns, site.sink.taken().len())
        });
        let (turns, taken) = watched.await.unwrap();
        assert_eq!(taken, messages, "nothing but its own waker had to wake the session: {turns:?}");
        assert!(turns.iter().all(|taken| *taken <= at_once), "{turns:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn room_in_the_dispatcher_lets_a_session_go_on_in_order() {
    let site = site();
    let mut peer = site.connect("VIN");
    peer.send_all(&["a", "b", "c", "d"]).await;
    for n in 1..=4 {
        while site.sink.taken().len() < n {
            tokio::time::sleep(SECOND / 10).await;
        }
        site.sink.settle_all();
    }
    for txid in ["a", "b", "c", "d"] {
        peer.expect_ack(txid).await;
    }
    assert_eq!(site.sink.taken(), ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_while_it_is_held_back_is_noticed_within_the_idle_timeout() {
    let site = site();
    let mut peer = site.connect("VIN");
    peer.send_all(&["in-flight", "parked", "unread"]).await;
    tokio::time::sleep(60 * SECOND).await;
    assert!(!peer.session.is_finished(), "its silence is not its fault");
    let gone = Instant::now();
    peer.hung_up.store(true, Ordering::Relaxed);
    assert_eq!(peer.session.await.unwrap(), SessionEnd::Gone);
    assert!(gone.elapsed() <= 4 * SECOND, "{:?}", gone.elapsed());
    site.sink.set_acking(true);
    site.sink.settle_all();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(site.sink.taken(), ["in-flight"], "the vehicle sends the others again, over its next connection");
    assert_eq!(site.sink.used().records, 0);
}

#[tokio::test(start_paused = true)]
async fn a_held_back_peer_is_pinged_so_that_its_system_says_when_it_is_gone() {
    let site = site();
    let mut peer = site.connect("VIN");
    peer.send_all(&["in-flight", "parked", "unread"]).await;
    let start = Instant::now();
    for _ in 0..5 {
        assert_eq!(peer.frame().await.opcode, 9);
    }
    assert!((4..7).contains(&start.elapsed().as_secs()), "one a second: {:?}", start.elapsed());
    // The pipe breaks, as a connection does whose peer answers a ping with a reset.
    drop(peer.stream);
    let broken = Instant::now();
    peer.session.await.unwrap();
    assert!(broken.elapsed() <= 4 * SECOND, "{:?}", broken.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_left_unread_is_not_delivered_when_room_comes_back_after_it_has_gone() {
    let site = site();
    let mut peer = site.connect("VIN");
    peer.send_all(&["in-flight", "parked", "unread"]).await;
    tokio::time::sleep(2 * SECOND).await;
    // At the same moment, so that no look at the connection comes between.
    peer.hung_up.store(true, Ordering::Relaxed);
    site.sink.set_acking(true);
    site.sink.settle_all();
    assert_eq!(peer.session.await.unwrap(), SessionEnd::Gone);
    assert!(!site.sink.taken().contains(&"unread".to_owned()), "{:?}", site.sink.taken());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_while_it_is_held_back_for_a_moment_loses_nothing() {
    let site = site();
    let mut peer = site.connect("VIN");
    peer.send_all(&["a", "b", "c"]).await;
    tokio::time::sleep(SECOND / 2).await;
    peer.hung_up.store(true, Ordering::Relaxed);
    site.sink.set_acking(true);
    site.sink.settle_all();
    peer.expect_ack("a").await;
    peer.expect_ack("b").await;
    peer.expect_ack("c").await;
}

#[tokio::test(start_paused = true)]
async fn large_records_are_bounded_by_their_bytes() {
    let bound = InFlight { records: 1000, bytes: 100_000 };
    let site = Site::new(|limits| limits.max_unsettled = bound);
    let peer = site.connect("VIN");
    let frames: Vec<u8> = (0..20).flat_map(|n| peer.record(&n.to_string(), 30_000)).collect();
    let (_replies, mut sending) = tokio::io::split(peer.stream);
    let sent = tokio::spawn(async move { sending.write_all(&frames).await });
    for n in 1..=5 {
        tokio::time::sleep(SECOND).await;
        let used = site.sink.used();
        assert!(used.bytes < bound.bytes + 40_000, "no more than one above the bound: {used:?}");
        assert_eq!(site.sink.taken().len(), 4 * n, "it goes on when they are delivered");
        site.sink.settle_all();
    }
    sent.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_is_full_when_its_bytes_are_used_up() {
    let site = Site::bounded(InFlight { records: 1000, bytes: 100_000 }, |_| {});
    let mut peers: Vec<_> = (0..10).map(|n| site.connect(&format!("VIN{n}"))).collect();
    for peer in &mut peers {
        // Larger than the pipe, so the session takes it in pieces.
        peer.send_large("large", 30_000).await;
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(site.sink.taken().len(), 3);
    for _ in 0..10 {
        site.sink.settle_all();
        tokio::time::sleep(SECOND).await;
        assert!(site.sink.used().bytes <= 100_000);
    }
    assert_eq!(site.sink.taken().len(), 10);
    for peer in &mut peers {
        peer.expect_ack("large").await;
    }
}

#[tokio::test(start_paused = true)]
async fn all_sessions_together_keep_no_more_than_they_may() {
    let site = Site::bounded(ONE, |limits| limits.max_kept_bytes = 100_000);
    let mut peers: Vec<_> = (0..8).map(|n| site.connect(&format!("VIN{n}"))).collect();
    let mut good = site.connect("GOOD");
    for peer in &mut peers {
        // A message of which the end never comes.
        let frame = peer.record("unfinished", 30_000);
        // It may be cut off in the middle.
        let _ = peer.stream.write_all(&frame[..20_000]).await;
        tokio::time::sleep(SECOND / 100).await;
    }
    let used = site.pipeline.budget.used();
    assert!((40_000..=100_000).contains(&used), "{used}");
    let mut ended = 0;
    for mut peer in peers {
        if peer.session.is_finished() {
            assert_eq!(peer.frame().await.close_code(), Some(close_code::TRY_AGAIN_LATER));
            assert_eq!(peer.session.await.unwrap(), SessionEnd::NoRoom);
            ended += 1;
        }
    }
    assert!((4..8).contains(&ended), "{ended}");
    site.sink.set_acking(true);
    good.send("small").await;
    good.expect_ack("small").await;
}
