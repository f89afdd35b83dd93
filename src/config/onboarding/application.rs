//! `onboarding.application`: who we are to the vehicle maker.

use super::required;
use crate::config::Env;
use crate::config::error::Problems;
use crate::config::secret::{FileSecret, Secret};
use crate::config::section::Section;

/// `onboarding.application`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileApplication {
    /// Of the maker's developer portal.
    pub client_id: Option<String>,
    /// The same.
    pub client_secret: FileSecret,
    /// Where the maker sends owners back to.
    pub redirect_uri: Option<String>,
}

/// Who we are to the vehicle maker.
#[derive(Clone, Debug)]
pub struct Application {
    /// Of the maker's developer portal.
    pub client_id: String,
    /// The same.
    pub client_secret: Secret,
    /// Where the maker sends owners back to; allowed there, too.
    pub redirect_uri: String,
}

impl FileApplication {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            client_id: section.value("client_id"),
            client_secret: FileSecret::read(section, "client_secret", "client_secret_file"),
            redirect_uri: section.value("redirect_uri"),
        }
    }
}

pub(super) fn resolve(section: &FileApplication, domain: &str, env: &Env, problems: &mut Problems) -> Application {
    let portal = "the vehicle maker's developer portal has it";
    let client_id = required("onboarding.application.client_id", section.client_id.as_deref(), portal, problems);
    let path = "onboarding.application.client_secret";
    let before = problems.errors.len();
    let secret = section.client_secret.resolve(path, env, problems);
    if secret.is_none() && problems.errors.len() == before {
        let remedy = "give it as \"${NAME}\" of an environment variable, or in client_secret_file";
        required::<String>(path, None, remedy, problems);
    }
    let redirect_uri = section.redirect_uri.clone().unwrap_or_else(|| format!("https://{domain}/callback"));
    super::maker::check_url("onboarding.application.redirect_uri", &redirect_uri, problems);
    Application { client_id, client_secret: secret.unwrap_or_else(|| Secret::from("")), redirect_uri }
}
