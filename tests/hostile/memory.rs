//! What large records and stuck dispatchers cost.

use std::time::Duration;

use serde_json::json;

use crate::peers::hang;
use crate::support::server::{Server, start_with};
use crate::support::vehicle::Vehicle;

/// Resident memory of the process in MiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() >> 10
}

/// A payload of about `bytes` bytes.
fn large(vin: &str, bytes: usize) -> Vec<u8> {
    use fleet_telemetry::proto::vehicle_data::{Datum, Field, Payload, Value, value};
    use prost::Message;
    let text = value::Value::StringValue("x".repeat(bytes));
    let data = vec![Datum { key: Field::VehicleName.into(), value: Some(Value { value: Some(text) }) }];
    Payload { data, vin: vin.to_owned(), ..Payload::default() }.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_records_before_a_stuck_store_stay_under_the_stated_memory() {
    const VEHICLES: usize = 30;
    /// 16 for the store, and for each vehicle one message that waits and one that is being read.
    const STATED: u64 = 16 + 2 * VEHICLES as u64;
    let (dir, pki, server) = start_with(|config| {
        config["sqlite"]["max_unsettled_bytes"] = json!(16 << 20);
        config["limits"] = json!({ "max_unsettled_bytes": 4 << 20 });
    });
    let store = hang(&dir.path().join("telemetry.db"));
    let before = resident(&server);
    let mut sending = Vec::new();
    for n in 0..VEHICLES {
        let vin = format!("5YJ3E1EA0PF1000{n:02}");
        let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(&vin), &vin).await;
        sending.push(tokio::spawn(async move {
            let payload = large(&vin, 900_000);
            for record in 0..30 {
                vehicle.send("V", &record.to_string(), &payload).await;
            }
        }));
    }
    let mut most = 0;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(resident(&server).saturating_sub(before));
        let bytes = server.metric("dispatcher_unsettled_bytes{dispatcher=\"sqlite\"}").await;
        assert!(bytes <= f64::from(16 << 20), "{bytes}");
    }
    sending.iter().for_each(tokio::task::JoinHandle::abort);
    eprintln!("{} MB offered; {most} MiB more than before, {STATED} stated", VEHICLES * 27);
    // The allocator keeps some of what was freed.
    assert!(most <= STATED + 60, "{most} MiB");
    assert!(server.metric("dispatcher_unsettled_bytes_limit{dispatcher=\"sqlite\"}").await > 0.0);
    assert!(server.metric("limit{bound=\"unsettled_bytes\"}").await > 0.0);
    drop(store);
}
