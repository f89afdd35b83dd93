//! Records that arrive late, servers that come back, and stores that cannot be read.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::site::{Site, at, now, now_ms};
use crate::support::server::{Server, get};
use crate::support::vehicle::PATIENCE;
use crate::support::wait::until;

const VIN: &str = "5YJ3E1EA0PF000001";
const OTHER: &str = "5YJ3E1EA0PF000002";
/// The file store looks at its file within about a second; the rest is for a busy machine.
const FOLLOWS: Duration = Duration::from_secs(4);
const MINUTE_MS: i64 = 60_000;

#[tokio::test]
async fn what_was_buffered_before_a_revocation_is_withheld_after_it_and_after_the_next_grant() {
    let site = Site::new(|_| {});
    let server = site.serve();
    let (api, mut vehicle) = (site.api(), site.vehicle(&server, VIN).await);
    api.grant(VIN).await;
    let buffered = now();
    assert!(site.keeps_place(&mut vehicle, "under the grant", buffered).await);

    api.revoke(VIN).await;
    let refused = now();
    assert!(!site.keeps_place(&mut vehicle, "buffered", buffered).await, "made when it was allowed, sent when not");
    assert!(!site.keeps_place(&mut vehicle, "denied", refused).await);

    let denied = now_ms();
    until("the clock goes on", PATIENCE, async || now_ms() > denied).await;
    api.grant(VIN).await;
    assert!(!site.keeps_place(&mut vehicle, "buffered, again", buffered).await, "made before this grant");
    assert!(!site.keeps_place(&mut vehicle, "denied, again", refused).await, "made while it was denied");
    assert!(site.keeps_place(&mut vehicle, "granted again", now()).await);
}

#[tokio::test]
async fn a_time_that_cannot_be_trusted_does_not_come_under_a_grant() {
    let site = Site::new(|_| {});
    let server = site.serve();
    let mut vehicle = site.vehicle(&server, VIN).await;
    site.api().grant(VIN).await;
    assert!(!site.keeps_place(&mut vehicle, "no time", None).await);
    assert!(!site.keeps_place(&mut vehicle, "epoch", at(0)).await);
    assert!(!site.keeps_place(&mut vehicle, "negative", at(-1000)).await);
    assert!(!site.keeps_place(&mut vehicle, "in an hour", at(now_ms() + 60 * MINUTE_MS)).await);
    assert!(!site.keeps_place(&mut vehicle, "in 11 minutes", at(now_ms() + 11 * MINUTE_MS)).await);
    assert!(site.keeps_place(&mut vehicle, "in 9 minutes", at(now_ms() + 9 * MINUTE_MS)).await);
}

#[tokio::test]
async fn a_consent_that_expires_ends_by_itself() {
    let site = Site::new(|_| {});
    let server = site.serve();
    let mut vehicle = site.vehicle(&server, VIN).await;
    let expires = now_ms() + 3_000;
    let set = site.api().set(VIN, &json!({ "state": "granted", "expires": rfc3339(expires) })).await;
    assert_eq!(set["changed"], true, "{set}");
    assert!(site.keeps_place(&mut vehicle, "before", now()).await);
    until("the time is up", PATIENCE, async || now_ms() >= expires).await;
    assert!(!site.keeps_place(&mut vehicle, "after", now()).await);
}

#[tokio::test]
async fn a_revocation_that_was_answered_survives_a_kill() {
    let site = Site::new(|_| {});
    for round in 0..3 {
        let server = site.serve();
        let mut vehicle = site.vehicle(&server, VIN).await;
        let mut other = site.vehicle(&server, OTHER).await;
        site.api().grant(OTHER).await;
        site.api().grant(VIN).await;
        assert!(site.keeps_place(&mut vehicle, &format!("{round} before"), now()).await);
        site.api().revoke(VIN).await;
        server.kill();

        let server = site.serve();
        vehicle = site.vehicle(&server, VIN).await;
        assert!(!site.keeps_place(&mut vehicle, &format!("{round} after"), now()).await);
        other = {
            drop(other);
            site.vehicle(&server, OTHER).await
        };
        assert!(site.keeps_place(&mut other, &format!("{round} other"), now()).await, "grants survive, too");
        server.kill();
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_read_keeps_the_server_from_starting() {
    let corrupt_database = Site::new(|_| {});
    std::fs::write(corrupt_database.path("permissions.db"), b"this is no database ".repeat(500)).unwrap();
    let broken_file = file_site();
    std::fs::write(broken_file.path("grants.json"), b"{\"version\": 1, \"grants\": [").unwrap();
    let missing_file = file_site();
    let directory = file_site();
    std::fs::create_dir(directory.path("grants.json")).unwrap();
    for (site, file) in [
        (corrupt_database, "permissions.db"),
        (broken_file, "grants.json"),
        (missing_file, "grants.json"),
        (directory, "grants.json"),
    ] {
        let path = site.path(file).display().to_string();
        match Server::try_start(&site.pki, &site.config) {
            Ok(_) => panic!("it accepts vehicles without knowing their grants"),
            Err((status, said)) => {
                assert!(matches!(status.code(), Some(1..)), "{status}");
                assert!(said.last().is_some_and(|last| last.contains(&path)), "{path} is not named in {said:#?}");
            }
        }
    }
}

#[tokio::test]
async fn an_edited_file_is_in_force_soon_and_a_broken_one_changes_nothing_but_alarms() {
    let site = file_site();
    write_grants(&site, json!([]));
    let server = site.serve();
    let mut vehicle = site.vehicle(&server, VIN).await;
    server.metric_becomes("permission_store_healthy", 1.0).await;
    assert!(!site.keeps_place(&mut vehicle, "nothing said", now()).await);

    let entry = |state: &str| json!([{ "vin": VIN, "scope": "vehicle_location", "state": state, "since": rfc3339(now_ms() - MINUTE_MS) }]);
    write_grants(&site, entry("granted"));
    becomes(&site, &mut vehicle, "granted", true).await;

    std::fs::write(site.path("grants.json"), b"{\"version\": 1, \"grants\": [{\"vin\"").unwrap();
    server.metric_becomes("permission_store_healthy", 0.0).await;
    assert!(site.keeps_place(&mut vehicle, "broken", now()).await, "the last good state is in force");
    let (status, health) = site.api().ask("GET", "/v1/health", "").await;
    assert!(status == 200 && health.contains("stale"), "{status} {health}");

    write_grants(&site, entry("denied"));
    becomes(&site, &mut vehicle, "denied", false).await;
    server.metric_becomes("permission_store_healthy", 1.0).await;
}

#[tokio::test]
async fn a_store_that_is_lost_for_too_long_withholds_everything() {
    let site = Site::new(|config| {
        let path = config["sqlite"]["path"].as_str().unwrap().replace("telemetry.db", "grants.json");
        config["permissions"]["store"] = json!({ "file": { "path": path } });
        config["permissions"]["max_stale"] = json!("2s");
    });
    let since = rfc3339(now_ms() - MINUTE_MS);
    write_grants(&site, json!([{ "vin": VIN, "scope": "vehicle_location", "state": "granted", "since": since }]));
    let server = site.serve();
    let mut vehicle = site.vehicle(&server, VIN).await;
    assert!(site.keeps_place(&mut vehicle, "known", now()).await);
    std::fs::remove_file(site.path("grants.json")).unwrap();
    server.metric_becomes("permission_store_healthy", 0.0).await;
    becomes(&site, &mut vehicle, "lost", false).await;
    let (status, _) = site.api().ask("GET", "/v1/health", "").await;
    assert_eq!(status, 503);
    let (status, metrics) = get(server.metrics, "/metrics").await;
    assert_eq!(status, 200);
    assert!(!metrics.contains(VIN), "no vehicle in a label");
}

/// Sends until the place of a record is stored, or is not any more.
async fn becomes(site: &Site, vehicle: &mut crate::support::vehicle::Vehicle, what: &str, kept: bool) {
    let changed = Instant::now();
    for n in 0.. {
        if site.keeps_place(vehicle, &format!("{what} {n}"), now()).await == kept {
            break;
        }
        assert!(changed.elapsed() < FOLLOWS, "{what} is not in force after {FOLLOWS:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("{what}: in force after {:?}", changed.elapsed());
}

fn file_site() -> Site {
    Site::new(|config| {
        let path = config["sqlite"]["path"].as_str().unwrap().replace("telemetry.db", "grants.json");
        config["permissions"]["store"] = json!({ "file": { "path": path } });
    })
}

fn write_grants(site: &Site, grants: Value) {
    std::fs::write(site.path("grants.json"), json!({ "version": 1, "grants": grants }).to_string()).unwrap();
}

fn rfc3339(millis: i64) -> String {
    fleet_telemetry::grants::clock::rfc3339(millis)
}
