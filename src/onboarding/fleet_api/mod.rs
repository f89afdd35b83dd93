//! The vehicle maker's API, as an application sees it: tokens, registration, vehicles, configurations.
//!
//! Errors are told apart by what a person can do about them ([`ApiError`]). A token is sent only to hosts that the
//! configuration names or allows, whatever an answer says.

mod answers;
mod error;
mod partner;
mod tokens;
mod vehicles;

use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use hyper::http::Method;
use serde_json::Value;

pub use self::answers::{CurrentConfig, FleetStatus, Pairing, Pushed, Skipped, Vehicle, VehicleError};
pub use self::error::ApiError;
pub use self::partner::Registered;
pub(in crate::onboarding) use self::tokens::encode;
pub use self::tokens::{Claims, OwnerTokens};
use super::web::{Answer, Web};
use crate::backoff::Backoff;
use crate::config::{Application, Maker, Onboarding};

/// Of one request: the first, and two more when the other side has a bad moment.
const ATTEMPTS: u32 = 3;
/// Before the second attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A longer wait than this is left to the caller.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Asks the maker.
#[derive(Clone, Debug)]
pub struct FleetApi {
    web: Web,
    application: Application,
    maker: Maker,
}

impl FleetApi {
    /// `None` without the section `onboarding.application`.
    #[must_use]
    pub fn new(section: &Onboarding, web: Web) -> Option<Self> {
        let application = section.application.clone()?;
        Some(Self { web, application, maker: section.maker.clone() })
    }

    /// Where the maker's services are.
    #[must_use]
    pub fn maker(&self) -> &Maker {
        &self.maker
    }

    /// Who we are to the maker.
    #[must_use]
    pub fn application(&self) -> &Application {
        &self.application
    }

    /// One call with a token: the member `response` of the answer. As [`Self::whole`].
    async fn call(
        &self,
        method: Method,
        base: &mut String,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let mut answer = self.whole(method, base, path, token, body).await?;
        match answer.get_mut("response").map(Value::take) {
            Some(response) if !response.is_null() => Ok(response),
            _ => Err(ApiError::Unexpected { what: "an answer without \"response\"" }),
        }
    }

    /// One call with a token. A bad moment of the other side (5xx, 429 with a short wait, no answer) is waited out.
    ///
    /// `base` follows the owner when the maker says that he belongs to another region.
    async fn whole(
        &self,
        method: Method,
        base: &mut String,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut has_moved = false;
        let mut attempt = 1;
        loop {
            let error = match self.once(&method, base, path, token, body).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match &error {
                ApiError::OtherRegion { base: other } if !has_moved => {
                    base.clone_from(&self.allowed(other)?);
                    has_moved = true;
                }
                _ if attempt < ATTEMPTS && error.is_passing() => {
                    let pause = error.retry_after().unwrap_or_else(|| backoff.delay());
                    if pause > LONGEST_PAUSE {
                        return Err(error);
                    }
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                _ => return Err(error),
            }
        }
    }

    async fn once(
        &self,
        method: &Method,
        base: &str,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let answer = self.web.send(request, body).await?;
        read(&answer)
    }

    /// `base` if a token may be sent there. What an answer says is not enough for that.
    fn allowed(&self, base: &str) -> Result<String, ApiError> {
        let base = base.trim_end_matches('/');
        if self.maker.api_urls.iter().any(|url| url == base) {
            return Ok(base.to_owned());
        }
        let uri = base.parse::<hyper::Uri>().ok();
        let is_bare = |uri: &hyper::Uri| uri.path() == "/" && uri.query().is_none() && uri.port().is_none();
        let host =
            uri.as_ref().filter(|uri| uri.scheme_str() == Some("https") && is_bare(uri)).and_then(hyper::Uri::host);
        let is_theirs = |host: &str| {
            let host = host.to_ascii_lowercase();
            host.starts_with("fleet-api.") && self.maker.host_suffixes.iter().any(|suffix| host.ends_with(suffix))
        };
        let is_plain = !base.contains('@');
        if is_plain && host.is_some_and(is_theirs) {
            Ok(base.to_owned())
        } else {
            Err(ApiError::ForeignHost { named: crate::escape::escape(base.as_bytes(), 200) })
        }
    }
}

/// A good answer's JSON.
fn read(answer: &Answer) -> Result<Value, ApiError> {
    if !answer.status.is_success() {
        return Err(ApiError::of(answer));
    }
    serde_json::from_slice(&answer.body).map_err(|_| ApiError::not_json(answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, file::FileConfig, resolve};

    fn api() -> FleetApi {
        let text = r#"{"port": 443, "tls": {"server_cert": "b", "server_key": "c"}, "records": {"V": ["logger"]},
            "onboarding": {"domain": "example.com", "key_file": "k", "application": {"client_id": "i", "client_secret": "s"},
                           "maker": {"api_urls": ["https://localhost:8443"]}}}"#;
        let (config, _) = resolve(FileConfig::parse(text.as_bytes()).unwrap(), &Env::default()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let web = Web::new(std::sync::Arc::new(tls), Duration::from_secs(1));
        FleetApi::new(&config.onboarding.unwrap(), web).unwrap()
    }

    #[test]
    fn a_token_goes_to_the_makers_hosts_alone() {
        let api = api();
        for good in [
            "https://localhost:8443/",
            "https://fleet-api.prd.eu.vn.cloud.tesla.com",
            "https://fleet-api.prd.cn.vn.cloud.tesla.cn/",
        ] {
            assert_eq!(api.allowed(good).unwrap(), good.trim_end_matches('/'));
        }
        for bad in [
            "https://fleet-api.example.com",
            "http://fleet-api.prd.eu.vn.cloud.tesla.com",
            "https://fleet-api.prd.eu.vn.cloud.tesla.com.example.com",
            "https://fleet-api.eviltesla.com",
            "https://fleet-api.tesla.com@example.com",
            "https://fleet-api.prd.eu.vn.cloud.tesla.com:8443",
            "https://fleet-api.prd.eu.vn.cloud.tesla.com/path",
            "https://www.tesla.com",
            "",
        ] {
            assert!(matches!(api.allowed(bad), Err(ApiError::ForeignHost { .. })), "{bad}");
        }
    }
}
