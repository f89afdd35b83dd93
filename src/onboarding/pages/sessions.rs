//! Which browser is which owner's. Kept in memory: after a restart an owner connects again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use data_encoding::BASE64URL_NOPAD;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

const LIFETIME: Duration = Duration::from_secs(3600);
/// Browsers at once; above, the one that came first is forgotten.
const MOST: usize = 10_000;
const NAME: &str = "owner";

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, (String, Instant)>>);

/// A browser that an owner has come back with.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) sub: String,
    /// In every form, so that no other site's form does anything.
    pub(super) proof: String,
}

impl Sessions {
    /// The value of `Set-Cookie`. `None` only if the system gives no random numbers.
    pub(super) fn begin(&self, sub: &str, is_secure: bool) -> Option<String> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        let id = BASE64URL_NOPAD.encode(&bytes);
        let mut sessions = self.0.lock();
        sessions.retain(|_, (_, began)| began.elapsed() < LIFETIME);
        if sessions.len() >= MOST {
            let first = sessions.iter().min_by_key(|(_, (_, began))| *began).map(|(id, _)| id.clone());
            first.map(|id| sessions.remove(&id));
        }
        sessions.insert(id.clone(), (sub.to_owned(), Instant::now()));
        let secure = if is_secure { "; Secure" } else { "" };
        Some(format!("{NAME}={id}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}{secure}", LIFETIME.as_secs()))
    }

    pub(super) fn of(&self, headers: &HeaderMap) -> Option<Session> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, id) = pairs.find(|(name, _)| *name == NAME)?;
        let sessions = self.0.lock();
        let (sub, began) = sessions.get(id)?;
        let proof = Sha256::new().chain_update(b"proof").chain_update(id).finalize();
        (began.elapsed() < LIFETIME).then(|| Session { sub: sub.clone(), proof: BASE64URL_NOPAD.encode(&proof) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_known_by_its_cookie_alone() {
        let sessions = Sessions::default();
        let (cookie, other) = (sessions.begin("one", true).unwrap(), sessions.begin("two", false).unwrap());
        assert!(cookie.contains("HttpOnly") && cookie.ends_with("; Secure") && !other.contains("Secure"));
        let of = |value: &str| {
            let headers = HeaderMap::from_iter([(COOKIE, value.parse().unwrap())]);
            sessions.of(&headers).map(|session| (session.sub, session.proof))
        };
        let pair = cookie.split(';').next().unwrap();
        let (sub, proof) = of(&format!("x=y; {pair}")).unwrap();
        assert_eq!(sub, "one");
        assert_ne!(proof, of(other.split(';').next().unwrap()).unwrap().1);
        assert!(!pair.contains(&proof), "a form does not give the cookie away");
        assert!(of("owner=guess").is_none() && of("other=1").is_none());
    }
}
