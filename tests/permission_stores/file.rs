//! A file that somebody else writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fleet_telemetry::config::PermissionStore;
use fleet_telemetry::grants::{Authority, ChangeError, Health};
use fleet_telemetry::metrics::Metrics;
use fleet_telemetry::permissions::{Permissions, State};
use tempfile::TempDir;

use super::{
    FOLLOWS, HOUR, Instance, SOON, change, configure, is_stale, now, open, try_open, until, withholds_everything,
};

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn json(grants: &[(&str, &str)]) -> String {
    let grants: Vec<_> = grants
        .iter()
        .map(|(vin, state)| {
            format!(
                r#"{{"vin": "{vin}", "scope": "vehicle_location", "state": "{state}", "since": "2026-01-01T00:00:00Z"}}"#
            )
        })
        .collect();
    format!(r#"{{"version": 1, "grants": [{}]}}"#, grants.join(",\n"))
}

fn csv(grants: &[(&str, &str)]) -> String {
    let row = |(vin, state): &(&str, &str)| format!("{vin},vehicle_location,{state},2026-01-01T00:00:00Z\n");
    "vin,scope,state,since\n".to_owned() + &grants.iter().map(row).collect::<String>()
}

/// As careful people and configuration management do.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("tmp");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

async fn opened(path: &Path, max_stale: Duration) -> Instance {
    open(&configure(PermissionStore::File { path: path.to_owned() }, max_stale)).await
}

#[tokio::test]
async fn edits_come_into_force_within_a_second_whether_in_place_or_by_renaming() {
    for (name, render) in [("p.json", json as fn(&[(&str, &str)]) -> String), ("p.csv", csv)] {
        let directory = directory();
        let path = directory.path().join(name);
        fs::write(&path, render(&[("A", "granted"), ("B", "denied")])).unwrap();
        let instance = opened(&path, HOUR).await;
        assert!(instance.allows("A") && !instance.allows("B") && !instance.allows("C"), "{name}");
        put(&path, &render(&[("A", "denied"), ("B", "granted")]));
        until("renamed over", FOLLOWS, || !instance.allows("A") && instance.allows("B")).await;
        assert_eq!(instance.location("A").unwrap().version, 2);
        fs::write(&path, render(&[("B", "granted"), ("C", "granted")])).unwrap();
        until("in place", FOLLOWS, || instance.allows("C")).await;
        assert_eq!(instance.location("A"), None, "removed");
        assert_eq!(instance.location("B").unwrap().version, 2, "unchanged");
        let history = instance.authority.history("A", 10).await.unwrap();
        let states: Vec<_> = history.iter().map(|entry| (entry.grant.state, entry.actor.who.as_str())).collect();
        assert_eq!(states, [(State::Denied, "file"), (State::Denied, "file"), (State::Granted, "file")]);
        assert_eq!(history[0].grant.note, "no longer in the file");
    }
}

#[tokio::test]
async fn symbolic_links_that_are_swapped_are_followed() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    for (name, state) in [("one", "granted"), ("two", "denied")] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("p.json"), json(&[("A", state)])).unwrap();
    }
    std::os::unix::fs::symlink("one", at("data")).unwrap();
    std::os::unix::fs::symlink("data/p.json", at("p.json")).unwrap();
    let instance = opened(&at("p.json"), HOUR).await;
    assert!(instance.allows("A"));
    std::os::unix::fs::symlink("two", at("data.new")).unwrap();
    fs::rename(at("data.new"), at("data")).unwrap();
    until("the other directory", FOLLOWS, || !instance.allows("A")).await;
    let error = instance.authority.change(change("A", State::Granted)).await.unwrap_err();
    assert!(matches!(error, ChangeError::ReadOnly), "{error}");
    assert!(!instance.allows("A"));
}

#[tokio::test]
async fn a_bad_file_changes_nothing_alarms_and_is_not_written_over() {
    let directory = directory();
    let path = directory.path().join("p.json");
    fs::write(&path, json(&[("A", "granted")])).unwrap();
    let metrics = Metrics::default();
    let permissions = std::sync::Arc::new(Permissions::new(super::rules()));
    let config = configure(PermissionStore::File { path: path.clone() }, HOUR);
    let opening = metrics.within(Authority::open(&config, std::sync::Arc::clone(&permissions)));
    let instance = Instance { authority: opening.await.unwrap(), permissions };
    assert!(metrics.render().contains("permission_store_healthy 1"));

    put(&path, &json(&[("A", "denied"), ("B", "perhaps")]));
    until("an alarm", FOLLOWS, || {
        is_stale(&instance.authority.health(), "grant 2: state: \"perhaps\" must be one of granted, denied")
    })
    .await;
    assert!(instance.allows("A"), "all of it or nothing");
    assert!(metrics.render().contains("permission_store_healthy 0"));
    let error = instance.authority.change(change("C", State::Granted)).await.unwrap_err().to_string();
    assert!(error.contains("must be mended first: grant 2"), "{error}");
    assert!(fs::read_to_string(&path).unwrap().contains("perhaps"));

    put(&path, &json(&[("A", "denied"), ("B", "granted")]));
    until("mended", FOLLOWS, || !instance.allows("A") && instance.allows("B")).await;
    assert_eq!(instance.authority.health(), Health::Loaded);
    let text = metrics.render();
    for line in [
        "permission_store_healthy 1",
        "permission_grants{state=\"granted\"} 1",
        "permission_grants{state=\"denied\"} 1",
        "permission_changes_total{scope=\"vehicle_location\",state=\"denied\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_file_that_is_gone_keeps_what_is_known_for_a_while_and_then_withholds_everything() {
    let directory = directory();
    let path = directory.path().join("p.json");
    fs::write(&path, json(&[("A", "granted")])).unwrap();
    let instance = opened(&path, Duration::from_millis(1500)).await;
    fs::remove_file(&path).unwrap();
    until("stale", FOLLOWS, || is_stale(&instance.authority.health(), "No such file")).await;
    assert!(instance.allows("A"), "the last known grants");
    let lost = || matches!(instance.authority.health(), Health::Lost { error } if error.contains("No such file"));
    until("lost", Duration::from_secs(4), lost).await;
    assert!(!instance.allows("A") && withholds_everything(&instance.permissions));
    assert!(instance.location("A").is_some(), "known, but not in force");
    fs::write(&path, json(&[("A", "granted")])).unwrap();
    until("back", FOLLOWS, || instance.allows("A")).await;
    assert_eq!(instance.authority.health(), Health::Loaded);
}

#[tokio::test]
async fn a_file_that_is_missing_or_bad_at_the_start_is_an_error_that_names_it() {
    let directory = directory();
    let path = directory.path().join("p.csv");
    let refusal = async |path: &PathBuf| {
        let config = configure(PermissionStore::File { path: path.clone() }, HOUR);
        try_open(&config).await.err().unwrap().to_string()
    };
    let error = refusal(&path).await;
    assert!(error.contains("p.csv") && error.contains("No such file"), "{error}");
    fs::write(&path, "vin,scope,state,since\nA,vehicle_location,granted,today\n").unwrap();
    let error = refusal(&path).await;
    assert!(
        error.contains("p.csv") && error.contains("grant 1: since: \"today\" must be a time by RFC 3339"),
        "{error}"
    );
}

#[tokio::test]
async fn changes_rewrite_the_file_and_keep_its_other_rows_and_its_order() {
    for (name, text) in
        [("p.json", json(&[("B", "granted"), ("A", "granted")])), ("p.csv", csv(&[("B", "granted"), ("A", "granted")]))]
    {
        let directory = directory();
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        let instance = opened(&path, HOUR).await;
        let revoked = instance.revoke("A").await;
        assert!(!instance.allows("A") && instance.allows("B"));
        assert_eq!((revoked.version, revoked.state), (2, State::Denied));
        instance.grant("C").await;
        let again = instance.authority.change(change("C", State::Granted)).await.unwrap();
        assert!(!again.changed);
        let text = fs::read_to_string(&path).unwrap();
        let cell = |vin: &str| if name == "p.csv" { format!("\n{vin},") } else { format!("\"vin\":\"{vin}\"") };
        let at = ["B", "A", "C"].map(|vin| text.find(&cell(vin)).unwrap());
        assert!(at.is_sorted(), "{text}");
        let reread = opened(&path, HOUR).await;
        assert!(reread.allows("B") && !reread.allows("A"));
        assert_eq!(reread.location("A").unwrap().since_ms, revoked.since_ms);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        // Two looks of the watcher, of which nothing can be seen when it does what it should.
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(instance.location("A").unwrap().version, 2, "its own writing is no change from outside");
    }
}

#[tokio::test]
async fn half_a_file_is_never_in_force() {
    let directory = directory();
    let path = directory.path().join("p.csv");
    let whole = csv(&[("A", "granted"), ("B", "granted")]);
    fs::write(&path, &whole).unwrap();
    let instance = opened(&path, HOUR).await;
    // Cut after A's row it is a valid file that lacks B.
    let half = csv(&[("A", "granted")]).len();
    let mut judged = 0;
    for _ in 0..40 {
        let (path, whole) = (path.clone(), whole.clone());
        let writer = std::thread::spawn(move || write_in_halves(&path, &whole, half));
        let mut was_in_force = false;
        while !writer.is_finished() {
            was_in_force |= !instance.allows("B");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // Half a file that stands for so long is as good as meant: a machine that stalls proves nothing.
        if writer.join().unwrap() < Duration::from_millis(45) {
            assert!(!was_in_force);
            judged += 1;
        }
        until("settled", SOON, || instance.authority.health() == Health::Loaded && instance.allows("B")).await;
        assert!(instance.allows("A"));
        if judged == 4 {
            return;
        }
    }
    panic!("this machine stalls too often to tell");
}

/// In place, again and again; how long a half stood at most.
fn write_in_halves(path: &Path, whole: &str, half: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..15 {
        let start = Instant::now();
        fs::write(path, &whole[..half]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        fs::write(path, whole).unwrap();
        longest = longest.max(start.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    longest
}

#[tokio::test]
async fn a_consent_ends_when_it_expires_and_does_not_cover_what_was_made_before_it() {
    let directory = directory();
    let path = directory.path().join("p.json");
    fs::write(&path, json(&[])).unwrap();
    let instance = opened(&path, HOUR).await;
    let mut brief = change("A", State::Granted);
    brief.expires_ms = Some(now() + 700);
    let since = instance.authority.change(brief).await.unwrap().grant.since_ms;
    assert!(instance.allows("A") && !instance.allows_created_at("A", since - 1));
    until("expired", FOLLOWS, || !instance.allows("A")).await;
    assert!(now() >= since + 600);
}
