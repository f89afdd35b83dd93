//! Lists, history, access.

use serde_json::json;

use super::*;

#[tokio::test]
async fn pages_lead_through_all_vehicles_in_order() {
    let server = start().await;
    for n in [3, 1, 5, 2, 4] {
        server.put(&format!("/v1/vehicles/VIN{n}/scopes/charging"), r#"{"state": "granted"}"#).await;
    }
    let mut seen = Vec::new();
    let mut path = "/v1/vehicles?limit=2".to_owned();
    loop {
        let page = server.get(&path).await.json();
        let vehicles = page["vehicles"].as_array().unwrap();
        assert!((1..=2).contains(&vehicles.len()));
        seen.extend(vehicles.iter().map(|vehicle| vehicle["vin"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/vehicles?limit=2&after={next}");
    }
    assert_eq!(seen, ["VIN1", "VIN2", "VIN3", "VIN4", "VIN5"]);
}

#[tokio::test]
async fn a_bad_parameter_is_named_with_what_is_allowed() {
    let server = start().await;
    for (path, field) in [
        ("/v1/vehicles?limit=0", "limit"),
        ("/v1/vehicles?limit=1001", "limit"),
        ("/v1/vehicles?limit=x", "limit"),
        ("/v1/vehicles?offset=1", "offset"),
        ("/v1/vehicles/VIN/history?after=1", "after"),
        ("/v1/export?format=xml", "format"),
    ] {
        assert_eq!(server.get(path).await.error("field"), (400, field.to_owned()), "{path}");
    }
    assert!(server.get("/v1/vehicles?limit=0").await.error("message").1.contains("1 to 1000"));
    assert!(server.get("/v1/vehicles?offset=1").await.error("message").1.contains("expected after, limit"));
}

#[tokio::test]
async fn history_tells_newest_first_who_changed_what() {
    let server = start().await;
    server.put(LOCATION, r#"{"state": "granted", "source": "owner consent"}"#).await;
    server.put(LOCATION, r#"{"state": "denied", "source": "owner's call"}"#).await;
    let history = server.get(&format!("/v1/vehicles/{VIN}/history")).await.json();
    let told: Vec<_> = history["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            assert!(change["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{change}");
            (change["state"].as_str().unwrap(), change["version"].as_u64().unwrap(), change["actor"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, [("denied", 2, "token"), ("granted", 1, "token")]);
    let latest = server.get(&format!("/v1/vehicles/{VIN}/history?limit=1")).await.json();
    assert_eq!(latest["changes"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/v1/vehicles/NOBODY/history").await.error("code"), (404, "vehicle_unknown".to_owned()));
}

#[tokio::test]
async fn access_says_why_not_and_what_to_do() {
    let server = start().await;
    let imported = server
        .import(
            "text/csv",
            "vin,scope,state,since,expires\n\
             OPEN,vehicle_location,granted,2026-01-01T00:00:00Z,2999-01-01T00:00:00Z\n\
             OVER,vehicle_location,granted,2020-01-01T00:00:00Z,2021-01-01T00:00:00Z\n\
             SOON,vehicle_location,granted,2999-01-01T00:00:00Z,\n\
             SHUT,vehicle_location,denied,2026-01-01T00:00:00Z,\n\
             ELSE,charging,granted,2026-01-01T00:00:00Z,\n",
        )
        .await;
    assert_eq!(imported.json(), json!({"changed": 5, "unchanged": 0}), "{}", imported.body);
    for (vin, readable, reason) in [
        ("OPEN", true, "granted"),
        ("OVER", false, "consent_expired"),
        ("SOON", false, "not_yet_in_force"),
        ("SHUT", false, "permission_denied"),
        ("ELSE", false, "permission_denied"),
        ("NOBODY", false, "vehicle_unknown"),
    ] {
        let access = server.get(&format!("/v1/vehicles/{vin}/access")).await;
        assert_eq!(access.status, 200);
        let access = access.json();
        let location = &access["scopes"]["vehicle_location"];
        assert_eq!(
            (access["location_readable"].as_bool(), location["reason"].as_str()),
            (Some(readable), Some(reason))
        );
        assert_eq!(location["hint"].is_null(), readable, "{vin}");
        assert_eq!((&location["enforced"], &access["scopes"]["media"]["enforced"]), (&json!(true), &json!(false)));
    }
    let open = server.get("/v1/vehicles/OPEN/access").await.json();
    assert_eq!(open["scopes"]["vehicle_location"]["until"], "2999-01-01T00:00:00Z");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_the_same_form() {
    let server = start().await;
    assert_eq!(server.get("/v1/nothing").await.error("code"), (404, "not_found".to_owned()));
    assert_eq!(server.get("/v1/vehicles/").await.error("code"), (404, "not_found".to_owned()));
    assert_eq!(server.ask("DELETE", LOCATION, "", "").await.error("code"), (405, "bad_request".to_owned()));
    assert!(server.get("/v1/health").await.head.contains("cache-control: no-store"));
}

#[tokio::test]
async fn when_the_grants_are_lost_nothing_is_answered_from_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("permissions.json");
    std::fs::write(&path, r#"{"version": 1, "grants": []}"#).unwrap();
    let server = start_on(&by_token(TOKEN), folder, PermissionStore::File { path }, Duration::from_millis(800)).await;
    assert_eq!(server.put(LOCATION, r#"{"state": "granted"}"#).await.status, 200);
    assert_eq!(server.get("/v1/health").await.json(), json!({"status": "loaded"}));

    std::fs::write(server.folder.path().join("permissions.json"), "nonsense").unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|status| status != "lost") {
        let health = server.get("/v1/health").await;
        let status = health.json()["status"].as_str().unwrap().to_owned();
        assert_eq!(health.status, if status == "lost" { 503 } else { 200 }, "{}", health.body);
        assert_eq!(health.json()["error"].is_string(), status != "loaded", "{}", health.body);
        if seen.last() != Some(&status) {
            seen.push(status);
        }
        assert!(seen.len() <= 3, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(seen[seen.len() - 2..], ["stale", "lost"], "{seen:?}");
    for path in ["/v1/vehicles", &format!("/v1/vehicles/{VIN}"), &format!("/v1/vehicles/{VIN}/access"), "/v1/export"] {
        assert_eq!(server.get(path).await.error("code"), (503, "store_unavailable".to_owned()), "{path}");
    }
    assert_eq!(
        server.put(LOCATION, r#"{"state": "denied"}"#).await.error("code"),
        (503, "store_unavailable".to_owned())
    );
}
