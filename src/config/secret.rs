//! Passwords and tokens: in the configuration, in the environment (`"${NAME}"`), or in a file (the same key with `_file`
//! behind it). Never shown.

use std::fmt;

use super::Env;
use super::error::{ConfigError, Problems};
use super::section::Section;

/// As written.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FileSecret {
    text: Option<String>,
    file: Option<String>,
}

/// What nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// For whoever it is meant for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for FileSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSecret").field("is_given", &self.text.is_some()).field("file", &self.file).finish()
    }
}

impl FileSecret {
    /// From `key`, or from the file that `key_file` names.
    pub(super) fn read(section: &mut Section<'_>, key: &'static str, key_file: &'static str) -> Self {
        Self { text: section.secret(key), file: section.value(key_file) }
    }

    /// `path` is that of the key in the document. Empty counts as absent, as in the reference server.
    pub(super) fn resolve(&self, path: &str, env: &Env, problems: &mut Problems) -> Option<Secret> {
        let secret = match (self.text.as_deref(), self.file.as_deref().filter(|file| !file.is_empty())) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(format!("given here and in {path}_file; leave one of them out")),
            (Some(text), None) => from_text(text, env).map(Some),
            (None, Some(file)) => from_file(path, file).map(Some),
        };
        match secret {
            Ok(secret) => secret.filter(|secret| !secret.is_empty()).map(Secret),
            Err(problem) => {
                problems.error(ConfigError::Secret { key: path.to_owned(), problem });
                None
            }
        }
    }
}

/// The text itself, unless all of it is the name of a variable: a password may hold any character.
pub(super) fn from_text(text: &str, env: &Env) -> Result<String, String> {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match name.filter(is_name) {
        None => Ok(text.to_owned()),
        Some(name) => match env.var(name) {
            Some(value) => Ok(value.to_owned()),
            None => Err(format!("the environment variable {name} is not set")),
        },
    }
}

/// Without the line ends that editors leave behind it.
fn from_file(path: &str, file: &str) -> Result<String, String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(format!("{path}_file: {file}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: Option<&str>, file: Option<&str>) -> Result<Option<String>, String> {
        let env: Env = [("NAME", "from env"), ("EMPTY", "")].into_iter().collect();
        let file = FileSecret { text: text.map(str::to_owned), file: file.map(str::to_owned) };
        let mut problems = Problems::default();
        let secret = file.resolve("mqtt.password", &env, &mut problems);
        match problems.errors.first() {
            None => Ok(secret.map(|secret| secret.expose().to_owned())),
            Some(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_secret_is_given_in_one_of_three_ways() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "from file\r\n").unwrap();
        let file = file.to_str().unwrap();
        for (text, path, expected) in [
            (None, None, None),
            (Some("plain"), None, Some("plain")),
            (Some("${NAME}"), None, Some("from env")),
            (Some("${EMPTY}"), None, None),
            (Some(""), None, None),
            (Some("$NAME"), None, Some("$NAME")),
            (Some("${not a name}"), None, Some("${not a name}")),
            (None, Some(file), Some("from file")),
        ] {
            assert_eq!(resolved(text, path), Ok(expected.map(str::to_owned)), "{text:?} {path:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_shown() {
        let missing = resolved(Some("${NOBODY_SET_THIS}"), None).unwrap_err();
        assert_eq!(missing, "mqtt.password: the environment variable NOBODY_SET_THIS is not set");
        let missing = resolved(None, Some("/nowhere/at/all")).unwrap_err();
        assert!(missing.starts_with("mqtt.password: mqtt.password_file: /nowhere/at/all: "), "{missing}");
        let both = resolved(Some("hidden"), Some("/nowhere")).unwrap_err();
        assert_eq!(both, "mqtt.password: given here and in mqtt.password_file; leave one of them out");
        let file = FileSecret { text: Some("hidden".to_owned()), file: None };
        let debug = format!("{file:?} {:?}", Secret::from("hidden"));
        assert!(!debug.contains("hidden"), "{debug}");
    }
}
