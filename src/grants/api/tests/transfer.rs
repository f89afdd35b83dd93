//! Import and export.

use serde_json::json;

use super::*;

const CSV: &str = "vin,scope,state,since,expires,source,note\n\
    VIN1,vehicle_location,granted,2026-01-01T00:00:00Z,,owner consent,\"by phone, \"\"yes\"\"\"\n\
    VIN1,charging,denied,2026-01-02T00:00:00.5Z,,,\n\
    VIN2,vehicle_location,granted,2020-01-01T00:00:00Z,2021-01-01T00:00:00Z,import 2020,\n";

#[tokio::test]
async fn what_is_exported_can_be_imported_in_both_forms() {
    let server = start().await;
    assert_eq!(server.import("text/csv; charset=utf-8", CSV).await.json(), json!({"changed": 3, "unchanged": 0}));
    let csv = server.get("/v1/export?format=csv").await;
    assert_eq!(csv.body, CSV);
    assert!(csv.head.contains("content-type: text/csv"));
    assert_eq!(server.ask("GET", "/v1/export", "Accept: text/csv, */*\r\n", "").await.body, CSV);
    let json = server.get("/v1/export").await;
    assert!(json.head.contains("content-type: application/json"));

    assert_eq!(server.import("application/json", &json.body).await.json(), json!({"changed": 0, "unchanged": 3}));
    let other = start().await;
    assert_eq!(other.import("application/json", &json.body).await.json(), json!({"changed": 3, "unchanged": 0}));
    assert_eq!(other.get("/v1/export?format=csv").await.body, CSV);
}

#[tokio::test]
async fn a_bad_row_is_named_and_nothing_is_imported() {
    let server = start().await;
    let good = r#"{"vin": "VIN1", "scope": "charging", "state": "granted"}"#;
    for (row, field) in [
        (r#"{"vin": "", "scope": "charging", "state": "granted"}"#, "vin"),
        (r#"{"vin": "VIN2", "scope": "fuel", "state": "granted"}"#, "scope"),
        (r#"{"vin": "VIN2", "scope": "charging", "state": "granted", "expires": "2001-01-01T00:00:00Z"}"#, "expires"),
        (r#"{"vin": "VIN2", "scope": "charging", "state": "granted", "expiry": null}"#, "expiry"),
        (r#"{"vin": "VIN2", "scope": "charging"}"#, "state"),
        (r#"{"vin": "VIN2", "scope": "charging", "state": 7}"#, "state"),
        (good, "vin"),
    ] {
        let answer =
            server.import("application/json", &format!(r#"{{"version": 1, "grants": [{good}, {row}]}}"#)).await;
        assert_eq!(answer.error("field"), (400, field.to_owned()), "{row}: {}", answer.body);
        assert_eq!(answer.json()["error"]["row"], 2, "{row}");
    }
    let answer = server.import("text/csv", "vin,scope,state\nVIN1,charging,granted\nVIN2,charging,perhaps\n").await;
    assert_eq!((answer.error("field"), answer.error("value").1.as_str()), ((400, "state".to_owned()), "perhaps"));
    assert_eq!(answer.json()["error"]["row"], 2);
    assert_eq!(server.get("/v1/export?format=csv").await.body, CSV.lines().next().unwrap().to_owned() + "\n");
}

#[tokio::test]
async fn a_document_of_another_form_is_refused() {
    let server = start().await;
    for (kind, body, field) in [
        ("application/json", r#"{"version": 2, "grants": []}"#, "version"),
        ("application/json", r#"{"grants": []}"#, "version"),
        ("application/json", r#"{"version": 1, "grants": [], "x": 1}"#, "x"),
        ("text/csv", "", "body"),
        ("text/csv", "vin,scope\n", "header"),
        ("text/csv", "vin,scope,state,colour\n", "header"),
        ("text/csv", "vin,scope,state,vin\n", "header"),
        ("text/csv", "vin,scope,state\nVIN1,charging\n", "body"),
        ("text/csv", "vin,scope,state\n\"VIN1,charging,granted\n", "body"),
    ] {
        let answer = server.import(kind, body).await;
        assert_eq!(answer.error("field"), (400, field.to_owned()), "{body}: {}", answer.body);
    }
    assert_eq!(server.import("text/plain", "").await.error("field"), (415, "content-type".to_owned()));
    assert_eq!(server.ask("POST", "/v1/import", "", "{}").await.status, 415);
}

#[tokio::test]
async fn thousands_of_rows_are_one_import() {
    let server = start().await;
    let rows = (0..2500).map(|n| format!("VIN{n:05},vehicle_location,granted,2026-01-01T00:00:00Z,,bulk,\n"));
    let csv = "vin,scope,state,since,expires,source,note\n".to_owned() + &rows.collect::<String>();
    assert_eq!(server.import("text/csv", &csv).await.json()["changed"], 2500);
    assert_eq!(server.get("/v1/export?format=csv").await.body, csv);
}

#[tokio::test]
async fn the_example_files_can_be_imported_and_say_the_same() {
    let server = start().await;
    let csv = include_str!("../../../../examples/permissions-grants.csv");
    let document = include_str!("../../../../examples/permissions-grants.json");
    assert_eq!(server.import("text/csv", csv).await.json(), json!({"changed": 3, "unchanged": 0}));
    assert_eq!(server.import("application/json", document).await.json(), json!({"changed": 0, "unchanged": 3}));
    assert_eq!(server.get("/v1/export?format=csv").await.body, csv);
}
