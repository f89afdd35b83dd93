//! TLS towards others: whom to trust, and as whom to appear. The same keys in every section that has them.

use std::path::PathBuf;

use super::error::{ConfigError, Problems};
use super::section::Section;

/// As written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileClientTls {
    /// PEM bundle of the authorities that are trusted.
    pub ca_file: Option<String>,
    /// PEM chain of this client, leaf first.
    pub cert_file: Option<String>,
    /// PEM private key of it.
    pub key_file: Option<String>,
    /// The name that the other side's certificate must have.
    pub server_name: Option<String>,
}

/// TLS towards others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Of the section, for messages.
    pub path: String,
    /// PEM bundle of the authorities that are trusted; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM chain of this client, leaf first, and its private key; `None`: it shows none.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The name that the other side's certificate must have; `None`: the host's.
    pub server_name: Option<String>,
}

impl FileClientTls {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            ca_file: section.value("ca_file"),
            cert_file: section.value("cert_file"),
            key_file: section.value("key_file"),
            server_name: section.value("server_name"),
        }
    }

    /// `path` is that of the section.
    pub(super) fn resolve(&self, path: &str, problems: &mut Problems) -> ClientTls {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let certificate = match (given(&self.cert_file), given(&self.key_file)) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            (cert, _) => {
                let (key, other) = if cert.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
                let problem = format!("needs {path}.{other} as well");
                problems.error(ConfigError::Secret { key: format!("{path}.{key}"), problem });
                None
            }
        };
        ClientTls {
            path: path.to_owned(),
            ca_file: given(&self.ca_file).map(PathBuf::from),
            certificate,
            server_name: given(&self.server_name),
        }
    }
}
