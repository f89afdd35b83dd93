//! Sessions without a network: over a pipe, on Tokio's clock, before a dispatcher that does as it is told.

mod closing;
mod drain;
mod holding;
mod site;

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use self::site::{Site, limits_of};
use super::websocket::close_code;
use super::{Scratch, Session, SessionEnd};
use crate::config;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// The default bounds, changed by a test.
pub(super) fn limits(change: impl FnOnce(&mut config::Session)) -> config::Session {
    limits_of(change)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_pings_stays_and_one_that_did_once_does_not() {
    let site = Site::new(|limits| (limits.ping_interval, limits.idle_timeout) = (10 * SECOND, 30 * SECOND));
    let mut deaf = site.connect("DEAF");
    let mut polite = site.connect("POLITE");
    let start = Instant::now();
    assert_eq!(polite.frame().await.opcode, 9, "a ping");
    polite.pong().await;
    let last = loop {
        let frame = polite.frame().await;
        if frame.opcode != 9 {
            break frame;
        }
    };
    assert_eq!(last.close_code(), Some(close_code::POLICY));
    assert_eq!(start.elapsed().as_secs(), 10 + 30, "thirty seconds after its pong");
    drop(polite.stream);
    assert_eq!(polite.session.await.unwrap(), SessionEnd::Idle);
    tokio::time::sleep(300 * SECOND).await;
    site.sink.set_acking(true);
    deaf.send("still-here").await;
    deaf.expect_ack("still-here").await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_replies_is_cut_off_after_the_write_timeout() {
    let site = Site::new(|limits| limits.write_timeout = 7 * SECOND);
    site.sink.set_acking(true);
    let mut peer = site.connect("VIN");
    let start = Instant::now();
    let mut sent = 0;
    while tokio::time::timeout(SECOND, peer.send(&format!("{sent}"))).await.is_ok() {
        sent += 1;
    }
    assert!(sent > 10, "replies wait unread behind {sent} records");
    assert_eq!(peer.session.await.unwrap(), SessionEnd::WriteTimeout);
    assert!((7..9).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_session_leaves_nothing_for_the_next_one_on_its_thread() {
    let site = Site::new(|_| {});
    site.sink.set_acking(true);
    let mut victim = site.connect("VICTIM");
    // In one poll: the first is answered at once, the second is the end.
    let frames = [victim.record_of("SOMEBODY ELSE", "refused", 10), victim.record("panic", 10)].concat();
    victim.stream.write_all(&frames).await.unwrap();
    assert!(victim.session.await.unwrap_err().is_panic());
    let mut next = site.connect("NEXT");
    next.send("mine").await;
    next.expect_ack("mine").await;
    next.expect_nothing().await;
}

#[test]
fn what_a_panic_left_in_a_threads_buffers_is_cleared() {
    let mut scratch = Scratch { frame: vec![1], record: vec![2], replies: vec![3], settled: Vec::new() };
    scratch.clear();
    assert!(scratch.frame.is_empty() && scratch.record.is_empty() && scratch.replies.is_empty());
}

/// The next class of the allocator is 2,048 bytes: a quarter of a kibibyte more for each vehicle, whatever it does.
#[test]
fn a_session_fits_the_size_class_that_it_is_made_for() {
    let bytes = size_of::<Session<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>>();
    assert!(bytes <= 1792, "{bytes} bytes");
}
