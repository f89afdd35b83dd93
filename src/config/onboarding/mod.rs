//! `onboarding`: the application's key, the listener that everybody may reach, who we are to the vehicle maker, and
//! where owners' tokens are kept.

mod application;
mod maker;
mod public;
mod telemetry;
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

pub use self::application::{Application, FileApplication};
pub use self::maker::{FileMaker, Maker};
pub use self::public::{FilePublic, FilePublicTls, OnboardingPublic, PublicTls};
pub use self::telemetry::{FileTelemetry, RESEND_SECONDS, Telemetry};
pub use self::tokens::{FileTokens, TOKEN_KEY_BYTES, Tokens};
use super::Env;
use super::client_tls::{ClientTls, FileClientTls};
use super::duration::{HOUR, MINUTE, SECOND};
use super::error::{ConfigError, Problems};
use super::section::Section;
use super::tls::Tls;

/// `onboarding`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileOnboarding {
    /// The application's domain.
    pub domain: Option<String>,
    /// PEM private key.
    pub key_file: Option<String>,
    /// The listener for everybody.
    pub public: Option<FilePublic>,
    /// Parts of the world in which the application is registered.
    pub regions: Option<Vec<String>>,
    /// Who we are to the vehicle maker.
    pub application: Option<FileApplication>,
    /// Where its services are.
    pub maker: Option<FileMaker>,
    /// Owners' tokens.
    pub tokens: Option<FileTokens>,
    /// What vehicles are told to send.
    pub telemetry: Option<FileTelemetry>,
    /// TLS towards others.
    pub tls: Option<FileClientTls>,
    /// How often an owner's consent is looked at.
    pub refresh: Option<Duration>,
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
    /// Who we are to the vehicle maker; `None`: it is not asked anything.
    pub application: Option<Application>,
    /// Where its services are.
    pub maker: Maker,
    /// Where owners' tokens are kept; `None`: nowhere.
    pub tokens: Option<Tokens>,
    /// What vehicles are told to send; `None`: that is said elsewhere.
    pub telemetry: Option<Telemetry>,
    /// Whom to trust when others are asked.
    pub tls: ClientTls,
    /// How often an owner's tokens are refreshed, to see what he allows.
    pub refresh: Duration,
    /// How long an answer of others is waited for.
    pub timeout: Duration,
}

impl FileOnboarding {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            domain: section.value("domain"),
            key_file: section.value("key_file"),
            public: section.object("public", FilePublic::read),
            regions: section.value("regions"),
            application: section.object("application", FileApplication::read),
            maker: section.object("maker", FileMaker::read),
            tokens: section.object("tokens", FileTokens::read),
            telemetry: section.object("telemetry", FileTelemetry::read),
            tls: section.object("tls", FileClientTls::read),
            refresh: section.duration("refresh"),
            timeout: section.duration("timeout"),
        }
    }
}

/// `server` is the section `tls`, whose certificate the public listener may share.
pub(super) fn resolve(section: &FileOnboarding, server: &Tls, env: &Env, problems: &mut Problems) -> Onboarding {
    let remedy = "give the file of the application's private key; `fleet-telemetry keys new FILE` makes one";
    let key_file = required("onboarding.key_file", section.key_file.as_deref(), remedy, problems);
    let domain = domain(section.domain.as_deref(), problems);
    let application = section.application.as_ref();
    Onboarding {
        application: application.map(|section| application::resolve(section, &domain, env, problems)),
        maker: maker::resolve(
            section.maker.as_ref().unwrap_or(&FileMaker::default()),
            section.regions.as_deref(),
            problems,
        ),
        tokens: section.tokens.as_ref().map(|section| tokens::resolve(section, env, problems)),
        telemetry: section.telemetry.as_ref().map(|section| telemetry::resolve(section, problems)),
        domain,
        key_file,
        public: section.public.as_ref().and_then(|public| public::resolve(public, server, problems)),
        tls: section.tls.clone().unwrap_or_default().resolve("onboarding.tls", problems),
        // A withdrawal is seen that late at the most; the maker does not bill it.
        refresh: problems.duration("onboarding.refresh", section.refresh, SECOND..=6 * HOUR, 15 * MINUTE),
        // The maker's signing proxy waits so long.
        timeout: problems.duration("onboarding.timeout", section.timeout, SECOND..=120 * SECOND, 10 * SECOND),
    }
}

fn required<T: From<String>>(
    key: &'static str,
    value: Option<&str>,
    remedy: &'static str,
    problems: &mut Problems,
) -> T {
    if value.is_none_or(str::is_empty) {
        problems.error(ConfigError::Missing { key, remedy });
    }
    T::from(value.unwrap_or_default().to_owned())
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

    const SECRETS: &str =
        r#""application": {"client_id": "id", "client_secret": "hidden-secret"}, "tokens": {"key": "KEY"}"#;

    #[test]
    fn the_makers_addresses_follow_the_regions_and_can_be_others() {
        let section = |more: &str| {
            let secrets = SECRETS.replace("KEY", &"7f".repeat(32));
            let text = format!(r#"{{"domain": "example.com", "key_file": "k", {secrets}, {more}}}"#);
            load(&text).map(|config| config.onboarding.unwrap())
        };
        let default = section(r#""regions": null"#).unwrap();
        assert_eq!(default.maker.api_urls, ["https://fleet-api.prd.na.vn.cloud.tesla.com"]);
        assert_eq!(default.application.as_ref().unwrap().redirect_uri, "https://example.com/callback");
        let both = section(r#""regions": ["eu", "na"]"#).unwrap().maker;
        assert_eq!((both.api_urls.len(), both.api_urls[0].contains(".eu.")), (2, true));
        let china = section(r#""regions": ["cn"]"#).unwrap().maker;
        assert_eq!(china.token_url, "https://auth.tesla.cn/oauth2/v3/token");
        let here =
            section(r#""maker": {"token_url": "http://127.0.0.1:1/token", "api_urls": ["https://localhost:2/"]}"#);
        let here = here.unwrap().maker;
        assert_eq!((here.token_url.as_str(), &*here.api_urls[0]), ("http://127.0.0.1:1/token", "https://localhost:2"));
        for (bad, expected) in [
            (r#""regions": ["us"]"#, "onboarding.regions[0]: unknown value \"us\", allowed are na, eu, cn"),
            (r#""regions": ["na", "cn"]"#, "onboarding.regions: unknown value \"na, cn\""),
            (r#""maker": {"token_url": "http://example.com/token"}"#, "onboarding.maker.token_url: unknown value"),
        ] {
            let found = section(bad).unwrap_err();
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
        let shown = format!("{default:?}");
        assert!(!shown.contains("hidden-secret") && !shown.contains("7f7f"), "{shown}");
    }

    #[test]
    fn secrets_are_required_where_they_are_used() {
        let found = load(r#"{"domain": "example.com", "key_file": "k", "application": {}, "tokens": {"key": "abc"}}"#);
        let found = found.unwrap_err();
        for (found, begin) in found.iter().zip([
            "onboarding.application.client_id: missing; the vehicle maker's developer portal has it",
            "onboarding.application.client_secret: missing; give it as",
            "onboarding.tokens.key: must be 64 hexadecimal digits",
        ]) {
            assert!(found.starts_with(begin), "{found}, not {begin}");
        }
        assert_eq!(found.len(), 3, "{found:?}");
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
