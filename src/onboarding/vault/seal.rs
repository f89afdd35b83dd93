//! Encryption at rest: AES-256-GCM. Whom a secret belongs to is bound to it, so that one cannot be put in another's place.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use data_encoding::HEXLOWER_PERMISSIVE;
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// One key, and what tells it from others.
pub(super) struct Seal {
    key: RandomizedNonceKey,
    /// Of the first bytes of a hash: a name, not a secret.
    name: i64,
}

impl Seal {
    /// `None` if it is not 64 hexadecimal digits.
    pub(super) fn new(key: &Secret) -> Option<Self> {
        let bytes = HEXLOWER_PERMISSIVE.decode(key.expose().as_bytes()).ok()?;
        let digest = Sha256::new().chain_update(b"fleet-telemetry token key").chain_update(&bytes).finalize();
        let name = i64::from_be_bytes(digest[..8].try_into().ok()?);
        Some(Self { key: RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()?, name })
    }

    pub(super) fn name(&self) -> i64 {
        self.name
    }

    /// Nonce and ciphertext. `None` only if the system gives no random numbers.
    pub(super) fn close(&self, whose: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let mut text = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(whose), &mut text).ok()?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut text);
        Some(sealed)
    }

    /// `None` if it was closed with another key, for somebody else, or changed since.
    pub(super) fn open(&self, whose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(whose), &mut text).ok()?;
        Some(plain.to_vec())
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(byte: &str) -> Seal {
        Seal::new(&Secret::from(&*byte.repeat(32))).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_owner_with_its_key_and_unchanged() {
        let ours = seal("01");
        let sealed = ours.close("owner", b"refresh token").unwrap();
        assert_eq!(ours.open("owner", &sealed).unwrap(), b"refresh token");
        assert_eq!(ours.open("somebody else", &sealed), None);
        assert_eq!(seal("02").open("owner", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(ours.open("owner", &changed), None, "{at}");
            assert_eq!(ours.open("owner", &sealed[..at]), None, "{at}");
        }
    }

    #[test]
    fn the_same_text_never_looks_the_same_and_keys_have_names() {
        let ours = seal("01");
        assert_ne!(ours.close("owner", b"text"), ours.close("owner", b"text"));
        assert_eq!(ours.name(), seal("01").name());
        assert_ne!(ours.name(), seal("02").name());
        assert!(Seal::new(&Secret::from("01")).is_none() && Seal::new(&Secret::from("")).is_none());
    }
}
