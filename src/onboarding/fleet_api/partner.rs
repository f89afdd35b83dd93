//! The application's own business with the vehicle maker: being registered in a region, with this very key.

use data_encoding::HEXLOWER_PERMISSIVE;
use hyper::http::Method;
use p256::PublicKey;
use serde_json::{Value, json};

use super::tokens::encode;
use super::{ApiError, FleetApi};

/// What the maker has on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// Nothing for this domain.
    Not,
    /// This key.
    Key(Box<PublicKey>),
    /// Something that is no key on P-256.
    Other,
}

impl FleetApi {
    /// Registers `domain` at `base`. Harmless to repeat; the maker fetches the key again.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn register(&self, base: &str, token: &str, domain: &str) -> Result<(), ApiError> {
        let mut base = base.to_owned();
        let body = json!({"domain": domain});
        match self.call(Method::POST, &mut base, "/api/1/partner_accounts", token, Some(&body)).await {
            Ok(_) | Err(ApiError::Taken { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The key that is registered for `domain` at `base`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn registered_key(&self, base: &str, token: &str, domain: &str) -> Result<Registered, ApiError> {
        let mut base = base.to_owned();
        let path = format!("/api/1/partner_accounts/public_key?{}", encode(&[("domain", domain)]));
        let response = match self.call(Method::GET, &mut base, &path, token, None).await {
            Ok(response) => response,
            Err(ApiError::NotFound { .. } | ApiError::NotRegistered { .. }) => return Ok(Registered::Not),
            Err(error) => return Err(error),
        };
        let point = response.get("public_key").and_then(Value::as_str).unwrap_or_default();
        let point = HEXLOWER_PERMISSIVE.decode(point.as_bytes()).unwrap_or_default();
        let key = PublicKey::from_sec1_bytes(&point).map(Box::new);
        Ok(key.map_or(Registered::Other, Registered::Key))
    }
}
