//! The files that a listener's TLS is made from, and what is in them.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;
use sha2::{Digest as _, Sha256};

use super::TlsError;
use crate::config::MakerCa;

/// The files of one listener.
#[derive(Clone, Debug)]
pub struct Files {
    /// Which listener, for log lines and metric labels.
    pub listener: &'static str,
    /// PEM chain, leaf first.
    pub cert: File,
    /// PEM private key.
    pub key: File,
    /// What clients show.
    pub clients: Clients,
}

/// A path, and the configuration's key for it.
#[derive(Clone, Debug)]
pub struct File {
    /// For messages.
    pub key: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

/// Whose certificates clients show.
#[derive(Clone, Debug)]
pub enum Clients {
    /// They show none.
    Anonymous,
    /// They may show one, of an authority that is trusted.
    Optional(Trusted),
    /// They have to.
    Required(Trusted),
}

/// The authorities whose certificates let a client in.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// Of the vehicle maker's, those that are built in.
    pub maker: Option<MakerCa>,
    /// A PEM bundle of more. Not `None` without the maker's.
    pub file: Option<File>,
}

/// What the files hold at one moment. Files are judged from this, never read twice, so that what is in force is what
/// was compared.
pub(super) struct Contents {
    cert: io::Result<Vec<u8>>,
    key: io::Result<Vec<u8>>,
    authorities: Option<io::Result<Vec<u8>>>,
}

/// Tells contents apart; that a file cannot be read is contents, too.
pub(super) type Digest = [u8; 32];

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.path.display())
    }
}

impl File {
    pub(super) fn bad_pem(&self, source: pem::Error) -> TlsError {
        TlsError::Pem { key: self.key, path: self.path.clone(), source }
    }

    /// Why `contents` is no PEM in the clear, when that can be told, and how it becomes one.
    pub(super) fn other_form(&self, contents: &[u8]) -> Option<TlsError> {
        let contains = |text: &str| contents.windows(text.len()).any(|part| part == text.as_bytes());
        let path = self.path.display();
        let form = if contains("ENCRYPTED") {
            format!(
                "the key is encrypted, and nobody is there to type its passphrase; write it in the clear, readable by \
                     the server's user only: openssl pkey -in {path} -out key.pem"
            )
        } else if contents.starts_with(&[0x30, 0x82]) || contents.starts_with(&[0x30, 0x81]) {
            let tool = if self.key.ends_with("key") { "pkey" } else { "x509" };
            format!("DER, and PEM is needed: openssl {tool} -inform der -in {path} -out file.pem")
        } else if contains("BEGIN CERTIFICATE REQUEST") {
            "a request for a certificate; the authority answers it with the certificate".to_owned()
        } else {
            return None;
        };
        Some(TlsError::OtherForm { key: self.key, path: self.path.clone(), form })
    }

    fn opened<'c>(&self, read: &'c io::Result<Vec<u8>>) -> Result<&'c [u8], TlsError> {
        read.as_deref().map_err(|error| TlsError::Unreadable {
            key: self.key,
            path: self.path.clone(),
            source: copy(error),
        })
    }
}

impl Clients {
    /// `None` when they show no certificates.
    pub(super) fn trusted(&self) -> Option<&Trusted> {
        match self {
            Self::Anonymous => None,
            Self::Optional(trusted) | Self::Required(trusted) => Some(trusted),
        }
    }

    fn bundle(&self) -> Option<&File> {
        self.trusted()?.file.as_ref()
    }

    pub(super) fn are_optional(&self) -> bool {
        !matches!(self, Self::Required(_))
    }
}

impl Contents {
    /// Blocks while the file system does.
    pub(super) fn read(files: &Files) -> Self {
        Self {
            cert: std::fs::read(&files.cert.path),
            key: std::fs::read(&files.key.path),
            authorities: files.clients.bundle().map(|file| std::fs::read(&file.path)),
        }
    }

    pub(super) fn cert(&self, file: &File) -> Result<&[u8], TlsError> {
        file.opened(&self.cert)
    }

    pub(super) fn key(&self, file: &File) -> Result<&[u8], TlsError> {
        file.opened(&self.key)
    }

    pub(super) fn authorities(&self, file: &File) -> Result<&[u8], TlsError> {
        self.authorities.as_ref().map_or(Ok(&[]), |read| file.opened(read))
    }

    pub(super) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for read in [Some(&self.cert), Some(&self.key), self.authorities.as_ref()].into_iter().flatten() {
            match read {
                Ok(bytes) => {
                    hash.update(bytes.len().to_be_bytes());
                    hash.update(bytes);
                }
                Err(error) => {
                    // No file is as long as this says.
                    hash.update(usize::MAX.to_be_bytes());
                    hash.update(error.to_string());
                }
            }
        }
        hash.finalize().into()
    }
}

impl fmt::Debug for Contents {
    /// One of them is a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contents(..)")
    }
}

/// Errors of the system cannot be cloned.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}
