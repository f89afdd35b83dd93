//! Changes of one entry.

use super::*;
use crate::grants::clock;
use crate::permissions::Seen;

/// Whether the filter lets a record of now carry the location.
fn passes(server: &Server) -> bool {
    let now = clock::now_ms();
    !server
        .permissions
        .filter(&mut Seen::default(), VIN, || Some(now), now.cast_unsigned())
        .denies(Scope::VehicleLocation)
}

#[tokio::test]
async fn a_grant_and_its_revocation_are_in_force_when_the_answer_arrives() {
    let server = start().await;
    assert!(!passes(&server));
    let granted = server.put(LOCATION, r#"{"state": "granted"}"#).await;
    assert_eq!(granted.status, 200, "{}", granted.body);
    assert!(passes(&server));
    assert_eq!(server.put(LOCATION, r#"{"state": "denied"}"#).await.status, 200);
    assert!(!passes(&server));
}

#[tokio::test]
async fn the_same_again_is_not_a_change() {
    let server = start().await;
    let wish = r#"{"state": "granted", "source": "owner consent", "expires": "2999-01-01T00:00:00Z"}"#;
    let first = server.put(LOCATION, wish).await.json();
    let again = server.put(LOCATION, wish).await;
    assert_eq!((first["changed"].as_bool(), again.json()["changed"].as_bool()), (Some(true), Some(false)));
    assert_eq!(first["grant"], again.json()["grant"]);
    assert!(again.head.contains("etag: \"1\""), "{}", again.head);
}

#[tokio::test]
async fn a_write_can_demand_the_version_that_it_has_seen() {
    let server = start().await;
    let wish = |state: &str, version: u64| format!(r#"{{"state": "{state}", "expected_version": {version}}}"#);
    assert_eq!(server.put(LOCATION, &wish("granted", 4)).await.error("code"), (409, "version_conflict".to_owned()));
    assert_eq!(server.put(LOCATION, &wish("granted", 0)).await.status, 200);
    assert_eq!(server.put(LOCATION, &wish("denied", 0)).await.error("field"), (409, "expected_version".to_owned()));
    assert_eq!(server.put(LOCATION, &wish("denied", 1)).await.json()["grant"]["version"], 2);

    let matching = |tag: &str| format!("If-Match: {tag}\r\n");
    let grant = r#"{"state": "granted"}"#;
    let stale = server.ask("PUT", LOCATION, &matching("\"1\""), grant).await;
    assert_eq!(stale.error("code"), (412, "version_conflict".to_owned()));
    assert_eq!(stale.error("field").1, "if-match");
    assert_eq!(server.ask("PUT", LOCATION, &matching("\"2\""), grant).await.json()["grant"]["version"], 3);
    for tag in ["*", "3", "W/\"3\"", "\"three\""] {
        assert_eq!(
            server.ask("PUT", LOCATION, &matching(tag), grant).await.error("field"),
            (400, "if-match".to_owned())
        );
    }
    let both = server.ask("PUT", LOCATION, &matching("\"3\""), &wish("denied", 2)).await;
    assert_eq!(both.error("field"), (400, "expected_version".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_named_with_what_is_allowed() {
    let server = start().await;
    let long = format!(r#"{{"state": "granted", "note": "{}"}}"#, "x".repeat(1025));
    for (body, field, message) in [
        ("", "body", "EOF"),
        ("[]", "body", "expected struct"),
        (r#"{"state": "granted"} x"#, "body", "one JSON document"),
        ("{}", "state", "missing field `state`"),
        (r#"{"state": 1}"#, "state", "invalid type: integer `1`"),
        (r#"{"state": "Granted"}"#, "state", "granted, denied"),
        (r#"{"state": "granted", "until": null}"#, "until", "unknown field `until`, expected one of `state`, `since`"),
        (r#"{"state": "granted", "since": "yesterday"}"#, "since", "RFC 3339"),
        (r#"{"state": "granted", "expires": "2026-01-01"}"#, "expires", "RFC 3339"),
        (r#"{"state": "granted", "expires": "2020-01-01T00:00:00Z"}"#, "expires", "later than since"),
        (
            r#"{"state": "granted", "since": "2030-01-01T00:00:00Z", "expires": "2030-01-01T00:00:00Z"}"#,
            "expires",
            "later than since, which is 2030-01-01T00:00:00Z",
        ),
        (r#"{"state": "granted", "expected_version": -1}"#, "expected_version", "invalid value"),
        (&long, "note", "1024"),
    ] {
        let answer = server.put(LOCATION, body).await;
        assert_eq!(answer.error("field"), (400, field.to_owned()), "{body}: {}", answer.body);
        assert!(answer.error("message").1.contains(message), "{body}: {}", answer.body);
    }
    assert_eq!(server.get("/v1/vehicles").await.json()["vehicles"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_path_is_named_with_what_is_allowed() {
    let server = start().await;
    for (vin, scope, field) in [
        ("a%2Fb", "vehicle_location", "vin"),
        ("a%20b", "vehicle_location", "vin"),
        ("%C3%A4", "vehicle_location", "vin"),
        (&*"x".repeat(65), "vehicle_location", "vin"),
        (VIN, "location", "scope"),
        (VIN, "Vehicle_Location", "scope"),
    ] {
        let answer = server.put(&format!("/v1/vehicles/{vin}/scopes/{scope}"), r#"{"state": "granted"}"#).await;
        assert_eq!(answer.error("field"), (400, field.to_owned()), "{vin} {scope}");
    }
    let scope = server.put(&format!("/v1/vehicles/{VIN}/scopes/x"), "{}").await.error("message").1;
    assert_eq!(scope, "must be one of vehicle_location, charging, climate, media, security, driving");
    assert_eq!(server.put("/v1/vehicles/%FF/scopes/charging", "{}").await.error("field"), (400, "path".to_owned()));
    let longest = format!("/v1/vehicles/{}/scopes/charging", "x".repeat(64));
    assert_eq!(server.put(&longest, r#"{"state": "granted"}"#).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_with_the_limit() {
    let server = start().await;
    let answer = server.put(LOCATION, &" ".repeat((1 << 20) + 1)).await;
    assert_eq!(answer.error("code"), (413, "bad_request".to_owned()));
    assert!(answer.error("message").1.contains("1048576 bytes"), "{}", answer.body);
}

#[tokio::test]
async fn nothing_is_answered_or_changed_without_the_token() {
    let server = start().await;
    for headers in [
        "",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer another-token-of-16\r\n",
        "Authorization: Basic eDp5\r\n",
    ] {
        let answer = server.ask_as(headers, "PUT", LOCATION, r#"{"state": "granted"}"#).await;
        assert_eq!(answer.error("code"), (401, "unauthorized".to_owned()), "{headers}");
        assert!(answer.head.contains("www-authenticate: bearer"));
    }
    for path in ["/v1/vehicles", "/v1/health", "/v1/export", "/nowhere", "/"] {
        assert_eq!(server.ask_as("", "GET", path, "").await.status, 401, "{path}");
    }
    assert!(!passes(&server));
    let lower = format!("authorization: bearer {TOKEN}\r\n");
    assert_eq!(server.ask_as(&lower, "GET", "/v1/health", "").await.status, 200);
}
