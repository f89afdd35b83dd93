//! The key that vehicles know an application by. Its public half is served to everybody; its private half signs
//! configurations. A domain has one at a time, and every owner pairs with it, so it is never overwritten.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use p256::pkcs8::{EncodePublicKey, LineEnding};
use p256::{PublicKey, SecretKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use sha2::{Digest, Sha256};

use super::schnorr::{self, POINT_BYTES};

/// A private key, and what is public of it.
#[derive(Clone)]
pub struct FleetKey {
    secret: SecretKey,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds no private key.
    #[error("{}: no private key in PEM (`EC PRIVATE KEY` or `PRIVATE KEY`): {source}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// It holds a key of another kind.
    #[error(
        "{}: not a key on the curve P-256 (prime256v1), the only kind that vehicles take; `fleet-telemetry keys new` makes \
         one",
        path.display()
    )]
    Kind {
        /// Which.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("{}: mode {mode:03o} lets others read it; `chmod 600` it", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Of the file.
        mode: u32,
    },
    /// There is a file already.
    #[error(
        "{}: exists, and is never overwritten: with another key every owner would have to pair again; give another file",
        path.display()
    )]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

impl FleetKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        loop {
            let mut bytes = [0; 32];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
            // One in 2^32 is zero, or not below the order of the group.
            if let Ok(secret) = SecretKey::from_slice(&bytes) {
                return Ok(Self { secret });
            }
        }
    }

    /// The first key of a PEM file, SEC1 or PKCS8.
    ///
    /// # Errors
    /// [`KeyError`] names the file.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
        let der =
            PrivateKeyDer::from_pem_slice(&text).map_err(|source| KeyError::Pem { path: path.to_owned(), source })?;
        let secret = match &der {
            PrivateKeyDer::Sec1(der) => SecretKey::from_sec1_der(der.secret_sec1_der()).ok(),
            PrivateKeyDer::Pkcs8(der) => p256::pkcs8::DecodePrivateKey::from_pkcs8_der(der.secret_pkcs8_der()).ok(),
            _ => None,
        };
        secret.map(|secret| Self { secret }).ok_or_else(|| KeyError::Kind { path: path.to_owned() })
    }

    /// As [`Self::read`], of a file that only its owner and his group may read.
    ///
    /// # Errors
    /// [`KeyError`] names the file.
    pub fn read_private(path: &Path) -> Result<Self, KeyError> {
        let mode = fs::metadata(path).map(|file| file.mode() & 0o777);
        match mode {
            Ok(mode) if mode & 0o007 != 0 => Err(KeyError::Exposed { path: path.to_owned(), mode }),
            _ => Self::read(path),
        }
    }

    /// Writes the private half to a file that is not there yet, for its owner alone.
    ///
    /// # Errors
    /// [`KeyError`] names the file.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let pem = self.secret.to_sec1_pem(LineEnding::LF).map_err(|_| KeyError::Kind { path: path.to_owned() })?;
        create(path, 0o600, pem.as_bytes())
    }

    /// Writes the public half to a file that is not there yet.
    ///
    /// # Errors
    /// [`KeyError`] names the file.
    pub fn write_public(&self, path: &Path) -> Result<(), KeyError> {
        create(path, 0o644, self.public_pem().as_bytes())
    }

    /// The public half, as it is served.
    ///
    /// # Panics
    /// Never: a point on the curve has its form.
    #[must_use]
    pub fn public_pem(&self) -> String {
        self.public().to_public_key_pem(LineEnding::LF).expect("a point has its form")
    }

    /// The point, uncompressed.
    #[must_use]
    pub fn point(&self) -> [u8; POINT_BYTES] {
        schnorr::encode(&self.public().to_projective())
    }

    /// What people compare.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.public())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.secret.public_key()
    }

    pub(super) fn secret(&self) -> &SecretKey {
        &self.secret
    }
}

/// SHA-256 of the public key's DER (SubjectPublicKeyInfo), in lower-case hexadecimal: what
/// `openssl pkey -pubin -outform DER | sha256sum` says.
///
/// # Panics
/// Never: a point on the curve has its form.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    let der = key.to_public_key_der().expect("a point has its form");
    HEXLOWER.encode(&Sha256::digest(der.as_bytes()))
}

impl fmt::Debug for FleetKey {
    /// Without its private half.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetKey").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

fn create(path: &Path, mode: u32, contents: &[u8]) -> Result<(), KeyError> {
    let unwritable = |source| KeyError::Unwritable { path: path.to_owned(), source };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyError::Exists { path: path.to_owned() });
        }
        Err(error) => return Err(unwritable(error)),
    };
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_after_it_was_written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let key = FleetKey::generate().unwrap();
        key.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
        assert_eq!(FleetKey::read_private(&path).unwrap().point(), key.point());
        let again = key.write(&path).unwrap_err().to_string();
        assert!(again.contains("exists, and is never overwritten"), "{again}");
    }

    #[test]
    fn keys_of_others_are_read_and_other_kinds_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let pkcs8 = rcgen::KeyPair::generate().unwrap();
        fs::write(&path, pkcs8.serialize_pem()).unwrap();
        let key = FleetKey::read(&path).unwrap();
        assert_eq!(key.public_pem(), pkcs8.public_key_pem().replace("\r\n", "\n"));

        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        fs::write(&path, other.serialize_pem()).unwrap();
        assert!(matches!(FleetKey::read(&path), Err(KeyError::Kind { .. })));
        fs::write(&path, "nothing").unwrap();
        assert!(matches!(FleetKey::read(&path), Err(KeyError::Pem { .. })));
        assert!(matches!(FleetKey::read(&dir.path().join("none")), Err(KeyError::Unreadable { .. })));
    }

    #[test]
    fn a_key_that_everybody_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        FleetKey::generate().unwrap().write(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = FleetKey::read_private(&path).unwrap_err().to_string();
        assert!(error.contains("mode 644 lets others read it"), "{error}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let key = FleetKey::generate().unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains(&key.fingerprint()), "{shown}");
        assert!(!shown.contains(&HEXLOWER.encode(&key.secret.to_bytes())), "{shown}");
    }
}
