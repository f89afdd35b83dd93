//! The embedded database.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fleet_telemetry::config::{self, PermissionStore};
use fleet_telemetry::grants::{ChangeError, Health, ImportError};
use fleet_telemetry::permissions::State;
use fleet_telemetry::scope::Scope;

use super::{FOLLOWS, HOUR, change, configure, is_stale, open, try_open, until, withholds_everything};

fn config(path: &Path) -> config::Permissions {
    configure(PermissionStore::Sqlite { path: path.to_owned() }, HOUR)
}

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("permissions.db");
    (directory, path)
}

#[tokio::test]
async fn a_change_is_in_force_when_it_returns_and_survives_reopening() {
    let (_directory, path) = fresh();
    let instance = open(&config(&path)).await;
    assert_eq!(instance.authority.health(), Health::Loaded);
    assert!(!instance.allows("A"));
    let granted = instance.grant("A").await;
    assert!(instance.allows("A"));
    let revoked = instance.revoke("A").await;
    assert!(!instance.allows("A"));
    assert_eq!((granted.version, revoked.version), (1, 2));
    instance.grant("B").await;
    drop(instance);
    let again = open(&config(&path)).await;
    assert!(!again.allows("A") && again.allows("B"));
    assert_eq!(again.location("A"), Some(revoked.clone()));
    let history = again.authority.history("A", 10).await.unwrap();
    assert_eq!(history.iter().map(|entry| entry.grant.clone()).collect::<Vec<_>>(), [revoked, granted]);
    assert_eq!((history[0].actor.who.as_str(), history[0].scope), ("tester", Scope::VehicleLocation));
    assert_eq!(again.authority.history("A", 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn another_instances_changes_are_in_force_within_a_second_and_conflicts_are_found() {
    let (_directory, path) = fresh();
    let (one, other) = (open(&config(&path)).await, open(&config(&path)).await);
    one.grant("A").await;
    let delay = until("the other follows", FOLLOWS, || other.allows("A")).await;
    println!("followed after {delay:?}");
    other.revoke("A").await;
    // At once, whatever `one` has noticed: the database decides.
    let mut late = change("A", State::Granted);
    late.expected_version = Some(1);
    let error = one.authority.change(late).await.unwrap_err();
    assert!(matches!(error, ChangeError::Conflict { expected: 1, actual: 2 }), "{error}");
    let again = one.authority.change(change("A", State::Denied)).await.unwrap();
    assert!(!again.changed && !one.allows("A"), "denied already, and in force here when that is said");
}

#[tokio::test]
async fn an_import_is_made_whole_or_not_at_all() {
    let (_directory, path) = fresh();
    let instance = open(&config(&path)).await;
    instance.grant("A").await;
    let mut conflicting = change("C", State::Granted);
    conflicting.expected_version = Some(9);
    let changes = vec![change("A", State::Granted), change("B", State::Granted), conflicting];
    let ImportError { row, error } = instance.authority.import(changes.clone()).await.unwrap_err();
    assert!(row == 2 && matches!(error, ChangeError::Conflict { expected: 9, actual: 0 }), "{row} {error}");
    assert!(!instance.allows("B"));
    let imported = instance.authority.import(changes[..2].to_vec()).await.unwrap();
    assert_eq!((imported.changed, imported.unchanged), (1, 1));
    assert!(instance.allows("B"));
    assert!(open(&config(&path)).await.allows("B"));
}

#[tokio::test]
async fn pages_go_through_all_vehicles_by_vin() {
    let (_directory, path) = fresh();
    let instance = open(&config(&path)).await;
    let vins: Vec<_> = (0..25).map(|n| format!("VIN{n:02}")).collect();
    instance.authority.import(vins.iter().rev().map(|vin| change(vin, State::Granted)).collect()).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = instance.authority.list(after.as_deref(), 10);
        assert!(page.vehicles.len() <= 10);
        seen.extend(page.vehicles.into_iter().map(|(vin, _)| vin));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, vins);
    assert_eq!(instance.authority.list(Some("VIN24"), 10).vehicles, []);
}

#[tokio::test]
async fn a_database_that_is_removed_goes_stale_then_lost_and_a_restored_one_is_followed() {
    let (directory, path) = fresh();
    let mut config = config(&path);
    config.max_stale = Duration::from_millis(1500);
    let instance = open(&config).await;
    instance.grant("A").await;
    let away = directory.path().join("away.db");
    std::fs::rename(&path, &away).unwrap();
    until("stale", FOLLOWS, || is_stale(&instance.authority.health(), "No such file")).await;
    assert!(instance.allows("A"));
    assert!(matches!(instance.authority.change(change("A", State::Denied)).await, Err(ChangeError::Store(_))));
    let lost = || matches!(instance.authority.health(), Health::Lost { .. });
    until("lost", Duration::from_secs(4), lost).await;
    assert!(withholds_everything(&instance.permissions));
    std::fs::rename(&away, &path).unwrap();
    until("back", FOLLOWS, || instance.allows("A")).await;
}

#[tokio::test]
async fn a_file_of_something_else_is_refused() {
    let (_directory, path) = fresh();
    let refusal = async || try_open(&config(&path)).await.err().unwrap().to_string();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(refusal().await.contains("a database of something else"), "{}", refusal().await);
    std::fs::write(&path, "this is no database, and long enough to be looked at".repeat(100)).unwrap();
    assert!(refusal().await.contains("not a database"), "{}", refusal().await);
}

/// The process that [`a_revocation_that_was_confirmed_survives_kill_9`] kills.
#[tokio::test]
#[ignore = "run by another test"]
async fn revoke_confirm_and_wait() {
    let instance = open(&config(Path::new(&std::env::var("PERMISSIONS_FILE").unwrap()))).await;
    instance.grant("A").await;
    instance.revoke("A").await;
    println!("\nconfirmed");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_revocation_that_was_confirmed_survives_kill_9() {
    let (_directory, path) = fresh();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--exact", "sqlite::revoke_confirm_and_wait"])
        .env("PERMISSIONS_FILE", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let confirmed = lines.map_while(Result::ok).any(|line| line == "confirmed");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(confirmed);
    let instance = open(&config(&path)).await;
    assert_eq!(instance.location("A").map(|grant| (grant.state, grant.version)), Some((State::Denied, 2)));
    assert!(!instance.allows("A"));
}
