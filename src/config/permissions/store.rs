//! `permissions.store`: where grants live.

use std::path::PathBuf;

use super::required;
use crate::config::Route;
use crate::config::error::{ConfigError, Problems};
use crate::config::section::Section;

/// `permissions.store`: one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStore {
    /// `file`.
    pub file: Option<FilePath>,
    /// `sqlite`.
    pub sqlite: Option<FilePath>,
    /// `kafka`.
    pub kafka: Option<FileTopic>,
}

/// A section that only has a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePath {
    /// The file.
    pub path: Option<String>,
}

/// `permissions.store.kafka`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTopic {
    /// The topic, as it is; no namespace is put before it.
    pub topic: Option<String>,
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
pub(in crate::config) struct Topics<'a> {
    pub(in crate::config) namespace: &'a str,
    pub(in crate::config) routes: &'a [Route],
}

impl Topics<'_> {
    fn contain(&self, topic: &str) -> bool {
        self.routes.iter().any(|route| format!("{}_{}", self.namespace, route.topic) == topic)
    }
}

impl FileStore {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let path = |section: &mut Section<'_>| FilePath { path: section.value("path") };
        Self {
            file: section.object("file", path),
            sqlite: section.object("sqlite", path),
            kafka: section.object("kafka", |section| FileTopic { topic: section.value("topic") }),
        }
    }
}

pub(super) fn resolve(section: Option<&FileStore>, problems: &mut Problems) -> PermissionStore {
    let default = || PermissionStore::Sqlite { path: PathBuf::from("permissions.db") };
    let store = match section {
        None => default(),
        Some(FileStore { file: Some(file), sqlite: None, kafka: None }) => PermissionStore::File {
            path: required(
                "permissions.store.file.path",
                file.path.as_deref(),
                "give a file, such as \"permissions.json\" or \"permissions.csv\"",
                problems,
            ),
        },
        Some(FileStore { file: None, sqlite: Some(sqlite), kafka: None }) => PermissionStore::Sqlite {
            path: required(
                "permissions.store.sqlite.path",
                sqlite.path.as_deref().or(Some("permissions.db")),
                "give a file, such as \"permissions.db\"",
                problems,
            ),
        },
        Some(FileStore { file: None, sqlite: None, kafka: Some(kafka) }) => PermissionStore::Kafka {
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

pub(super) fn check_topics(store: &PermissionStore, audit: Option<&str>, topics: &Topics<'_>, problems: &mut Problems) {
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
