//! Modes and actions, end to end.

use fleet_telemetry::proto::vehicle_data::value::Value as Typed;
use fleet_telemetry::proto::vehicle_data::{Datum, Field, LocationValue};
use serde_json::{Value, json};

use crate::site::{PLACE, Site, datum, has_place, now, record};

const VIN: &str = "5YJ3E1EA0PF000001";

#[tokio::test]
async fn audit_counts_and_withholds_nothing() {
    let site = Site::new(|config| config["permissions"]["mode"] = json!("audit"));
    let server = site.serve();
    let mut vehicle = site.vehicle(&server, VIN).await;
    for n in 1..=3 {
        assert!(site.keeps_place(&mut vehicle, &format!("t{n}"), now()).await);
        server.metric_becomes(&counter("Location", "audit"), f64::from(n)).await;
    }
    let (_, access) = site.api().ask("GET", &format!("/v1/vehicles/{VIN}/access"), "").await;
    assert!(access.contains("\"location_readable\":false"), "audit allows nothing, it only lets pass: {access}");
}

#[tokio::test]
async fn drop_takes_the_datum_and_leaves_the_others() {
    let site = Site::new(|_| {});
    let server = site.serve();
    let mut vehicle = site.vehicle(&server, VIN).await;
    assert!(!site.keeps_place(&mut vehicle, "t1", now()).await);
    server.metric_becomes(&counter("Location", "drop"), 1.0).await;
}

#[tokio::test]
async fn invalid_keeps_the_key_and_marks_the_value() {
    let data = stored_with_action(json!("invalid"), "invalid").await;
    assert!(data.contains(&datum(Field::Location, Typed::Invalid(true))), "{data:?}");
}

#[tokio::test]
async fn coarsen_rounds_the_coordinates() {
    let data = stored_with_action(json!({ "coarsen": 2 }), "coarsen").await;
    let coarse = LocationValue { latitude: 48.14, longitude: 11.58 };
    assert!(data.contains(&datum(Field::Location, Typed::LocationValue(coarse))), "{data:?}");
}

/// What is stored of a record with a place whose vehicle has no grant; both of its data are.
async fn stored_with_action(action: Value, label: &str) -> Vec<Datum> {
    let site = Site::new(|config| config["permissions"]["action"] = action);
    let server = site.serve();
    let mut vehicle = site.vehicle(&server, VIN).await;
    vehicle.send("V", "t1", &record(VIN, now())).await;
    vehicle.expect_ack("V", "t1").await;
    server.metric_becomes(&counter("Location", label), 1.0).await;
    let data = site.stored("t1");
    assert_eq!(data.len(), 2, "{data:?}");
    assert!(!data.contains(&datum(Field::Location, Typed::LocationValue(PLACE))));
    site.api().grant(VIN).await;
    vehicle.send("V", "t2", &record(VIN, now())).await;
    vehicle.expect_ack("V", "t2").await;
    assert!(has_place(&site.stored("t2")), "a grant lifts any action");
    data
}

fn counter(field: &str, action: &str) -> String {
    format!("permission_withheld_total{{field=\"{field}\",action=\"{action}\"}}")
}
