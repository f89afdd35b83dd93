//! `tls`: the certificates of the mTLS listener.

use std::path::PathBuf;
use std::time::Duration;

use super::duration::{HOUR, SECOND};
use super::error::{ConfigError, Problems};
use super::section::Section;

/// `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTls {
    /// PEM bundle of more authorities that sign vehicles' certificates.
    pub ca_file: Option<String>,
    /// Whether the maker's authorities, which are built in, are trusted (ours).
    pub maker_ca: Option<bool>,
    /// PEM chain, leaf first.
    pub server_cert: Option<String>,
    /// PEM private key.
    pub server_key: Option<String>,
    /// How often certificate files are looked at (ours).
    pub reload_interval: Option<Duration>,
}

/// Certificates of the mTLS listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Which of the maker's authorities vehicles' certificates may chain to.
    pub maker_ca: Option<MakerCa>,
    /// PEM bundle of others; not `None` without the maker's.
    pub ca_file: Option<PathBuf>,
    /// PEM chain, leaf first.
    pub server_cert: PathBuf,
    /// PEM private key.
    pub server_key: PathBuf,
    /// All certificate files, also those of other listeners, are looked at this often.
    pub reload_interval: Duration,
}

/// One of the maker's sets of authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakerCa {
    /// Of vehicles on the road.
    Production,
    /// Of the maker's own vehicles.
    Engineering,
}

impl MakerCa {
    /// In words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Engineering => "engineering",
        }
    }
}

impl FileTls {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            ca_file: section.value("ca_file"),
            maker_ca: section.value("maker_ca"),
            server_cert: section.value("server_cert"),
            server_key: section.value("server_key"),
            reload_interval: section.duration("reload_interval"),
        }
    }
}

pub(super) fn resolve(tls: Option<&FileTls>, use_default_eng_ca: Option<bool>, problems: &mut Problems) -> Tls {
    let Some(tls) = tls else {
        problems.error(ConfigError::NoTls);
        return tls_of(&FileTls::default(), None, &mut Problems::default());
    };
    tls_of(tls, use_default_eng_ca, problems)
}

fn tls_of(tls: &FileTls, use_default_eng_ca: Option<bool>, problems: &mut Problems) -> Tls {
    // Renewals come in several files, and vehicles come back within seconds: two looks have to be short. Each is
    // some small reads.
    let reload_interval =
        problems.duration("tls.reload_interval", tls.reload_interval, Duration::from_millis(100)..=HOUR, 2 * SECOND);
    let maker_ca = match (tls.maker_ca, use_default_eng_ca) {
        (Some(false), eng) => {
            if eng == Some(true) {
                problems.advise("use_default_eng_ca", "has no effect, since tls.maker_ca is false");
            }
            None
        }
        (_, Some(true)) => Some(MakerCa::Engineering),
        _ => Some(MakerCa::Production),
    };
    let ca_file = tls.ca_file.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
    if maker_ca.is_none() && ca_file.is_none() {
        problems.error(ConfigError::Missing {
            key: "tls.ca_file",
            remedy: "with \"maker_ca\": false nobody is trusted without it; give the PEM bundle of the authorities that \
                     sign vehicles' certificates, or leave maker_ca out",
        });
    }
    let mut path = |key, value: &Option<String>, remedy| match value.as_deref() {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => {
            problems.error(ConfigError::Missing { key, remedy });
            PathBuf::new()
        }
    };
    Tls {
        maker_ca,
        ca_file,
        server_cert: path("tls.server_cert", &tls.server_cert, "give the server's PEM certificate chain, leaf first"),
        server_key: path("tls.server_key", &tls.server_key, "give the server's PEM private key"),
        reload_interval,
    }
}
