//! A signed configuration: `base64url(header).base64url(payload).base64url(signature)`. The payload is the
//! configuration itself with two claims more: who signed it, and what it is for.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use p256::PublicKey;
use serde_json::{Map, Value};

use super::key::FleetKey;
use super::schnorr::{self, SignatureError};

/// What a configuration of streaming is for.
pub const AUDIENCE: &str = "com.tesla.fleet.TelemetryClient";

const HEADER: &str = r#"{"alg":"Tesla.SS256","typ":"JWT"}"#;

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url, or no JSON inside.
    #[error("not a token: {0}")]
    Malformed(&'static str),
    /// Another way of signing.
    #[error("its header is not {HEADER}")]
    Header,
    /// `iss` is no point on the curve.
    #[error("its \"iss\" is not the base64 of a point on the curve P-256")]
    Issuer,
    /// The signature.
    #[error("its signature: {0}")]
    Signature(#[from] SignatureError),
}

/// What a good token says.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who signed it.
    pub issuer: PublicKey,
    /// Configuration and claims.
    pub payload: Map<String, Value>,
}

/// Signs `config`. Whatever it says of `iss` and `aud` is replaced.
///
/// The keys of the payload are sorted at every level, so the same configuration always gives the same token.
#[must_use]
pub fn sign(key: &FleetKey, config: &Map<String, Value>) -> String {
    let mut payload = config.clone();
    payload.insert("iss".to_owned(), BASE64.encode(&key.point()).into());
    payload.insert("aud".to_owned(), AUDIENCE.into());
    // The map of serde_json is sorted, as no feature of it says otherwise.
    let payload = Value::Object(payload).to_string();
    let message =
        format!("{}.{}", BASE64URL_NOPAD.encode(HEADER.as_bytes()), BASE64URL_NOPAD.encode(payload.as_bytes()));
    let signature = schnorr::sign(key.secret(), message.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// Checks a token against the key that it names itself; whose that is, is up to the caller.
///
/// # Errors
/// [`TokenError`].
pub fn verify(token: &str) -> Result<Verified, TokenError> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("it has no dot"))?;
    let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed("it has fewer than three parts"))?;
    if !is_header(&json(header)?) {
        return Err(TokenError::Header);
    }
    let Value::Object(payload) = json(payload)? else { return Err(TokenError::Malformed("its payload is no object")) };
    let issuer = payload.get("iss").and_then(Value::as_str).and_then(issuer).ok_or(TokenError::Issuer)?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes());
    let signature = signature.map_err(|_| TokenError::Malformed("its signature is not base64url"))?;
    schnorr::verify(&issuer, message.as_bytes(), &signature)?;
    Ok(Verified { issuer, payload })
}

/// The key that an `iss` names.
#[must_use]
pub fn issuer(text: &str) -> Option<PublicKey> {
    let point = BASE64.decode(text.as_bytes()).ok().filter(|point| point.len() == schnorr::POINT_BYTES)?;
    PublicKey::from_sec1_bytes(&point).ok()
}

fn json(part: &str) -> Result<Value, TokenError> {
    let bytes =
        BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| TokenError::Malformed("a part is not base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed("a part is not JSON"))
}

fn is_header(header: &Value) -> bool {
    serde_json::from_str::<Value>(HEADER).is_ok_and(|expected| *header == expected)
}

#[cfg(test)]
mod tests {
    use p256::SecretKey;
    use p256::pkcs8::{EncodePrivateKey, LineEnding};

    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/onboarding/vectors.json")).unwrap()
    }

    fn key(vectors: &Value) -> FleetKey {
        let secret =
            data_encoding::HEXLOWER.decode(vectors["private_scalar_hex"].as_str().unwrap().as_bytes()).unwrap();
        let pem = SecretKey::from_slice(&secret).unwrap().to_pkcs8_pem(LineEnding::LF).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem.as_bytes()).unwrap();
        FleetKey::read(file.path()).unwrap()
    }

    #[test]
    fn signatures_are_those_of_the_vehicle_makers_proxy_to_the_byte() {
        let vectors = vectors();
        let key = key(&vectors);
        let accepted = vectors["accept"].as_array().unwrap();
        assert_eq!(accepted.len(), 3);
        for vector in accepted {
            let token = vector["token"].as_str().unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let ours = schnorr::sign(key.secret(), message.as_bytes());
            assert_eq!(BASE64URL_NOPAD.encode(&ours), signature, "{}", vector["name"]);
            assert_eq!(verify(token).unwrap().issuer, key.public());
        }
    }

    #[test]
    fn a_whole_token_is_the_proxys_where_its_numbers_are_written_alike() {
        let vectors = vectors();
        let key = key(&vectors);
        let realistic = &vectors["accept"][0];
        let payload: Map<String, Value> = serde_json::from_str(realistic["payload"].as_str().unwrap()).unwrap();
        assert_eq!(sign(&key, &payload), realistic["token"].as_str().unwrap());
    }

    #[test]
    fn tokens_that_are_wrong_in_one_thing_are_refused() {
        let vectors = vectors();
        let refused = vectors["reject"].as_array().unwrap();
        assert_eq!(refused.len(), 9);
        for vector in refused {
            assert!(verify(vector["token"].as_str().unwrap()).is_err(), "{}", vector["name"]);
        }
        for text in ["", "a", "a.b", "a.b.c", "....", "e30.e30.AAAA"] {
            assert!(verify(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn who_signed_it_is_not_up_to_the_caller() {
        let key = FleetKey::generate().unwrap();
        let config = serde_json::json!({"hostname": "h", "iss": "mine", "aud": ["x"]});
        let verified = verify(&sign(&key, config.as_object().unwrap())).unwrap();
        assert_eq!(verified.issuer, key.public());
        assert_eq!(verified.payload["aud"], AUDIENCE);
    }
}
