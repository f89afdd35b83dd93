//! Who may call.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Extension, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use data_encoding::HEXLOWER;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Api;
use super::refusal::Refusal;
use super::tls;
use crate::config::{self, ApiToken, TokenError};
use crate::escape::escape;
use crate::grants::Actor;
use crate::tls::{Tls, TlsError};

/// How callers prove that they may: by the token, by a verified client certificate, or by either.
#[derive(Debug)]
pub struct Auth {
    token: Option<Token>,
    /// `None`: plain HTTP; for the loopback interface, or behind a proxy.
    pub(super) tls: Option<Arc<Tls>>,
}

/// Why nobody could call.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It protects nothing, or cannot be sent.
    #[error("{key}: {error}")]
    Token {
        /// The key that it comes from.
        key: &'static str,
        /// What is wrong with it.
        error: TokenError,
    },
    /// The file of the token cannot be read.
    #[error("permissions.api.token_file: {path}: {source}")]
    UnreadableToken {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No caller could prove anything.
    #[error("permissions.api: neither a token nor tls.client_ca lets anybody in")]
    NoWayIn,
}

impl Auth {
    /// Reads the files that the section names.
    ///
    /// # Errors
    /// [`AuthError`] names the key and the file.
    pub fn open(section: &config::PermissionsApi) -> Result<Self, AuthError> {
        let token = section.token.as_ref().map(Token::of).transpose()?;
        if token.is_none() && section.tls.as_ref().is_none_or(|files| files.client_ca.is_none()) {
            return Err(AuthError::NoWayIn);
        }
        let tls = section.tls.as_ref().map(|files| tls::load(files, token.is_some())).transpose()?;
        Ok(Self { token, tls: tls.map(Arc::new) })
    }

    /// Everything that would keep [`Self::open`] from using the section.
    #[must_use]
    pub fn problems(section: &config::PermissionsApi) -> Vec<AuthError> {
        let token = section.token.as_ref().and_then(|token| Token::of(token).err());
        let files = section.tls.as_ref().map(|files| Tls::problems(&tls::of(files, section.token.is_some())));
        token.into_iter().chain(files.into_iter().flatten().map(AuthError::Tls)).collect()
    }

    /// What is to be kept in step with its files.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }
}

/// A bearer token. Only its digest is kept, so that it can be neither printed nor compared byte by byte.
pub struct Token([u8; 32]);

impl Token {
    /// # Errors
    /// [`TokenError`].
    pub fn new(token: &str) -> Result<Self, TokenError> {
        config::check_token(token)?;
        Ok(Self(Sha256::digest(token).into()))
    }

    /// The contents of a file, without white space around them.
    ///
    /// # Errors
    /// [`AuthError::UnreadableToken`], [`AuthError::Token`].
    pub fn read(path: &Path) -> Result<Self, AuthError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| AuthError::UnreadableToken { path: path.to_owned(), source })?;
        Self::new(text.trim()).map_err(|error| AuthError::Token { key: "permissions.api.token_file", error })
    }

    fn of(source: &ApiToken) -> Result<Self, AuthError> {
        match source {
            ApiToken::Inline(token) => {
                Self::new(token).map_err(|error| AuthError::Token { key: "permissions.api.token", error })
            }
            ApiToken::File(path) => Self::read(path),
        }
    }

    /// In constant time, whatever the length.
    fn is(&self, token: &str) -> bool {
        verify_slices_are_equal(&self.0, Sha256::digest(token).as_slice()).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Of its verified certificate.
    pub(super) name: Option<String>,
}

/// Longest name of a certificate that is kept, in bytes.
const NAME_BYTES: usize = 200;

/// What the audit calls the holder of a verified certificate: its common name, or else its fingerprint.
pub(super) fn name(leaf: &CertificateDer<'_>) -> String {
    let common_name = X509Certificate::from_der(leaf).ok().and_then(|(_, certificate)| {
        let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.trim();
        (!name.is_empty()).then(|| escape(name.as_bytes(), NAME_BYTES))
    });
    common_name.unwrap_or_else(|| format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(leaf))))
}

/// Lets a request through with the [`Actor`] behind it, or refuses it before its body is read.
pub(super) async fn authorize(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let by_token = || {
        let (token, sent) = (api.auth.token.as_ref()?, bearer(request.headers())?);
        token.is(sent).then(|| "token".to_owned())
    };
    let Some(who) = peer.name.or_else(by_token) else {
        if let Some(skipped) = api.unauthorized.permit() {
            tracing::warn!(peer = %peer.address, skipped, "permissions_api_unauthorized");
        }
        return Err(Refusal::unauthorized());
    };
    request.extensions_mut().insert(Actor { who, from: peer.address.to_string() });
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_token_that_could_be_guessed_is_refused() {
        for token in ["", "short", "fifteen-letters"] {
            assert!(matches!(Token::new(token), Err(TokenError::Short { length }) if length == token.len()));
        }
        assert!(Token::new("sixteen--letters").is_ok());
        assert!(matches!(Token::new("sixteen  letters"), Err(TokenError::Unsendable)));
        assert!(matches!(Token::new("sixteen\u{e9}letters.."), Err(TokenError::Unsendable)));
    }

    #[test]
    fn only_the_whole_token_is_accepted_and_it_is_never_shown() {
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is("0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF"] {
            assert!(!token.is(other), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn a_token_file_may_end_with_a_line_break() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0123456789abcdef\r\n").unwrap();
        assert!(Token::read(file.path()).unwrap().is("0123456789abcdef"));
        let error = Token::read(Path::new("/nowhere/token")).unwrap_err().to_string();
        assert!(error.starts_with("permissions.api.token_file: /nowhere/token"), "{error}");
    }
}
