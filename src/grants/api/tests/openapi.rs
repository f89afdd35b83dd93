//! The served description is the API.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::OPENAPI;
use super::super::routes::{OPENAPI_PATH, routes};
use super::*;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())))
        .collect()
}

/// The example of the body that is sent, or that is answered with 200.
fn example<'a>(document: &'a Value, method: &str, path: &str, whose: &str, kind: &str) -> &'a Value {
    let operation = &document["paths"][path][method];
    let body = if whose == "request" { &operation["requestBody"] } else { &operation["responses"]["200"] };
    let example = &body["content"][kind]["example"];
    assert!(!example.is_null(), "{method} {path} has no {whose} example of {kind}");
    example
}

#[test]
fn describes_every_route_and_nothing_else() {
    let described: BTreeSet<_> = operations(&document()).into_iter().collect();
    let mut routed: BTreeSet<_> =
        routes().into_iter().map(|(method, path, _)| (method.to_owned(), path.to_owned())).collect();
    routed.insert(("get".to_owned(), OPENAPI_PATH.to_owned()));
    assert_eq!(described, routed);
}

#[test]
fn every_reference_leads_somewhere_and_every_path_parameter_is_declared() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 30, "{}", found.len());
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    for (method, path) in operations(&document) {
        let declared = document["paths"][&path][&method]["parameters"].to_string();
        for parameter in ["vin", "scope"].into_iter().filter(|name| path.contains(&format!("{{{name}}}"))) {
            assert!(
                declared.contains(&format!("\"{parameter}\""))
                    || declared.contains(&format!("parameters/{parameter}\"")),
                "{method} {path}: {parameter}"
            );
        }
    }
}

#[tokio::test]
async fn every_described_operation_is_answered_by_its_own_handler() {
    let server = start().await;
    for (method, path) in operations(&document()) {
        let concrete = path.replace("{vin}", VIN).replace("{scope}", "vehicle_location");
        let answer = server.ask(&method.to_ascii_uppercase(), &concrete, "", "").await;
        assert_ne!(answer.status, 405, "{method} {path}");
        assert!(
            answer.status != 404 || answer.error("code").1 == "vehicle_unknown",
            "{method} {path}: {}",
            answer.body
        );
        assert_eq!(server.ask("DELETE", &concrete, "", "").await.status, 405, "{path}");
    }
}

#[tokio::test]
async fn the_examples_are_what_the_server_takes_and_answers() {
    let server = start().await;
    let document = document();
    let of = |method: &str, path: &str, whose: &str, kind: &str| example(&document, method, path, whose, kind).clone();
    let json = "application/json";

    let put = "/v1/vehicles/{vin}/scopes/{scope}";
    let answer = server.put(LOCATION, &of("put", put, "request", json).to_string()).await;
    assert_eq!(answer.json(), of("put", put, "response", json));

    for path in ["/v1/vehicles", "/v1/vehicles/{vin}", "/v1/vehicles/{vin}/access", "/v1/export", "/v1/health"] {
        let answer = server.get(&path.replace("{vin}", VIN)).await;
        assert_eq!((answer.status, answer.json()), (200, of("get", path, "response", json)), "{path}");
    }
    assert_eq!(server.get("/v1/export?format=csv").await.body, of("get", "/v1/export", "response", "text/csv"));

    for kind in [json, "text/csv"] {
        let document = of("post", "/v1/import", "request", kind);
        let text = document.as_str().map_or_else(|| document.to_string(), str::to_owned);
        let answer = server.import(kind, &text).await;
        assert_eq!(answer.json(), of("post", "/v1/import", "response", json), "{kind}");
    }

    let history = "/v1/vehicles/{vin}/history";
    let mut answer = server.get(&history.replace("{vin}", VIN)).await.json();
    let mut expected = of("get", history, "response", json);
    for changes in [&mut answer, &mut expected] {
        // When, and from which port, differs each time.
        changes["changes"][0]["at"] = json!(null);
        changes["changes"][0]["from"] = json!(null);
    }
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn the_examples_of_errors_are_what_the_server_answers() {
    let server = start().await;
    let document = document();
    let error = |name: &str| &document["components"]["responses"][name]["content"]["application/json"]["example"];
    assert_eq!(&server.put(LOCATION, r#"{"state": "maybe"}"#).await.json(), error("BadRequest"));
    assert_eq!(&server.ask_as("", "GET", "/v1/health", "").await.json(), error("Unauthorized"));
    assert_eq!(&server.get(&format!("/v1/vehicles/{VIN}")).await.json(), error("VehicleUnknown"));
    server.put(LOCATION, r#"{"state": "granted"}"#).await;
    server.put(LOCATION, r#"{"state": "denied"}"#).await;
    let conflict = server.put(LOCATION, r#"{"state": "granted", "expected_version": 1, "note": "other"}"#).await;
    assert_eq!(conflict.status, 409);
    assert_eq!(conflict.json()["error"]["code"], error("VersionConflict")["error"]["code"]);
    assert_eq!(conflict.json()["error"]["hint"], error("VersionConflict")["error"]["hint"]);
}

#[tokio::test]
async fn is_served_to_everybody() {
    let server = start().await;
    let answer = server.ask_as("", "GET", OPENAPI_PATH, "").await;
    assert_eq!((answer.status, answer.json()), (200, document()));
}
