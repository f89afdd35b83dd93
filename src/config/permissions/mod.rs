//! `permissions`: the rules, where grants live, and how they are changed.

mod api;
pub mod file;

use std::path::PathBuf;
use std::time::Duration;

pub use self::api::{ApiTls, ApiToken, PermissionsApi};
use regex::Regex;

use self::file::{Action as ActionValue, Store};
use super::duration::{DAY, HOUR, SECOND};
use super::error::{ConfigError, Problems};
use super::{Kafka, Route};
use crate::permissions::{Action, Mode, Rules, Scope, Scopes};

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

/// Where grants live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermissionStore {
    /// A file of JSON, or of CSV by its extension.
    File {
        /// It.
        path: PathBuf,
    },
    /// An SQLite database.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
    /// A compacted Kafka topic.
    Kafka {
        /// Its whole name.
        topic: String,
    },
}

/// The topics that records go to, which grants must stay out of.
pub(super) struct Topics<'a> {
    pub(super) namespace: &'a str,
    pub(super) routes: &'a [Route],
}

impl Topics<'_> {
    fn contain(&self, topic: &str) -> bool {
        self.routes.iter().any(|route| format!("{}_{}", self.namespace, route.topic) == topic)
    }
}

/// Fills in defaults and checks everything.
pub(super) fn resolve(
    section: &file::Permissions,
    kafka: Option<&Kafka>,
    topics: &Topics<'_>,
    problems: &mut Problems,
) -> Permissions {
    let store = store(section.store.as_ref(), problems);
    check_topics(&store, section.audit_topic.as_deref(), topics, problems);
    Permissions {
        rules: rules(section, problems),
        store,
        max_stale: problems.duration("permissions.max_stale", section.max_stale, SECOND..=30 * DAY, HOUR),
        api: section.api.as_ref().and_then(|section| api::resolve(section, problems)),
        audit_topic: section.audit_topic.clone(),
        kafka: kafka.cloned(),
    }
}

fn rules(section: &file::Permissions, problems: &mut Problems) -> Rules {
    let rules = Rules {
        mode: mode(section.mode.as_deref(), problems),
        action: action(section.action.as_ref(), problems),
        // The stricter of two choices unless the operator makes the other one.
        strict: section.strict.unwrap_or(true),
        deny_unknown: deny_unknown(section.default.as_deref(), problems),
        enforced: scopes(section.scopes.as_deref(), problems),
        skip_empty: skip_empty(section.empty_records.as_deref(), problems),
        patterns: patterns(section.patterns.as_deref(), problems).into(),
        // Counters belong to a recorder; the application registers them.
        ..Rules::off()
    };
    if rules.mode == Mode::Enforce && !rules.deny_unknown {
        problems.advise(
            "permissions.default",
            "with \"allow\" the data of a vehicle pass although its owner has said nothing; \"deny\" withholds them",
        );
    }
    rules
}

fn skip_empty(empty_records: Option<&str>, problems: &mut Problems) -> bool {
    match empty_records {
        None | Some("deliver") => false,
        Some("skip") => true,
        Some(other) => {
            problems.not_allowed("permissions.empty_records", other, "deliver, skip");
            false
        }
    }
}

fn mode(mode: Option<&str>, problems: &mut Problems) -> Mode {
    match mode {
        Some("off") => Mode::Off,
        Some("audit") => Mode::Audit,
        Some("enforce") => Mode::Enforce,
        Some(other) => {
            problems.not_allowed("permissions.mode", other, "off, audit, enforce");
            Mode::Enforce
        }
        None => {
            let remedy = "give \"off\", \"audit\" (counts what would be withheld) or \"enforce\"";
            problems.error(ConfigError::Missing { key: "permissions.mode", remedy });
            Mode::Enforce
        }
    }
}

fn action(action: Option<&ActionValue>, problems: &mut Problems) -> Action {
    match action {
        None => Action::Drop,
        Some(ActionValue::Named(name)) => match name.as_str() {
            "drop" => Action::Drop,
            "invalid" => Action::Invalid,
            other => {
                problems.not_allowed("permissions.action", other, "drop, invalid, {\"coarsen\": 0 to 7}");
                Action::Drop
            }
        },
        // Seven decimals of a degree are a centimetre.
        Some(ActionValue::Coarsen(decimals)) => {
            Action::Coarsen(problems.number("permissions.action.coarsen", Some(*decimals), 0..=7, 0))
        }
    }
}

fn deny_unknown(default: Option<&str>, problems: &mut Problems) -> bool {
    match default {
        None | Some("deny") => true,
        Some("allow") => false,
        Some(other) => {
            problems.not_allowed("permissions.default", other, "deny, allow");
            true
        }
    }
}

fn scopes(names: Option<&[String]>, problems: &mut Problems) -> Scopes {
    let Some(names) = names else { return Scopes::NONE.with(Scope::VehicleLocation) };
    if names.is_empty() {
        let remedy = "name at least one, such as \"vehicle_location\", or leave the key out";
        problems.error(ConfigError::Missing { key: "permissions.scopes", remedy });
    }
    names.iter().enumerate().fold(Scopes::NONE, |scopes, (at, name)| match Scope::parse(name) {
        Some(scope) => scopes.with(scope),
        None => {
            let allowed = Scope::ALL.map(Scope::label).join(", ");
            problems.not_allowed(format!("permissions.scopes[{at}]"), name, allowed);
            scopes
        }
    })
}

fn patterns(patterns: Option<&[String]>, problems: &mut Problems) -> Vec<Regex> {
    let mut compiled = Vec::new();
    for (at, pattern) in patterns.unwrap_or_default().iter().enumerate() {
        match Regex::new(pattern) {
            // It would put the mask between all letters.
            Ok(regex) if regex.is_match("") => {
                problems.not_allowed(
                    format!("permissions.patterns[{at}]"),
                    pattern,
                    "expressions that do not match nothing",
                );
            }
            Ok(regex) => compiled.push(regex),
            Err(_) => {
                problems.not_allowed(format!("permissions.patterns[{at}]"), pattern, "regular expressions");
            }
        }
    }
    compiled
}

fn store(section: Option<&Store>, problems: &mut Problems) -> PermissionStore {
    let default = || PermissionStore::Sqlite { path: PathBuf::from("permissions.db") };
    let store = match section {
        None => default(),
        Some(Store { file: Some(file), sqlite: None, kafka: None }) => PermissionStore::File {
            path: required(
                "permissions.store.file.path",
                file.path.as_deref(),
                "give a file, such as \"permissions.json\" or \"permissions.csv\"",
                problems,
            ),
        },
        Some(Store { file: None, sqlite: Some(sqlite), kafka: None }) => PermissionStore::Sqlite {
            path: required(
                "permissions.store.sqlite.path",
                sqlite.path.as_deref().or(Some("permissions.db")),
                "give a file, such as \"permissions.db\"",
                problems,
            ),
        },
        Some(Store { file: None, sqlite: None, kafka: Some(kafka) }) => PermissionStore::Kafka {
            topic: required(
                "permissions.store.kafka.topic",
                kafka.topic.as_deref(),
                "give a topic, such as \"permissions\"",
                problems,
            ),
        },
        Some(_) => {
            let problem = "exactly one of file, sqlite, kafka must be given".to_owned();
            problems.error(ConfigError::Conflict { key: "permissions.store", problem });
            default()
        }
    };
    check_built(&store, problems);
    store
}

fn check_built(store: &PermissionStore, problems: &mut Problems) {
    let missing = match store {
        PermissionStore::Kafka { .. } if !cfg!(feature = "kafka") => "kafka",
        PermissionStore::Sqlite { .. } if !cfg!(feature = "sqlite") => "sqlite",
        _ => return,
    };
    let problem = format!("this build has no {missing}; choose another store");
    problems.error(ConfigError::Conflict { key: "permissions.store", problem });
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

fn check_topics(store: &PermissionStore, audit: Option<&str>, topics: &Topics<'_>, problems: &mut Problems) {
    let mut check = |key, topic: &str| {
        if let Some(c) = topic.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
            let problem = format!("{topic:?}: {c:?} cannot stand in a topic name");
            problems.error(ConfigError::Conflict { key, problem });
        } else if topics.contain(topic) {
            let problem = format!("{topic:?} is where records go");
            problems.error(ConfigError::Conflict { key, problem });
        }
    };
    let grants = if let PermissionStore::Kafka { topic } = store { Some(topic.as_str()) } else { None };
    if let Some(topic) = grants {
        check("permissions.store.kafka.topic", topic);
    }
    let Some(audit) = audit else { return };
    check("permissions.audit_topic", audit);
    if audit.is_empty() {
        let remedy = "give a topic, or leave the key out";
        problems.error(ConfigError::Missing { key: "permissions.audit_topic", remedy });
    } else if grants == Some(audit) {
        let problem = format!("{audit:?} is where grants live");
        problems.error(ConfigError::Conflict { key: "permissions.audit_topic", problem });
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Env, PermissionStore, Problems, file::FileConfig, resolve};
    use crate::permissions::{Action, Mode, Scope};

    pub(super) fn load(permissions: &str) -> Result<Config, Problems> {
        let text = format!(
            r#"{{"port": 1, "tls": {{"ca_file": "a", "server_cert": "b", "server_key": "c"}}, "namespace": "t",
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
