//! The headers by which a receiver knows who has sent a request, and that it has seen it before: those of Standard
//! Webhooks, for which there are libraries in most languages.

use aws_lc_rs::hmac;
use data_encoding::BASE64;

use crate::config::Secret;

/// What signs.
pub(super) struct Signer(hmac::Key);

/// Before a secret that is written in base64.
const PREFIX: &str = "whsec_";

impl Signer {
    /// Of `whsec_` and base64, or of a text that is the secret itself.
    ///
    /// # Errors
    /// In words, without the secret.
    pub(super) fn new(secret: &Secret) -> Result<Self, String> {
        let text = secret.expose();
        let bytes = match text.strip_prefix(PREFIX) {
            Some(encoded) => BASE64.decode(encoded.as_bytes()).map_err(|error| {
                format!("http.signing_secret: what follows {PREFIX} is not base64 ({error}); leave {PREFIX} out, or encode it")
            })?,
            None => text.as_bytes().to_vec(),
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", BASE64.encode(context.sign().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specifications_example() {
        let signer = Signer::new(&Secret::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let plain = Signer::new(&Secret::from("secret")).unwrap();
        assert_ne!(plain.sign("a", "1", b"x"), plain.sign("a", "2", b"x"));
    }

    #[test]
    fn a_secret_that_is_not_base64_is_not_shown() {
        let error = Signer::new(&Secret::from("whsec_!hidden!")).err().unwrap();
        assert!(error.contains("not base64") && !error.contains("hidden"), "{error}");
    }
}
