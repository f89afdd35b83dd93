//! Is the public key where the vehicle maker will look for it? Asked as the maker asks: one request, no redirect.

use bytes::Bytes;
use hyper::Request;
use hyper::header::LOCATION;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey;

use super::key::{self, FleetKey};
use super::web::{Web, WebError};
use crate::escape::escape;

/// Why the maker would refuse what is served.
#[derive(Debug, thiserror::Error)]
pub enum ServedError {
    /// Nothing answers.
    #[error("{0}")]
    Web(#[from] WebError),
    /// It is somewhere else.
    #[error("answers with a redirect to {to}; the maker follows none: serve the key at this very address")]
    Redirect {
        /// As sent, escaped.
        to: String,
    },
    /// It is not there.
    #[error("answers {status}, not 200; serve the file that `fleet-telemetry keys show` prints at this address")]
    Status {
        /// The answer's.
        status: u16,
    },
    /// Something else is there.
    #[error("serves no public key on P-256 in PEM (`BEGIN PUBLIC KEY`); it begins with \"{begin}\"")]
    NoKey {
        /// Of the answer, escaped.
        begin: String,
    },
    /// Another key is there.
    #[error("serves another key: {served}, ours is {ours}; serve ours, or configure the one that is served")]
    OtherKey {
        /// Its fingerprint.
        served: String,
        /// That of the private key.
        ours: String,
    },
}

/// Fetches `url` and compares what is there with `key`.
///
/// # Errors
/// [`ServedError`] says why the maker would refuse it.
pub async fn check(web: &Web, url: &str, key: &FleetKey) -> Result<(), ServedError> {
    let answer = web.send(Request::get(url), Bytes::new()).await?;
    if answer.status.is_redirection() {
        let to = answer.headers.get(LOCATION).map_or("nowhere".to_owned(), |to| escape(to.as_bytes(), 200));
        return Err(ServedError::Redirect { to });
    }
    if answer.status != 200 {
        return Err(ServedError::Status { status: answer.status.as_u16() });
    }
    let served = std::str::from_utf8(&answer.body).ok().and_then(|pem| PublicKey::from_public_key_pem(pem.trim()).ok());
    let Some(served) = served else {
        return Err(ServedError::NoKey { begin: escape(&answer.body, 40) });
    };
    if served != key.public() {
        return Err(ServedError::OtherKey { served: key::fingerprint(&served), ours: key.fingerprint() });
    }
    Ok(())
}
