//! The key files of CURVE: JSON with keys in Z85.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use omq_tokio::{CurveKeypair, CurvePublicKey, CurveSecretKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::Curve;

/// What the files hold.
pub(super) struct Keys {
    pub(super) server: CurveKeypair,
    /// Whoever may subscribe.
    pub(super) allowed: HashSet<[u8; 32]>,
}

/// Why a file cannot be used. Without what it holds.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("{key}: {}: {source}", path.display())]
    Unreadable { key: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{key}: {}: not {expected}", path.display())]
    Json { key: &'static str, path: PathBuf, expected: &'static str },
    #[error("{key}: {}: {which} is not a key of 40 characters in Z85", path.display())]
    Key { key: &'static str, path: PathBuf, which: String },
}

/// `public` is not needed, as it follows from the secret one.
#[derive(Deserialize)]
struct ServerFile {
    secret: String,
}

const SERVER: &str = "zmq.server_key_json_path";
const ALLOWED: &str = "zmq.allowed_public_keys_json_path";

impl Keys {
    /// Blocks while the file system does.
    pub(super) fn read(curve: &Curve) -> Result<Self, KeyError> {
        let path = &curve.server_key;
        let file: ServerFile = json(SERVER, path, "an object with a text \"secret\"")?;
        let secret = CurveSecretKey::from_z85(&file.secret);
        let secret =
            secret.map_err(|_| KeyError::Key { key: SERVER, path: path.clone(), which: "secret".to_owned() })?;
        let server = CurveKeypair { public: secret.derive_public(), secret };
        let path = &curve.allowed_keys;
        let keys: Vec<String> = json(ALLOWED, path, "a list of texts")?;
        let allowed = keys.iter().enumerate().map(|(at, text)| {
            let key = CurvePublicKey::from_z85(text).map(|key| *key.as_bytes());
            key.map_err(|_| KeyError::Key { key: ALLOWED, path: path.clone(), which: format!("entry {}", at + 1) })
        });
        Ok(Self { server, allowed: allowed.collect::<Result<_, _>>()? })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("allowed", &self.allowed.len()).finish_non_exhaustive()
    }
}

fn json<T: DeserializeOwned>(key: &'static str, path: &Path, expected: &'static str) -> Result<T, KeyError> {
    let bytes = std::fs::read(path).map_err(|source| KeyError::Unreadable { key, path: path.to_owned(), source })?;
    // What serde says could show a part of the file.
    serde_json::from_slice(&bytes).map_err(|_| KeyError::Json { key, path: path.to_owned(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_the_reference_server() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (pair, client) = (CurveKeypair::generate(), CurveKeypair::generate());
        let server_key =
            file("server", &serde_json::json!({ "secret": pair.secret.to_z85(), "public": "unused" }).to_string());
        let allowed_keys = file("allowed", &serde_json::json!([client.public.to_z85()]).to_string());
        let keys = Keys::read(&Curve { server_key: server_key.clone(), allowed_keys: allowed_keys.clone() }).unwrap();
        assert_eq!(keys.server.public, pair.public);
        assert!(keys.allowed.contains(client.public.as_bytes()) && keys.allowed.len() == 1);

        let secret = pair.secret.to_z85();
        for (server, allowed, expected) in [
            (dir.path().join("nowhere"), allowed_keys.clone(), "zmq.server_key_json_path: "),
            (file("text", &secret), allowed_keys.clone(), "not an object with a text \"secret\""),
            (
                file("short", r#"{"secret": "short"}"#),
                allowed_keys.clone(),
                "secret is not a key of 40 characters in Z85",
            ),
            (server_key.clone(), file("odd", r#"["x"]"#), "entry 1 is not a key of 40 characters"),
            (server_key, file("object", "{}"), "not a list of texts"),
        ] {
            let error = Keys::read(&Curve { server_key: server, allowed_keys: allowed }).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains(&secret), "{error}, not {expected}");
        }
    }
}
