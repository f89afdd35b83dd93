//! Where grants live: what every store promises, and what each does in trouble.

#![allow(clippy::unwrap_used, reason = "a failed step fails its test")]

mod file;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "sqlite")]
mod sqlite;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_telemetry::config::{self, PermissionStore};
use fleet_telemetry::grants::{Actor, Authority, Change, Health, OpenError, clock};
use fleet_telemetry::permissions::{Action, Grant, Mode, Permissions, Rules, Seen, State};
use fleet_telemetry::scope::{Scope, Scopes};

use self::support::wait;

/// Another instance, or a reader of a file, follows within this time.
const FOLLOWS: Duration = Duration::from_secs(1);
/// For everything that the test does not measure.
const SOON: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

/// One instance of the server, as far as grants go.
struct Instance {
    authority: Arc<Authority>,
    permissions: Arc<Permissions>,
}

fn configure(store: PermissionStore, max_stale: Duration) -> config::Permissions {
    config::Permissions { rules: rules(), store, max_stale, api: None, audit_topic: None, kafka: None }
}

fn rules() -> Rules {
    let mut rules = Rules::off();
    rules.mode = Mode::Enforce;
    rules.action = Action::Drop;
    rules.deny_unknown = true;
    rules.enforced = Scopes::NONE.with(Scope::VehicleLocation);
    rules
}

async fn try_open(config: &config::Permissions) -> Result<Instance, OpenError> {
    let permissions = Arc::new(Permissions::new(config.rules.clone()));
    assert!(withholds_everything(&permissions), "nothing is known yet");
    let authority = Authority::open(config, Arc::clone(&permissions)).await?;
    Ok(Instance { authority, permissions })
}

async fn open(config: &config::Permissions) -> Instance {
    try_open(config).await.unwrap()
}

fn withholds_everything(permissions: &Permissions) -> bool {
    permissions.filter(&mut Seen::default(), "ANY", || Some(now()), now_u64()).denies(Scope::VehicleLocation)
}

impl Instance {
    /// Whether a record that `vin` makes now may carry its location.
    fn allows(&self, vin: &str) -> bool {
        self.allows_created_at(vin, now())
    }

    fn allows_created_at(&self, vin: &str, created_ms: i64) -> bool {
        !self
            .permissions
            .filter(&mut Seen::default(), vin, || Some(created_ms), now_u64())
            .denies(Scope::VehicleLocation)
    }

    fn location(&self, vin: &str) -> Option<Grant> {
        let scopes = self.authority.get(vin)?;
        scopes.into_iter().find_map(|(scope, grant)| (scope == Scope::VehicleLocation).then_some(grant))
    }

    async fn grant(&self, vin: &str) -> Grant {
        self.authority.change(change(vin, State::Granted)).await.unwrap().grant
    }

    async fn revoke(&self, vin: &str) -> Grant {
        self.authority.change(change(vin, State::Denied)).await.unwrap().grant
    }
}

fn change(vin: &str, state: State) -> Change {
    Change {
        vin: vin.to_owned(),
        scope: Scope::VehicleLocation,
        state,
        since_ms: None,
        expires_ms: None,
        source: "owner consent".to_owned(),
        note: String::new(),
        expected_version: None,
        actor: Actor { who: "tester".to_owned(), from: "test".to_owned() },
    }
}

fn now() -> i64 {
    clock::now_ms()
}

fn now_u64() -> u64 {
    u64::try_from(now()).unwrap()
}

/// Waits for `condition`; how long that took.
async fn until(what: &str, within: Duration, condition: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    wait::until(what, within, async || condition()).await;
    start.elapsed()
}

fn is_stale(health: &Health, with: &str) -> bool {
    matches!(health, Health::Stale { error, .. } if error.contains(with))
}
