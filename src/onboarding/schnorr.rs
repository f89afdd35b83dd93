//! The signature scheme of configurations: Schnorr over P-256 with SHA-256, and the nonce of RFC 6979, so that the same
//! bytes give the same signature.
//!
//! ```text
//! k = RFC 6979(a, SHA256(message))     V = k·G
//! c = SHA256( L(G)‖G ‖ L(V)‖V ‖ L(A)‖A ‖ L(message)‖message )     L: length, 4 bytes, big-endian
//! r = k − a·c mod n                    signature = V.x ‖ V.y ‖ r
//! ```
//!
//! Points are their 65 bytes, uncompressed. What touches the secret runs in constant time.

use p256::elliptic_curve::PrimeField;
use p256::elliptic_curve::ops::Reduce;
use p256::{ProjectivePoint, PublicKey, Scalar, SecretKey};
use rfc6979::KGenerator;
use rfc6979::bigint::U256;
use sha2::{Digest, Sha256};

/// Of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 96;
/// Of a point with its leading 4, in bytes.
pub const POINT_BYTES: usize = 65;

/// The order of the group.
const ORDER: U256 = U256::from_be_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is not 96 bytes long.
    #[error("{length} bytes, a signature has {SIGNATURE_BYTES}")]
    Length {
        /// What it has.
        length: usize,
    },
    /// The point in it is not on the curve.
    #[error("its point is not on the curve")]
    OffCurve,
    /// It is another message's, or another key's.
    #[error("it does not fit the message and the key")]
    Mismatch,
}

/// Signs `message`.
#[must_use]
pub fn sign(key: &SecretKey, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
    let k = nonce(key, &Sha256::digest(message));
    let commitment = encode(&(ProjectivePoint::GENERATOR * k));
    let challenge = challenge(&commitment, &encode(&key.public_key().to_projective()), message);
    let response = k - *key.to_nonzero_scalar() * challenge;
    let mut signature = [0; SIGNATURE_BYTES];
    signature[..64].copy_from_slice(&commitment[1..]);
    signature[64..].copy_from_slice(&response.to_repr());
    signature
}

/// Whether `signature` is that of `message` by the key of `signer`.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(signer: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    let length = signature.len();
    let signature: &[u8; SIGNATURE_BYTES] = signature.try_into().map_err(|_| SignatureError::Length { length })?;
    let (coordinates, response) = signature.split_at(64);
    let mut commitment = [4; POINT_BYTES];
    commitment[1..].copy_from_slice(coordinates);
    let point = PublicKey::from_sec1_bytes(&commitment).map_err(|_| SignatureError::OffCurve)?;
    let challenge = challenge(&commitment, &encode(&signer.to_projective()), message);
    let sum = signer.to_projective() * challenge + ProjectivePoint::GENERATOR * reduce(response);
    if sum == point.to_projective() { Ok(()) } else { Err(SignatureError::Mismatch) }
}

/// The 65 bytes of a point.
///
/// # Panics
/// Never: a nonce and a key are not zero, so their points are not the one at infinity.
pub(super) fn encode(point: &ProjectivePoint) -> [u8; POINT_BYTES] {
    let point = PublicKey::from_affine(point.to_affine()).expect("a scalar that is not zero");
    let bytes = point.to_sec1_bytes();
    <[u8; POINT_BYTES]>::try_from(&*bytes).expect("P-256 writes its points uncompressed")
}

fn nonce(key: &SecretKey, digest: &[u8]) -> Scalar {
    let mut bytes = p256::FieldBytes::default();
    KGenerator::<Sha256, U256>::new(&key.to_bytes(), digest, b"", &ORDER).fill_next_k(&mut bytes);
    reduce(&bytes)
}

fn challenge(commitment: &[u8], signer: &[u8], message: &[u8]) -> Scalar {
    let mut hash = Sha256::new();
    for part in [&encode(&ProjectivePoint::GENERATOR)[..], commitment, signer, message] {
        let length = u32::try_from(part.len()).expect("a configuration is far below 4 GiB");
        hash.update(length.to_be_bytes());
        hash.update(part);
    }
    reduce(&hash.finalize())
}

/// 32 bytes as a number modulo the order.
fn reduce(bytes: &[u8]) -> Scalar {
    let bytes = p256::FieldBytes::try_from(bytes).expect("32 bytes");
    <Scalar as Reduce<p256::FieldBytes>>::reduce(&bytes)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER_PERMISSIVE as HEX;
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        HEX.decode(hex.as_bytes()).unwrap()
    }

    fn key(hex: &str) -> SecretKey {
        SecretKey::from_slice(&bytes(hex)).unwrap()
    }

    fn test_key() -> SecretKey {
        key(&format!("03{}", "00".repeat(31)))
    }

    #[test]
    fn nonces_are_those_of_rfc_6979() {
        let published = key("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
        let k = nonce(&published, &Sha256::digest(b"sample"));
        assert_eq!(k.to_repr()[..], bytes("a6e3c57dd01abe90086538398355dd4c3b17aa873382b0f24d6129493d8aad60"));
        // Its first candidate is not below the order.
        let k = nonce(&test_key(), &bytes("0080c36864c5f2f460e3767983c65677b65cef901bcedcb223f9b365c68f52f6"));
        assert_eq!(k.to_repr()[..], bytes("264fc6592fbea24fd0954e0b86b886e8743161758ddad2f7e9fed75a0019e005"));
    }

    #[test]
    fn a_signature_is_the_published_one() {
        let expected = "7cfdbeb5baa730540401550bdefa20976453e8539ae4b2f26ce33125801a08f9\
                        0ed20c3d846497ff82cc9772e3db4703982f47bd0b0b89dfb9a49cd2e5240546\
                        02b1e05fbf95f5686faea7a5809eb92f5ecc22eae74ceccc5e2a65dd67ff20fc";
        let signature = sign(&test_key(), b"hello world");
        assert_eq!(HEX.encode(&signature), expected);
        assert_eq!(verify(&test_key().public_key(), b"hello world", &signature), Ok(()));
    }

    #[test]
    fn a_signature_is_good_for_one_message_and_one_key() {
        let (key, other) = (test_key().public_key(), key(&"11".repeat(32)).public_key());
        let signature = sign(&test_key(), b"hello world");
        assert_eq!(verify(&key, b"hello word", &signature), Err(SignatureError::Mismatch));
        assert_eq!(verify(&other, b"hello world", &signature), Err(SignatureError::Mismatch));
        assert_eq!(verify(&key, b"hello world", &signature[..95]), Err(SignatureError::Length { length: 95 }));
        let mut changed = signature;
        changed[63] ^= 1;
        assert_eq!(verify(&key, b"hello world", &changed), Err(SignatureError::OffCurve));
        changed = signature;
        changed[95] ^= 1;
        assert_eq!(verify(&key, b"hello world", &changed), Err(SignatureError::Mismatch));
    }

    proptest! {
        #[test]
        fn every_signature_verifies_and_no_flipped_bit_does(
            secret in proptest::array::uniform32(1_u8..255),
            message in proptest::collection::vec(any::<u8>(), 0..200),
            bit in 0_usize..SIGNATURE_BYTES * 8,
        ) {
            let key = SecretKey::from_slice(&secret).unwrap();
            let mut signature = sign(&key, &message);
            prop_assert_eq!(verify(&key.public_key(), &message, &signature), Ok(()));
            signature[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify(&key.public_key(), &message, &signature).is_err());
        }
    }
}
