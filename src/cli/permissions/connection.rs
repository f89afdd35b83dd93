//! Where the API is: from the command line, or from the server's own configuration.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Failure;
use super::client::Client;
use crate::cli::findings::Findings;
use crate::config::{self, ApiToken, Env, PermissionsApi};

#[derive(clap::Args)]
pub(super) struct Connection {
    /// Where the admin API is, such as http://127.0.0.1:8481 [default: as the configuration says].
    #[arg(long, value_name = "URL", global = true)]
    api: Option<String>,

    /// Its token. Other users of this machine can see it here: prefer the environment or a file.
    #[arg(long, value_name = "TOKEN", global = true, env = "FLEET_TELEMETRY_API_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// A file with its token.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,

    /// The server's configuration, for address and token [default: config.json, if there is one].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// For https: PEM bundle of the authority that has signed the server's certificate.
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,

    /// For https with a client certificate: PEM chain, leaf first.
    #[arg(long, value_name = "FILE", global = true, requires = "key")]
    cert: Option<PathBuf>,

    /// Its PEM private key.
    #[arg(long, value_name = "FILE", global = true, requires = "cert")]
    key: Option<PathBuf>,
}

impl fmt::Debug for Connection {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("api", &self.api).field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a URL says.
struct Place {
    is_https: bool,
    host: String,
    port: u16,
}

impl Connection {
    /// `before`: `--config` as it stood before the subcommand.
    pub(super) fn client(&self, before: Option<PathBuf>) -> Result<Client, Failure> {
        let section = self.section(before)?;
        let place = match (&self.api, &section) {
            (Some(url), _) => Place::parse(url)?,
            (None, Some(section)) => Place::of(section)?,
            (None, None) => {
                let text = "where is the admin API? Give --api http://127.0.0.1:PORT, or --config with the server's configuration";
                return Err(usage(text));
            }
        };
        let token = match (&self.token_file, &self.token, section.and_then(|section| section.token)) {
            (Some(path), ..) => Some(read(path)?),
            (None, Some(token), _) => Some(token.clone()),
            (None, None, Some(ApiToken::Inline(token))) => Some(token),
            (None, None, Some(ApiToken::File(path))) => Some(read(&path)?),
            (None, None, None) => None,
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(usage("the token has characters that no header can carry"));
        }
        let tls = if place.is_https { Some(Arc::new(self.tls()?)) } else { None };
        Ok(Client { host: place.host, port: place.port, tls, token })
    }

    /// The server's own section, if it is named, or needed and there.
    fn section(&self, before: Option<PathBuf>) -> Result<Option<PermissionsApi>, Failure> {
        let named = self.config.clone().or(before);
        let default = || Some(PathBuf::from("config.json")).filter(|path| self.api.is_none() && path.exists());
        let Some(path) = named.or_else(default) else { return Ok(None) };
        let (config, _) =
            config::load(&path, &Env::of_process()).map_err(|error| usage(Findings::of(&error).report().trim_end()))?;
        let section = config.permissions.and_then(|permissions| permissions.api);
        if section.is_none() && self.api.is_none() {
            return Err(usage(format!("{}: has no permissions.api, so the server has no admin API", path.display())));
        }
        Ok(section)
    }

    fn tls(&self) -> Result<ClientConfig, Failure> {
        let Some(ca_file) = &self.ca_file else {
            return Err(usage("https needs --ca-file: the authority that has signed the server's certificate"));
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_file)? {
            roots.add(certificate).map_err(|error| unusable(ca_file, &error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the default provider has suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots);
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else { return Ok(builder.with_no_client_auth()) };
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
        builder.with_client_auth_cert(certificates(cert)?, private).map_err(|error| unusable(cert, &error))
    }
}

impl Place {
    fn parse(url: &str) -> Result<Self, Failure> {
        let bad = || usage(format!("--api {url:?}: must be http://HOST:PORT or https://HOST:PORT"));
        let url: hyper::Uri = url.parse().map_err(|_| bad())?;
        let is_https = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let host = url.host().filter(|_| matches!(url.path(), "" | "/") && url.query().is_none()).ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Ok(Self { is_https, host, port })
    }

    /// A server that listens on all addresses is reached on the loopback one.
    fn of(section: &PermissionsApi) -> Result<Self, Failure> {
        if section.address.port() == 0 {
            return Err(usage("permissions.api.port is 0, so only the server's log tells the port; give --api"));
        }
        let host = match section.address.ip() {
            address if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            address => address,
        };
        Ok(Self { is_https: section.tls.is_some(), host: host.to_string(), port: section.address.port() })
    }
}

fn usage(text: impl Into<String>) -> Failure {
    Failure::Usage(text.into())
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> Failure {
    usage(format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| unusable(path, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_without_a_path() {
        let place = |url| Place::parse(url).map(|place| (place.is_https, place.host, place.port));
        assert_eq!(place("http://127.0.0.1:8481").unwrap(), (false, "127.0.0.1".to_owned(), 8481));
        assert_eq!(place("https://[::1]/").unwrap(), (true, "::1".to_owned(), 443));
        for url in ["", "127.0.0.1:8481", "ftp://x", "http://x/v1", "http://x?y", "http://"] {
            assert!(place(url).is_err(), "{url}");
        }
    }
}
