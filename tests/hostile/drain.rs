//! The end of the process, with vehicles that do not make it easy.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::peers::hang;
use crate::support::server::start_with;
use crate::support::vehicle::{Received, Vehicle, v_payload};

#[tokio::test(flavor = "multi_thread")]
async fn every_vehicle_is_told_that_the_server_goes_though_nothing_settles() {
    const VEHICLES: usize = 40;
    let (dir, pki, mut server) = start_with(|config| {
        // The drain takes as long as it may: half of that.
        config["shutdown"] = json!({ "deadline": "6s" });
        config["sqlite"]["max_unsettled"] = json!(VEHICLES / 2);
    });
    let store = hang(&dir.path().join("telemetry.db"));
    let mut vehicles = Vec::new();
    for n in 0..VEHICLES {
        let vin = format!("5YJ3E1EA0PF1000{n:02}");
        let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(&vin), &vin).await;
        vehicle.send("V", "first", &v_payload(&vin, 1.0)).await;
        vehicle.send("V", "second", &v_payload(&vin, 1.0)).await;
        vehicles.push(vehicle);
    }
    let signalled = Instant::now();
    server.signal("TERM");
    let goodbyes = vehicles.into_iter().map(|mut vehicle| async move { vehicle.receive().await });
    let goodbyes = futures_util::future::join_all(goodbyes).await;
    let told = goodbyes.iter().filter(|goodbye| **goodbye == Received::Closed(Some(1001))).count();
    assert_eq!(told, VEHICLES, "{goodbyes:?}");
    assert_eq!(server.wait(Duration::from_secs(8)).code(), Some(0));
    assert!(signalled.elapsed() < Duration::from_secs(7), "{:?}", signalled.elapsed());
    drop(store);
}
