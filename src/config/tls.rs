//! `tls`: the certificates of the mTLS listener.

use std::path::PathBuf;
use std::time::Duration;

use super::duration::{HOUR, SECOND};
use super::error::{ConfigError, Problems};
use super::section::Section;

/// `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTls {
    /// PEM bundle that vehicles' certificates must chain to.
    pub ca_file: Option<String>,
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
    /// PEM bundle that vehicles' certificates must chain to.
    pub ca_file: PathBuf,
    /// PEM chain, leaf first.
    pub server_cert: PathBuf,
    /// PEM private key.
    pub server_key: PathBuf,
    /// All certificate files, also those of other listeners, are looked at this often.
    pub reload_interval: Duration,
}

impl FileTls {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            ca_file: section.value("ca_file"),
            server_cert: section.value("server_cert"),
            server_key: section.value("server_key"),
            reload_interval: section.duration("reload_interval"),
        }
    }
}

pub(super) fn resolve(tls: Option<&FileTls>, use_default_eng_ca: Option<bool>, problems: &mut Problems) -> Tls {
    let Some(tls) = tls else {
        problems.error(ConfigError::NoTls);
        return tls_of(&FileTls::default(), &mut Problems::default());
    };
    if use_default_eng_ca == Some(true) {
        problems.advise(
            "use_default_eng_ca",
            "no bundle comes with this server; tls.ca_file must hold the engineering bundle (see certs/README.md)",
        );
    }
    tls_of(tls, problems)
}

fn tls_of(tls: &FileTls, problems: &mut Problems) -> Tls {
    // Renewals come in several files, and vehicles come back within seconds: two looks have to be short. Each is
    // some small reads.
    let reload_interval =
        problems.duration("tls.reload_interval", tls.reload_interval, Duration::from_millis(100)..=HOUR, 2 * SECOND);
    let mut path = |key, value: &Option<String>, remedy| match value.as_deref() {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => {
            problems.error(ConfigError::Missing { key, remedy });
            PathBuf::new()
        }
    };
    Tls {
        ca_file: path(
            "tls.ca_file",
            &tls.ca_file,
            "give the PEM bundle of the authorities that sign vehicles' certificates; it does not come with this \
             server, certs/README.md says where to get it",
        ),
        server_cert: path("tls.server_cert", &tls.server_cert, "give the server's PEM certificate chain, leaf first"),
        server_key: path("tls.server_key", &tls.server_key, "give the server's PEM private key"),
        reload_interval,
    }
}
