//! `onboarding`: the application's key, and the listener that everybody may reach.

mod public;

use std::path::PathBuf;
use std::time::Duration;

pub use self::public::{FilePublic, FilePublicTls, OnboardingPublic, PublicTls};
use super::client_tls::{ClientTls, FileClientTls};
use super::duration::SECOND;
use super::error::{ConfigError, Problems};
use super::section::Section;
use super::tls::Tls;

/// `onboarding`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileOnboarding {
    /// The application's domain.
    pub domain: Option<String>,
    /// PEM private key.
    pub key_file: Option<String>,
    /// The listener for everybody.
    pub public: Option<FilePublic>,
    /// TLS towards others.
    pub tls: Option<FileClientTls>,
    /// How long an answer of others is waited for.
    pub timeout: Option<Duration>,
}

/// What bringing vehicles here takes.
#[derive(Clone, Debug)]
pub struct Onboarding {
    /// The application's domain as it is, or will be, registered with the vehicle maker: lower case, no scheme, no port.
    pub domain: String,
    /// PEM private key on P-256. Not that of TLS.
    pub key_file: PathBuf,
    /// The listener for everybody; `None`: the public key is served by somebody else.
    pub public: Option<OnboardingPublic>,
    /// Whom to trust when others are asked.
    pub tls: ClientTls,
    /// How long an answer of others is waited for.
    pub timeout: Duration,
}

impl FileOnboarding {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            domain: section.value("domain"),
            key_file: section.value("key_file"),
            public: section.object("public", FilePublic::read),
            tls: section.object("tls", FileClientTls::read),
            timeout: section.duration("timeout"),
        }
    }
}

/// `server` is the section `tls`, whose certificate the public listener may share.
pub(super) fn resolve(section: &FileOnboarding, server: &Tls, problems: &mut Problems) -> Onboarding {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let key_file = given(&section.key_file);
    if key_file.is_none() {
        let remedy = "give the file of the application's private key; `fleet-telemetry keys new FILE` makes one";
        problems.error(ConfigError::Missing { key: "onboarding.key_file", remedy });
    }
    Onboarding {
        domain: domain(section.domain.as_deref(), problems),
        key_file: key_file.unwrap_or_default().into(),
        public: section.public.as_ref().and_then(|public| public::resolve(public, server, problems)),
        tls: section.tls.clone().unwrap_or_default().resolve("onboarding.tls", problems),
        // The maker's signing proxy waits so long.
        timeout: problems.duration("onboarding.timeout", section.timeout, SECOND..=120 * SECOND, 10 * SECOND),
    }
}

fn domain(domain: Option<&str>, problems: &mut Problems) -> String {
    let Some(domain) = domain.filter(|domain| !domain.is_empty()) else {
        let remedy = "give the application's domain, such as \"example.com\"";
        problems.error(ConfigError::Missing { key: "onboarding.domain", remedy });
        return String::new();
    };
    if !is_name(domain) {
        problems.not_allowed("onboarding.domain", domain, "names such as \"example.com\": no scheme, path or port");
    }
    domain.to_ascii_lowercase()
}

/// Whether `name` is a name in the DNS with a dot in it, and not an address.
pub(crate) fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label) && !name.rsplit('.').all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Env, file::FileConfig, resolve};

    fn load(onboarding: &str) -> Result<Config, Vec<String>> {
        let text = format!(
            r#"{{"port": 443, "tls": {{"server_cert": "b", "server_key": "c"}}, "records": {{"V": ["logger"]}},
                "onboarding": {onboarding}}}"#
        );
        let resolved = resolve(FileConfig::parse(text.as_bytes()).unwrap(), &Env::default());
        resolved.map(|(config, _)| config).map_err(|found| found.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn is_absent_without_its_section() {
        assert!(load("null").unwrap().onboarding.is_none());
    }

    #[test]
    fn the_public_listener_shares_the_servers_certificate_or_has_its_own_or_is_plain_on_loopback() {
        let public = |text: &str| {
            let section = format!(r#"{{"domain": "Example.com", "key_file": "k", "public": {text}}}"#);
            load(&section).unwrap().onboarding.unwrap().public.unwrap()
        };
        let shared = public(r#"{"port": 8444, "tls": {}}"#);
        assert_eq!(shared.tls.unwrap().cert.to_str(), Some("b"));
        assert!(shared.address.ip().is_unspecified());
        let own = public(r#"{"port": 8444, "tls": {"cert": "x", "key": "y"}}"#).tls.unwrap();
        assert_eq!((own.cert.to_str(), own.key.to_str()), (Some("x"), Some("y")));
        let plain = public(r#"{"port": 8444}"#);
        assert!(plain.tls.is_none() && plain.address.ip().is_loopback());
    }

    #[test]
    fn reports_every_mistake_at_once() {
        let found = load(r#"{"domain": "https://example.com/", "public": {"port": 70000, "tls": {"cert": "x"}}}"#);
        let expected = [
            "onboarding.key_file: missing; give the file of the application's private key; `fleet-telemetry keys new FILE` \
             makes one",
            "onboarding.domain: unknown value \"https://example.com/\", allowed are names such as \"example.com\": no \
             scheme, path or port",
            "onboarding.public.port: 70000 is out of range, allowed is 0 to 65535",
            "onboarding.public.tls.key: missing; give the PEM private key of onboarding.public.tls.cert",
        ];
        assert_eq!(found.unwrap_err(), expected);
        let found = load(r#"{"public": {}}"#).unwrap_err();
        assert!(found.iter().any(|error| error.starts_with("onboarding.domain: missing")), "{found:?}");
        assert!(found.iter().any(|error| error.starts_with("onboarding.public.port: missing")), "{found:?}");
    }

    #[test]
    fn names_are_told_from_addresses_and_urls() {
        for name in ["example.com", "a.b-c.example", "4.example"] {
            assert!(is_name(name), "{name}");
        }
        for other in ["", "localhost", "10.0.0.1", "a..b", "-a.b", "a.b:443", "https://a.b", "a_b.c", "a.b/", "a.b."] {
            assert!(!is_name(other), "{other}");
        }
    }
}
