//! Tokens: of owners, from a code or from the one before; and what an access token says of itself.

use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApiError, FleetApi};
use crate::config::Secret;

/// An owner's tokens. A refresh token works once (and the last one again for a day): whoever has used it must keep the
/// new one before anything else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerTokens {
    /// For calls, some hours.
    pub access: String,
    /// For the next tokens, three months.
    pub refresh: String,
}

/// What an access token says, as far as it is used. Read without checking the signature: it came from the maker over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The owner, always the same.
    pub sub: String,
    /// What the owner has allowed.
    #[serde(default, deserialize_with = "words")]
    pub scp: Vec<String>,
    /// Base addresses of the API where it works.
    #[serde(default, deserialize_with = "words")]
    pub aud: Vec<String>,
    /// Issued, seconds since the epoch.
    #[serde(default)]
    pub iat: i64,
    /// Ends, seconds since the epoch.
    #[serde(default)]
    pub exp: i64,
}

impl fmt::Debug for OwnerTokens {
    /// Without them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerTokens(..)")
    }
}

impl Claims {
    /// Of a token's own text.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(token: &str) -> Result<Self, ApiError> {
        let unexpected = ApiError::Unexpected { what: "an access token that is no JWT" };
        let payload = token.split('.').nth(1).and_then(|part| BASE64URL_NOPAD.decode(part.as_bytes()).ok());
        payload.and_then(|payload| serde_json::from_slice(&payload).ok()).ok_or(unexpected)
    }
}

/// A list, or one text with blanks.
fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::List(list) => list,
        Words::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
    })
}

impl FleetApi {
    /// The tokens that a code of the maker's page is good for. `verifier` is that of the link (PKCE).
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn exchange(&self, code: &str, verifier: &str) -> Result<OwnerTokens, ApiError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", self.application.client_id.as_str()),
            ("client_secret", self.application.client_secret.expose()),
            ("code", code),
            ("redirect_uri", self.application.redirect_uri.as_str()),
            ("audience", &self.maker.api_urls[0]),
            ("code_verifier", verifier),
        ];
        owner(&self.token(&form).await?)
    }

    /// The next tokens.
    ///
    /// # Errors
    /// [`ApiError::Reauthorize`] when the owner has to consent again; what passes is never that.
    pub async fn refresh(&self, refresh: &str) -> Result<OwnerTokens, ApiError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", self.application.client_id.as_str()),
            ("refresh_token", refresh),
        ];
        owner(&self.token(&form).await?)
    }

    /// A token for the application's own business at `base`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn partner_token(&self, base: &str) -> Result<Secret, ApiError> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", self.application.client_id.as_str()),
            ("client_secret", self.application.client_secret.expose()),
            ("audience", base),
        ];
        let answer = self.token(&form).await?;
        let token = answer.get("access_token").and_then(Value::as_str);
        token.map(Secret::from).ok_or(ApiError::Unexpected { what: "an answer without access_token" })
    }

    async fn token(&self, form: &[(&str, &str)]) -> Result<Value, ApiError> {
        let request = Request::post(&self.maker.token_url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = self.web.send(request, Bytes::from(encode(form))).await?;
        if !answer.status.is_success() {
            return Err(ApiError::of(&answer));
        }
        serde_json::from_slice(&answer.body).map_err(|_| ApiError::not_json(&answer))
    }
}

fn owner(answer: &Value) -> Result<OwnerTokens, ApiError> {
    let text = |member: &str| answer.get(member).and_then(Value::as_str).map(str::to_owned);
    match (text("access_token"), text("refresh_token")) {
        (Some(access), Some(refresh)) => Ok(OwnerTokens { access, refresh }),
        _ => Err(ApiError::Unexpected { what: "an answer without access_token and refresh_token" }),
    }
}

/// `application/x-www-form-urlencoded`, which a query is as well.
pub(in crate::onboarding) fn encode(form: &[(&str, &str)]) -> String {
    let pairs = form.iter().map(|(key, value)| format!("{}={}", percent(key), percent(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded_whatever_is_in_them() {
        assert_eq!(encode(&[("a", "b c&d=é"), ("x", "https://h/")]), "a=b%20c%26d%3D%C3%A9&x=https%3A%2F%2Fh%2F");
    }

    #[test]
    fn claims_are_lists_or_texts_with_blanks() {
        let token = |payload: &str| format!("h.{}.s", BASE64URL_NOPAD.encode(payload.as_bytes()));
        let list =
            Claims::read(&token(r#"{"sub":"s","scp":["openid","vehicle_location"],"aud":["a"],"exp":9}"#)).unwrap();
        let text = Claims::read(&token(r#"{"sub":"s","scp":"openid vehicle_location","aud":"a","exp":9}"#)).unwrap();
        assert_eq!(list, text);
        for bad in ["", "a.b", "a.!.c", &token("[]"), &token("{}")] {
            assert!(Claims::read(bad).is_err(), "{bad}");
        }
    }
}
