//! `onboarding.tokens`: where owners' tokens are kept, and what they are encrypted with.

use std::path::PathBuf;

use data_encoding::HEXLOWER_PERMISSIVE;

use super::required;
use crate::config::Env;
use crate::config::error::{ConfigError, Problems};
use crate::config::secret::{FileSecret, Secret};
use crate::config::section::Section;

/// Of an encryption key.
pub const TOKEN_KEY_BYTES: usize = 32;

/// `onboarding.tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTokens {
    /// The database.
    pub path: Option<String>,
    /// 64 hexadecimal digits.
    pub key: FileSecret,
    /// The key before that.
    pub old_key: FileSecret,
}

/// Where owners' tokens are kept.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// An SQLite database of its own.
    pub path: PathBuf,
    /// What is written is encrypted with this, in hexadecimal.
    pub key: Secret,
    /// What was written with this one is still read, and written anew.
    pub old_key: Option<Secret>,
}

impl FileTokens {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            path: section.value("path"),
            key: FileSecret::read(section, "key", "key_file"),
            old_key: FileSecret::read(section, "old_key", "old_key_file"),
        }
    }
}

pub(super) fn resolve(section: &FileTokens, env: &Env, problems: &mut Problems) -> Tokens {
    let path = section.path.as_deref().unwrap_or("onboarding.db");
    let path = required("onboarding.tokens.path", Some(path), "give a file, such as \"onboarding.db\"", problems);
    let before = problems.errors.len();
    let key = key("onboarding.tokens.key", &section.key, env, problems);
    if key.is_none() && problems.errors.len() == before {
        let remedy = "give 64 hexadecimal digits as \"${NAME}\" of an environment variable, or in key_file; `openssl rand -hex \
                      32` makes them";
        required::<String>("onboarding.tokens.key", None, remedy, problems);
    }
    let old_key = self::key("onboarding.tokens.old_key", &section.old_key, env, problems);
    Tokens { path, key: key.unwrap_or_else(|| Secret::from("")), old_key }
}

fn key(path: &'static str, secret: &FileSecret, env: &Env, problems: &mut Problems) -> Option<Secret> {
    let secret = secret.resolve(path, env, problems)?;
    let length = HEXLOWER_PERMISSIVE.decode(secret.expose().as_bytes()).map(|key| key.len());
    if length != Ok(TOKEN_KEY_BYTES) {
        let problem = "must be 64 hexadecimal digits; `openssl rand -hex 32` makes them".to_owned();
        problems.error(ConfigError::Secret { key: path.to_owned(), problem });
    }
    Some(secret)
}
