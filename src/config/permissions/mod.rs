//! `permissions`: the rules, where grants live, and how they are changed.

mod api;
pub mod rules;
mod store;

use std::time::Duration;

pub use self::api::{ApiTls, ApiToken, FileApi, FileApiTls, MIN_TOKEN_BYTES, PermissionsApi, TokenError, check_token};
pub use self::rules::FileAction;
use self::rules::Rules;
pub(super) use self::store::Topics;
pub use self::store::{FilePath, FileStore, FileTopic, PermissionStore};
use super::Kafka;
use super::duration::{DAY, HOUR, SECOND};
use super::error::{ConfigError, Problems};
use super::section::Section;

/// `permissions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePermissions {
    /// `off`, `audit` or `enforce`.
    pub mode: Option<String>,
    /// `deny` or `allow`, for a vehicle without an entry.
    pub default: Option<String>,
    /// Also the fields that reveal a place indirectly, and unknown field numbers.
    pub strict: Option<bool>,
    /// What becomes of a datum that is withheld.
    pub action: Option<FileAction>,
    /// `deliver` or `skip`, for a `V` record of which nothing is left.
    pub empty_records: Option<String>,
    /// Regular expressions of what else counts as coordinates in texts.
    pub patterns: Option<Vec<String>>,
    /// The scopes that are enforced.
    pub scopes: Option<Vec<String>>,
    /// Where grants live.
    pub store: Option<FileStore>,
    /// How long the last known grants are kept when the store is lost.
    pub max_stale: Option<Duration>,
    /// How grants are changed.
    pub api: Option<FileApi>,
    /// A Kafka topic that every change is also written to.
    pub audit_topic: Option<String>,
}

/// What needs an owner's consent.
#[derive(Clone, Debug)]
pub struct Permissions {
    /// What is withheld, and how.
    pub rules: Rules,
    /// Where grants live.
    pub store: PermissionStore,
    /// How long the last known grants are kept when the store is lost; after that, everything is withheld.
    pub max_stale: Duration,
    /// How grants are changed; `None`: not over HTTP.
    pub api: Option<PermissionsApi>,
    /// A Kafka topic that every change is also written to.
    pub audit_topic: Option<String>,
    /// The section `kafka`; present exactly if the store or `audit_topic` uses it.
    pub kafka: Option<Kafka>,
}

impl FilePermissions {
    pub(in crate::config) fn read(section: &mut Section<'_>) -> Self {
        Self {
            mode: section.value("mode"),
            default: section.value("default"),
            strict: section.value("strict"),
            action: section.value("action"),
            empty_records: section.value("empty_records"),
            patterns: section.value("patterns"),
            scopes: section.value("scopes"),
            store: section.object("store", FileStore::read),
            max_stale: section.duration("max_stale"),
            api: section.object("api", FileApi::read),
            audit_topic: section.value("audit_topic"),
        }
    }

    /// Whether the section `kafka` is needed.
    #[must_use]
    pub fn uses_kafka(&self) -> bool {
        self.audit_topic.is_some() || self.store.as_ref().is_some_and(|store| store.kafka.is_some())
    }
}

/// Fills in defaults and checks everything.
pub(super) fn resolve(
    section: &FilePermissions,
    kafka: Option<&Kafka>,
    topics: &Topics<'_>,
    problems: &mut Problems,
) -> Permissions {
    let store = store::resolve(section.store.as_ref(), problems);
    store::check_topics(&store, section.audit_topic.as_deref(), topics, problems);
    Permissions {
        rules: rules::resolve(section, problems),
        store,
        max_stale: problems.duration("permissions.max_stale", section.max_stale, SECOND..=30 * DAY, HOUR),
        api: section.api.as_ref().and_then(|section| api::resolve(section, problems)),
        audit_topic: section.audit_topic.clone(),
        kafka: kafka.cloned(),
    }
}

fn required<T: From<String>>(
    key: &'static str,
    value: Option<&str>,
    remedy: &'static str,
    problems: &mut Problems,
) -> T {
    if value.is_none_or(str::is_empty) {
        problems.error(ConfigError::Missing { key, remedy });
    }
    T::from(value.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::rules::{Action, Mode};
    use crate::config::{Config, Env, PermissionStore, Problems, file::FileConfig, resolve};
    use crate::scope::Scope;

    pub(super) fn load(permissions: &str) -> Result<Config, Problems> {
        let text = format!(
            r#"{{"port": 443, "tls": {{"ca_file": "a", "server_cert": "b", "server_key": "c"}}, "namespace": "t",
                "records": {{"V": ["logger"]}}, "kafka": {{"bootstrap.servers": "x:1"}}, "permissions": {permissions}}}"#
        );
        resolve(FileConfig::parse(text.as_bytes()).unwrap(), &Env::default()).map(|(config, _)| config)
    }

    pub(super) fn errors(permissions: &str) -> Vec<String> {
        load(permissions).unwrap_err().errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn is_absent_without_its_section() {
        assert!(load("null").unwrap().permissions.is_none());
    }

    #[test]
    fn denies_and_is_strict_by_default_and_keeps_grants_in_sqlite() {
        let permissions = load(r#"{"mode": "enforce"}"#).unwrap().permissions.unwrap();
        assert_eq!(permissions.rules.mode, Mode::Enforce);
        assert_eq!(permissions.rules.action, Action::Drop);
        assert!(permissions.rules.deny_unknown && permissions.rules.strict);
        assert!(permissions.rules.enforced.contains(Scope::VehicleLocation));
        assert!(!permissions.rules.enforced.contains(Scope::Media));
        assert_eq!(permissions.store, PermissionStore::Sqlite { path: "permissions.db".into() });
        assert_eq!(permissions.max_stale.as_secs(), 3600);
        assert!(permissions.api.is_none() && permissions.kafka.is_none());
    }

    #[test]
    fn compiles_patterns_and_names_those_that_are_none() {
        let permissions = load(r#"{"mode": "enforce", "patterns": ["depot [0-9]+"]}"#).unwrap().permissions.unwrap();
        assert!(permissions.rules.patterns[0].is_match("depot 17"));
        let found = errors(r#"{"mode": "enforce", "patterns": ["fine", "(", "x*"]}"#).join("\n");
        assert!(found.contains("permissions.patterns[1]") && found.contains("permissions.patterns[2]"), "{found}");
        assert!(!found.contains("permissions.patterns[0]"), "{found}");
    }

    #[test]
    #[cfg(feature = "kafka")]
    fn takes_kafkas_connection_from_its_section_although_no_route_uses_it() {
        let config = load(r#"{"mode": "audit", "store": {"kafka": {"topic": "grants"}}}"#).unwrap();
        assert!(config.dispatchers.kafka.is_none());
        let permissions = config.permissions.unwrap();
        assert_eq!(permissions.kafka.unwrap().properties["bootstrap.servers"], "x:1");
    }

    #[test]
    fn reports_every_mistake_at_once_with_what_is_allowed() {
        let found = errors(
            r#"{"mode": "on", "default": "maybe", "action": {"coarsen": 9}, "scopes": ["location"], "max_stale": "1ms",
                "store": {"file": {"path": "a"}, "sqlite": {}}, "audit_topic": "t_V", "api": {"token": "a", "token_file": "b"}}"#,
        );
        let expected = [
            "permissions.store: exactly one of file, sqlite, kafka must be given",
            "permissions.audit_topic: \"t_V\" is where records go",
            "permissions.mode: unknown value \"on\", allowed are off, audit, enforce",
            "permissions.action.coarsen: 9 is out of range, allowed is 0 to 7",
            "permissions.default: unknown value \"maybe\", allowed are deny, allow",
            "permissions.scopes[0]: unknown value \"location\", allowed are vehicle_location, charging, climate, media, security, driving",
            "permissions.max_stale: 1ms is out of range, allowed is 1s to 2592000s",
            "permissions.api.port: missing; give a port (0 picks a free one)",
            "permissions.api.token: also permissions.api.token_file is given; one of them must go",
        ];
        for text in expected {
            assert!(found.iter().any(|error| error == text), "{text}: {found:#?}");
        }
    }

    #[test]
    fn an_action_of_another_form_is_named_with_the_forms_that_exist() {
        let found = errors(r#"{"mode": "off", "action": {"blur": 1}}"#);
        assert_eq!(
            found,
            ["permissions.action: expected \"drop\", \"invalid\" or {\"coarsen\": 0 to 7}, found an object"]
        );
    }
}
