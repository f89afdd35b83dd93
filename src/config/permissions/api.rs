//! `permissions.api`: the HTTP listener over which grants are changed.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::required;
use crate::config::error::{ConfigError, Problems};
use crate::config::ports::address;
use crate::config::section::Section;

/// `permissions.api`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FileApi {
    /// Bind host; loopback by default.
    pub host: Option<String>,
    /// Bind port.
    pub port: Option<i64>,
    /// The bearer token.
    pub token: Option<String>,
    /// A file with the bearer token.
    pub token_file: Option<String>,
    /// TLS.
    pub tls: Option<FileApiTls>,
}

impl fmt::Debug for FileApi {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, token, token_file, tls } = self;
        f.debug_struct("FileApi")
            .field("host", host)
            .field("port", port)
            .field("has_token", &token.is_some())
            .field("token_file", token_file)
            .field("tls", tls)
            .finish()
    }
}

/// `permissions.api.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileApiTls {
    /// PEM chain, leaf first.
    pub cert: Option<String>,
    /// PEM private key.
    pub key: Option<String>,
    /// PEM bundle that clients' certificates must chain to.
    pub client_ca: Option<String>,
}

/// The HTTP listener for changes.
#[derive(Clone, Debug)]
pub struct PermissionsApi {
    /// Where it listens.
    pub address: SocketAddr,
    /// The bearer token; `None`: only client certificates are let in.
    pub token: Option<ApiToken>,
    /// `None`: plain HTTP.
    pub tls: Option<ApiTls>,
}

/// Where the bearer token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiToken {
    /// The configuration itself.
    Inline(String),
    /// The contents of a file, without white space around them.
    File(PathBuf),
}

impl fmt::Debug for ApiToken {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Why a token cannot be used, wherever it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Anybody could guess it.
    #[error("{length} characters, at least {MIN_TOKEN_BYTES} are needed; `openssl rand -hex 32` makes one")]
    Short {
        /// What it has.
        length: usize,
    },
    /// No header could carry it.
    #[error("only visible ASCII characters without spaces can be sent")]
    Unsendable,
}

/// Shortest token that is accepted, in bytes.
pub const MIN_TOKEN_BYTES: usize = 16;

/// Whether a token may protect the API.
///
/// # Errors
/// [`TokenError`].
pub fn check_token(token: &str) -> Result<(), TokenError> {
    if token.len() < MIN_TOKEN_BYTES {
        return Err(TokenError::Short { length: token.len() });
    }
    if token.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err(TokenError::Unsendable) }
}

/// TLS of the HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTls {
    /// PEM chain, leaf first.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// PEM bundle; a client whose certificate chains to it needs no token.
    pub client_ca: Option<PathBuf>,
}

impl FileApi {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            host: section.value("host"),
            port: section.value("port"),
            token: section.value("token"),
            token_file: section.value("token_file"),
            tls: section.object("tls", |section| FileApiTls {
                cert: section.value("cert"),
                key: section.value("key"),
                client_ca: section.value("client_ca"),
            }),
        }
    }
}

/// Fills in defaults and checks everything.
pub(super) fn resolve(section: &FileApi, problems: &mut Problems) -> Option<PermissionsApi> {
    if section.port.is_none() {
        let remedy = "give a port (0 picks a free one)";
        problems.error(ConfigError::Missing { key: "permissions.api.port", remedy });
    }
    let port = problems.number("permissions.api.port", section.port, 0..=65_535, 0);
    let host = section.host.as_deref().filter(|host| !host.is_empty()).unwrap_or("127.0.0.1");
    let address = address("permissions.api.host", host, port, problems);
    let token = token(section, problems);
    let tls = section.tls.as_ref().map(|tls| api_tls(tls, problems));
    if token.is_none() && tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) {
        let remedy = "give a token or token_file, or tls.client_ca to let clients in by certificate";
        problems.error(ConfigError::Missing { key: "permissions.api.token", remedy });
    }
    let address = address?;
    if !address.ip().is_loopback() && tls.is_none() {
        problems.advise("permissions.api.host", "not loopback and without tls: the token is readable on the network");
    }
    Some(PermissionsApi { address, token, tls })
}

fn token(section: &FileApi, problems: &mut Problems) -> Option<ApiToken> {
    match (section.token.as_deref(), section.token_file.as_deref()) {
        (Some(_), Some(_)) => {
            let problem = "also permissions.api.token_file is given; one of them must go".to_owned();
            problems.error(ConfigError::Conflict { key: "permissions.api.token", problem });
            None
        }
        (Some(token), None) => {
            if token.is_empty() {
                let remedy = "an empty token lets everybody in; give one of at least 16 characters";
                problems.error(ConfigError::Missing { key: "permissions.api.token", remedy });
            } else if let Err(error) = check_token(token) {
                problems.error(ConfigError::Conflict { key: "permissions.api.token", problem: error.to_string() });
            }
            Some(ApiToken::Inline(token.to_owned()))
        }
        (None, Some(path)) => {
            let path = required("permissions.api.token_file", Some(path), "give a file that holds the token", problems);
            Some(ApiToken::File(path))
        }
        (None, None) => None,
    }
}

fn api_tls(tls: &FileApiTls, problems: &mut Problems) -> ApiTls {
    ApiTls {
        cert: required(
            "permissions.api.tls.cert",
            tls.cert.as_deref(),
            "give the PEM certificate chain, leaf first",
            problems,
        ),
        key: required("permissions.api.tls.key", tls.key.as_deref(), "give the PEM private key", problems),
        client_ca: tls.client_ca.as_ref().map(|path| {
            required("permissions.api.tls.client_ca", Some(path), "give a PEM bundle, or leave the key out", problems)
        }),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::permissions::tests::{errors, load};

    #[test]
    fn an_api_needs_a_way_to_let_clients_in() {
        let found = errors(r#"{"mode": "off", "api": {"port": 1}}"#);
        assert!(found[0].starts_with("permissions.api.token: missing"), "{found:?}");
        assert!(errors(r#"{"mode": "off", "api": {"port": 1, "token": ""}}"#)[0].contains("lets everybody in"));
        let config = load(r#"{"mode": "off", "api": {"port": 1, "token": "0123456789abcdef"}}"#).unwrap();
        let api = config.permissions.unwrap().api.unwrap();
        assert!(api.address.ip().is_loopback());
        assert!(!format!("{api:?}").contains("0123456789abcdef"));
    }
}
