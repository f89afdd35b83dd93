//! Every outcome that a message can have, as the vehicle sees it, and what is stored of it.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};

use crate::support::vehicle::{Received, Vehicle, ack, frame, v_payload};
use crate::{VIN, start, start_with};

fn stored(dir: &tempfile::TempDir) -> Vec<(String, String)> {
    let store = rusqlite::Connection::open(dir.path().join("telemetry.db")).unwrap();
    let mut records = store.prepare("SELECT type, txid FROM records ORDER BY id").unwrap();
    let rows = records.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn error(txid: &str) -> Received {
    Received::Error { txid: txid.into() }
}

/// The envelope of a stream message with its union type replaced.
fn with_type(mut frame: Vec<u8>, message_type: u8) -> Vec<u8> {
    let at = frame.iter().position(|byte| *byte == 4 && *byte != 0).unwrap();
    // The type byte of frames built by `message::encode` lies at 35, as in every reply.
    assert!(at <= 35 && frame[35] == 4);
    frame[35] = message_type;
    frame
}

#[tokio::test]
async fn each_kind_of_message_has_one_defined_reply() {
    let (dir, pki, server) = start();
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let own = format!("vehicle_device.{VIN}");
    let payload = v_payload(VIN, 1.0);
    let oversize = frame("V", "big", &own, &vec![0; 1_000_000]);
    for (name, frame, expected) in [
        ("empty", vec![], ack("", "")),
        ("no message in the envelope", vec![0; 4], ack("", "")),
        ("another message type", with_type(frame("V", "typed", &own, &payload), 5), ack("", "typed")),
        ("message type zero", with_type(frame("V", "zero", &own, &payload), 0), ack("", "zero")),
        ("one byte", vec![1], error("")),
        ("garbage", b"this is not an envelope at all, it is text".to_vec(), error("")),
        ("over a million bytes", oversize, error("")),
        ("configured, foreign sender", frame("V", "foreign", "vehicle_device.other", &payload), ack("V", "foreign")),
        ("not configured, own sender", frame("nobody", "own", &own, b"x"), ack("nobody", "own")),
        ("not configured, bare device id", frame("nobody", "bare", VIN, b"x"), ack("nobody", "bare")),
        ("not configured, foreign sender", frame("nobody", "alien", "x.y", b"x"), error("alien")),
        ("malformed protobuf", frame("V", "broken", &own, &[0x0a, 0xff]), error("broken")),
        ("invalid UTF-8", frame("errors", "utf8", &own, &[0x1a, 0x01, 0xff]), error("utf8")),
        ("empty payload", frame("V", "nothing", &own, b""), ack("V", "nothing")),
        ("data", frame("V", "data", &own, &payload), ack("V", "data")),
    ] {
        vehicle.send_frame(frame).await;
        assert_eq!(vehicle.receive().await, expected, "{name}");
    }
    let stored: Vec<_> = stored(&dir).into_iter().map(|(kind, txid)| format!("{kind} {txid}")).collect();
    assert_eq!(stored, ["V foreign", "V nothing", "V data"]);
    for (family, count) in [
        ("unauthorized_sender_id_total", 1.0),
        ("record_too_big_total", 1.0),
        ("unexpected_record_err_total", 6.0),
        ("unknown_message_type_error_total{msg_type=\"\u{5}\"}", 1.0),
    ] {
        assert!((server.metric(family).await - count).abs() < 1e-9, "{family}");
    }
}

#[tokio::test]
async fn a_record_that_nobody_wants_is_still_checked() {
    let (_dir, pki, server) = start_with(|config| config["records"] = json!({ "V": ["sqlite"] }));
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    vehicle.send("alerts", "bad", &[0x0a, 0xff]).await;
    assert_eq!(vehicle.receive().await, error("bad"));
    vehicle.send("alerts", "good", b"").await;
    vehicle.expect_ack("alerts", "good").await;
    assert!((server.metric("record_dropped_total{reason=\"no_route\"}").await - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_record_without_a_json_form_is_refused_in_json_mode() {
    let (_dir, pki, server) = start_with(|config| config["transmit_decoded_records"] = json!(true));
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    // created_at in the year 10000.
    vehicle.send("V", "late", &[0x12, 0x06, 0x08, 0x80, 0x87, 0xa2, 0x8e, 0xaf, 0x07][..]).await;
    let first = vehicle.receive().await;
    assert!(matches!(first, Received::Error { .. }), "{first:?}");
    vehicle.send("V", "fine", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "fine").await;
}

#[tokio::test]
async fn a_fragmented_message_is_one_record_and_pings_are_answered_inside_it() {
    let (_dir, pki, server) = start();
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let whole = frame("V", "pieces", &format!("vehicle_device.{VIN}"), &v_payload(VIN, 1.0));
    let (first, second) = whole.split_at(50);
    let piece = |bytes: &[u8], code, fin| Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(code), fin));
    vehicle.socket.send(piece(first, Data::Binary, false)).await.unwrap();
    vehicle.socket.send(Message::Ping("hello".into())).await.unwrap();
    assert_eq!(vehicle.socket.next().await.unwrap().unwrap(), Message::Pong("hello".into()));
    vehicle.socket.send(piece(second, Data::Continue, true)).await.unwrap();
    vehicle.expect_ack("V", "pieces").await;
}

#[tokio::test]
async fn text_is_closed_with_a_reason_that_a_client_can_read() {
    let (_dir, pki, server) = start();
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    vehicle.socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(vehicle.receive().await, Received::Closed(Some(1003)));
    server.metric_becomes("session_end_total{reason=\"text\"}", 1.0).await;
}

#[tokio::test]
async fn a_close_frame_is_answered_with_its_own_code() {
    let (_dir, pki, server) = start();
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    vehicle.socket.close(Some(CloseFrame { code: 4001.into(), reason: "bye".into() })).await.unwrap();
    assert_eq!(vehicle.receive().await, Received::Closed(Some(4001)));
    let ended = server.event("socket_disconnected").await;
    assert_eq!(ended["reason"], "closed_by_peer");
}
