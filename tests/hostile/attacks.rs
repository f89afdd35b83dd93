//! Vehicles with a good certificate and bad manners: connections that are left half open, frames against the protocol
//! or at its edges. Each attack runs beside a vehicle that behaves.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::process;
use crate::support::server::{Server, start, start_with};
use crate::support::vehicle::{PATIENCE, UPGRADE, Vehicle, frame, masked, tls, upgraded, v_payload};
use crate::witness::Witness;

const VIN: &str = "5YJ3E1EA0PF000001";
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;
const MIB: u64 = 1 << 20;

/// What the server says until the end of the connection.
async fn rest(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut answer = Vec::new();
    let end = async { while matches!(stream.read_buf(&mut answer).await, Ok(1..)) {} };
    tokio::time::timeout(PATIENCE, end).await.expect("the server ends the connection");
    answer
}

/// The attackers have gone: their places are free again.
async fn only_the_witness_is_left(server: &Server) {
    server.metric_becomes("num_connections", 1.0).await;
}

fn stored(dir: &TempDir, txid: &str) -> i64 {
    let store = rusqlite::Connection::open(dir.path().join("telemetry.db")).unwrap();
    store.query_row("SELECT count(*) FROM records WHERE txid = ?1", [txid], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn vehicles_that_upgrade_and_say_nothing_hold_a_place_and_nothing_else() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let config = pki.vehicle(VIN);
    // Some first, so that what is made once for all is there.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(upgraded(server.address, &config).await);
    }
    let before = process::resident_bytes(server.pid());
    for _ in 0..200 {
        silent.push(upgraded(server.address, &config).await);
    }
    let each = process::resident_bytes(server.pid()).saturating_sub(before) / 200;
    println!("a silent vehicle costs {} KiB", each / 1024);
    assert!(each < 64 << 10, "a silent vehicle costs {each} bytes");
    // Half of them break off, the others just go.
    for (n, stream) in silent.into_iter().enumerate() {
        if n % 2 == 0 {
            stream.get_ref().0.set_zero_linger().unwrap();
        }
    }
    only_the_witness_is_left(&server).await;
    witness.testify("220 half-open vehicles").await;
}

#[tokio::test]
async fn a_half_close_behind_a_record_ends_the_session_and_loses_nothing() {
    let (dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    for n in 0..20 {
        let mut stream = upgraded(server.address, &pki.vehicle(VIN)).await;
        let txid = format!("half-{n}");
        stream.write_all(&masked(BINARY, &frame("V", &txid, VIN, &v_payload(VIN, 1.0)))).await.unwrap();
        stream.flush().await.unwrap();
        // Of TCP alone: without the alert that ends TLS.
        stream.get_mut().0.shutdown().await.unwrap();
        rest(&mut stream).await;
    }
    only_the_witness_is_left(&server).await;
    server.metric_becomes("dispatcher_unsettled_records{dispatcher=\"sqlite\"}", 0.0).await;
    witness.testify("half-closed connections").await;
    for n in 0..20 {
        assert_eq!(stored(&dir, &format!("half-{n}")), 1);
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_frame_leaves_nothing_behind() {
    let (dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let before = process::descriptors(server.pid());
    let message = masked(BINARY, &frame("V", "cut", VIN, &v_payload(VIN, 1.0)));
    for cut in 1..message.len() {
        let mut stream = upgraded(server.address, &pki.vehicle(VIN)).await;
        stream.write_all(&message[..cut]).await.unwrap();
        stream.flush().await.unwrap();
        stream.get_ref().0.set_zero_linger().unwrap();
    }
    only_the_witness_is_left(&server).await;
    witness.testify("resets in the middle of a frame").await;
    assert_eq!(stored(&dir, "cut"), 0, "half a record is no record");
    assert!(process::descriptors(server.pid()) <= before + 2);
}

#[tokio::test]
async fn each_offence_against_the_protocol_is_told_and_ends_the_connection() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let length = |first: u8, length: u64| [&[first, 0x80 | 127], &length.to_be_bytes()[..], &[0; 4]].concat();
    let offences = [
        ("2^63 bytes", length(BINARY, 1 << 63), 1002),
        ("2^63 - 1 bytes", length(BINARY, (1 << 63) - 1), 1009),
        ("2^62 bytes in pieces", [masked(0x02, b"x"), length(0x00, 1 << 62)].concat(), 1009),
        ("pieces of 2^63 - 1 bytes in all", [masked(0x02, b"x"), length(0x00, (1 << 63) - 1)].concat(), 1009),
        ("an unmasked frame", vec![BINARY, 1, b'x'], 1002),
        ("reserved bits", masked(BINARY | 0x40, b"x"), 1002),
        ("a reserved opcode", masked(0x83, b"x"), 1002),
        ("a reserved control opcode", masked(0x8b, b"x"), 1002),
        ("a ping in pieces", masked(0x09, b"x"), 1002),
        ("a close in pieces", masked(0x08, b""), 1002),
        ("a ping of 126 bytes", [&[PING, 0x80 | 126, 0, 126, 0, 0, 0, 0], &[0; 126][..]].concat(), 1002),
        ("a close of 2^32 bytes", length(CLOSE, 1 << 32), 1002),
        ("a continuation of nothing", masked(0x80, b"x"), 1002),
        ("a message in a message", [masked(0x02, b"x"), masked(BINARY, b"x")].concat(), 1002),
        ("a close of one byte", masked(CLOSE, b"x"), 1002),
        ("a close code that is none", masked(CLOSE, &999_u16.to_be_bytes()), 1002),
        ("a close reason that is no text", masked(CLOSE, b"\x03\xe8\xff"), 1007),
        ("text", masked(0x81, b"x"), 1003),
    ];
    for (what, bytes, code) in &offences {
        let mut stream = upgraded(server.address, &pki.vehicle(VIN)).await;
        stream.write_all(bytes).await.unwrap();
        let mut close = [0; 4];
        let told = tokio::time::timeout(PATIENCE, stream.read_exact(&mut close)).await;
        assert!(matches!(told, Ok(Ok(_))), "{what}: nothing is said");
        assert_eq!((close[0], close[1]), (CLOSE, 2), "{what}");
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), *code, "{what}");
        // The vehicle answers, so the server has nothing to wait for.
        let _ = stream.write_all(&masked(CLOSE, &close[2..])).await;
        let _ = stream.shutdown().await;
        rest(&mut stream).await;
    }
    only_the_witness_is_left(&server).await;
    witness.testify(&format!("{} offences against the protocol", offences.len())).await;
}

#[tokio::test]
async fn messages_that_are_never_finished_cost_what_has_come_and_delay_nobody() {
    const HELD: usize = 1 << 20;
    const VEHICLES: u64 = 20;
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "max_frame_bytes": 2 * HELD, "ping_interval": "500ms", "idle_timeout": "1s" });
    });
    let witness = Witness::of(&server, &pki);
    let config = pki.vehicle(VIN);
    let before = process::resident_bytes(server.pid());
    let mut streams = Vec::new();
    for n in 0..VEHICLES {
        let mut stream = upgraded(server.address, &config).await;
        // In one frame that lacks its end, or in pieces without a last one.
        let mut start = masked(if n % 2 == 0 { BINARY } else { 0x02 }, &vec![0; HELD]);
        if n % 2 == 0 {
            start.truncate(start.len() - 100);
        }
        stream.write_all(&start).await.unwrap();
        stream.flush().await.unwrap();
        streams.push(stream);
    }
    let held = process::resident_bytes(server.pid()).saturating_sub(before);
    println!("{VEHICLES} unfinished messages of 1 MiB hold {} KiB", held / 1024);
    assert!(held < VEHICLES * 2 * MIB + 16 * MIB, "{held} bytes: a buffer doubles at most");
    // A byte now and then, with pings between the pieces, does not end them.
    let ended = async {
        for (n, stream) in streams.iter_mut().enumerate() {
            let more = if n % 2 == 0 { vec![0] } else { [masked(PING, b""), masked(0x00, b"x")].concat() };
            while stream.write_all(&more).await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        }
    };
    tokio::time::timeout(3 * PATIENCE, ended).await.expect("a message that never ends is not waited for");
    server.metric_becomes("session_end_total{reason=\"idle\"}", f64::from(u32::try_from(VEHICLES).unwrap())).await;
    drop(streams);
    only_the_witness_is_left(&server).await;
    witness.testify("messages that are never finished").await;
}

#[tokio::test]
async fn a_message_of_many_pieces_ends_at_the_bound_also_with_pings_between_them() {
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "max_fragments": 100, "max_pings_per_second": 1_000_000 });
    });
    let witness = Witness::of(&server, &pki);
    let mut stream = upgraded(server.address, &pki.vehicle(VIN)).await;
    stream.write_all(&masked(0x02, b"")).await.unwrap();
    for _ in 0..100 {
        // Also pieces of no bytes count.
        if stream.write_all(&[masked(PING, b""), masked(0x00, b"")].concat()).await.is_err() {
            break;
        }
    }
    stream.flush().await.unwrap();
    assert!(rest(&mut stream).await.ends_with(&[CLOSE, 2, 0x03, 0xf0]), "1008 comes last");
    server.metric_becomes("session_end_total{reason=\"too_many_fragments\"}", 1.0).await;
    witness.testify("pieces without an end").await;
}

#[tokio::test]
async fn pings_below_the_limit_that_nobody_reads_the_answers_of_are_bounded() {
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] =
            json!({ "max_pings_per_second": 1_000_000, "max_unread_reply_bytes": 65_536, "write_timeout": "1s" });
    });
    let witness = Witness::of(&server, &pki);
    let before = process::resident_bytes(server.pid());
    let mut stream = upgraded(server.address, &pki.vehicle(VIN)).await;
    let pings = masked(PING, &[b'x'; 125]).repeat(1000);
    let flood = async { while stream.write_all(&pings).await.is_ok() {} };
    tokio::time::timeout(2 * PATIENCE, flood).await.expect("a vehicle that does not read is disconnected");
    server.metric_becomes("session_end_total{reason=\"write_timeout\"}", 1.0).await;
    let grown = process::resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 16 * MIB, "memory grew by {grown} bytes");
    witness.testify("pings of 125 bytes without a reader").await;
}

#[tokio::test]
async fn acks_that_nobody_reads_are_bounded() {
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "max_unread_reply_bytes": 65_536, "write_timeout": "1s" });
    });
    let witness = Witness::of(&server, &pki);
    let before = process::resident_bytes(server.pid());
    let mut deaf = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    // Acks repeat the txid and the topic.
    let long = frame("nobody", &"x".repeat(10_000), VIN, b"");
    let flood = async { while deaf.socket.send(Message::Binary(long.clone().into())).await.is_ok() {} };
    tokio::time::timeout(2 * PATIENCE, flood).await.expect("a vehicle that does not read is disconnected");
    server.metric_becomes("session_end_total{reason=\"write_timeout\"}", 1.0).await;
    let grown = process::resident_bytes(server.pid()).saturating_sub(before);
    println!("unread acks: memory grew by {} KiB", grown / 1024);
    assert!(grown < 16 * MIB, "memory grew by {grown} bytes");
    witness.testify("acks without a reader").await;
}

#[tokio::test]
async fn floods_of_small_frames_cost_only_their_senders() {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    // Unasked pongs, records of nothing, closes behind a close.
    for (what, small) in
        [("pongs", masked(0x8a, b"")), ("empty messages", masked(BINARY, b"")), ("closes", masked(CLOSE, b""))]
    {
        let stream = upgraded(server.address, &pki.vehicle(VIN)).await;
        let many = small.repeat(2000);
        let started = Instant::now();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let drain = tokio::spawn(async move { while matches!(reader.read(&mut [0; 65_536]).await, Ok(1..)) {} });
        while started.elapsed() < Duration::from_secs(1) && writer.write_all(&many).await.is_ok() {}
        println!("{what}: {} ms", started.elapsed().as_millis());
        drop(writer);
        drain.abort();
        let _ = drain.await;
    }
    only_the_witness_is_left(&server).await;
    witness.testify("floods of pongs, empty messages and closes").await;
}

#[tokio::test]
async fn a_request_without_an_end_behind_a_good_handshake_gives_its_place_back() {
    let (_dir, pki, server) = start_with(|config| config["limits"] = json!({ "header_timeout": "500ms" }));
    let witness = Witness::of(&server, &pki);
    let before = process::descriptors(server.pid());
    let mut held = Vec::new();
    for n in 0..50 {
        let mut stream = tls(server.address, &pki.vehicle(VIN)).await.unwrap();
        stream.write_all(&UPGRADE[..n % (UPGRADE.len() - 1)]).await.unwrap();
        held.push(stream);
    }
    let deadline = Instant::now() + PATIENCE;
    while process::descriptors(server.pid()) > before + 2 {
        assert!(Instant::now() < deadline, "{} descriptors, not {before}", process::descriptors(server.pid()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    witness.testify("requests without an end").await;
}
