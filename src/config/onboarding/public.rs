//! `onboarding.public`: the listener that everybody may reach.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::error::{ConfigError, Problems};
use crate::config::ports::address;
use crate::config::section::Section;
use crate::config::tls::Tls;

/// `onboarding.public`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePublic {
    /// Bind host.
    pub host: Option<String>,
    /// Bind port.
    pub port: Option<i64>,
    /// Certificate and key; empty: the server's.
    pub tls: Option<FilePublicTls>,
}

/// `onboarding.public.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePublicTls {
    /// PEM chain, leaf first.
    pub cert: Option<String>,
    /// PEM private key.
    pub key: Option<String>,
}

/// The listener for everybody.
#[derive(Clone, Debug)]
pub struct OnboardingPublic {
    /// Where it listens.
    pub address: SocketAddr,
    /// `None`: plain HTTP, behind a proxy that has the certificate.
    pub tls: Option<PublicTls>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicTls {
    /// PEM chain, leaf first.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

impl FilePublic {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            host: section.value("host"),
            port: section.value("port"),
            tls: section
                .object("tls", |section| FilePublicTls { cert: section.value("cert"), key: section.value("key") }),
        }
    }
}

pub(super) fn resolve(section: &FilePublic, server: &Tls, problems: &mut Problems) -> Option<OnboardingPublic> {
    if section.port.is_none() {
        let remedy = "give a port; others reach it as 443, here or through a proxy (0 picks a free one)";
        problems.error(ConfigError::Missing { key: "onboarding.public.port", remedy });
    }
    let port = problems.number("onboarding.public.port", section.port, 0..=65_535, 0);
    let tls = section.tls.as_ref().map(|tls| pair(tls, server, problems));
    // Plain is for the proxy in front of it.
    let default = if tls.is_some() { "[::]" } else { "127.0.0.1" };
    let host = section.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(default);
    let address = address("onboarding.public.host", host, port, problems)?;
    Some(OnboardingPublic { address, tls })
}

fn pair(tls: &FilePublicTls, server: &Tls, problems: &mut Problems) -> PublicTls {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty()).map(PathBuf::from);
    match (given(&tls.cert), given(&tls.key)) {
        (None, None) => PublicTls { cert: server.server_cert.clone(), key: server.server_key.clone() },
        (cert, key) => {
            let mut missing = |key, remedy| problems.error(ConfigError::Missing { key, remedy });
            if cert.is_none() {
                missing("onboarding.public.tls.cert", "give the PEM chain of onboarding.public.tls.key, leaf first");
            }
            if key.is_none() {
                missing("onboarding.public.tls.key", "give the PEM private key of onboarding.public.tls.cert");
            }
            PublicTls { cert: cert.unwrap_or_default(), key: key.unwrap_or_default() }
        }
    }
}
