//! Links on their way: what an owner's browser has to bring back, once and soon.

use rusqlite::{OptionalExtension, params};

use super::{Vault, VaultError};

/// Seconds that an owner has for the maker's pages.
const LIFETIME: i64 = 900;
/// Links on their way at once; the oldest give way.
const MOST: i64 = 10_000;

impl Vault {
    /// Remembers a link.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn expect(&self, state: &str, verifier: &str, now: i64) -> Result<(), VaultError> {
        let sealed = self.0.seal.close(state, verifier.as_bytes()).ok_or(VaultError::NoRandomness)?;
        let mut database = self.lock();
        let done = database.begin().and_then(|transaction| {
            transaction.execute("DELETE FROM pending WHERE created <= ?1", [now - LIFETIME])?;
            let oldest = "DELETE FROM pending WHERE state IN
                (SELECT state FROM pending ORDER BY created DESC, state LIMIT -1 OFFSET ?1)";
            transaction.execute(oldest, [MOST - 1])?;
            let insert = "INSERT INTO pending (state, verifier, seal, created) VALUES (?1, ?2, ?3, ?4)";
            transaction.execute(insert, params![state, sealed, self.0.seal.name(), now])?;
            transaction.commit()
        });
        done.map_err(|error| self.failed(error))
    }

    /// The verifier of a link that comes back. It comes back once; `None`: never sent, used, or too old.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn returned(&self, state: &str, now: i64) -> Result<Option<String>, VaultError> {
        let delete = "DELETE FROM pending WHERE state = ?1 RETURNING verifier, created";
        let found = {
            let database = self.lock();
            let row = database
                .connection()
                .query_row(delete, [state], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)));
            row.optional().map_err(|error| self.failed(error))?
        };
        let Some((sealed, _)) = found.filter(|(_, created)| now < created + LIFETIME) else { return Ok(None) };
        let verifier = self.0.seal.open(state, &sealed).and_then(|verifier| String::from_utf8(verifier).ok());
        verifier.map(Some).ok_or_else(|| self.other_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, Tokens};

    #[test]
    fn a_link_comes_back_once_and_soon() {
        let dir = tempfile::tempdir().unwrap();
        let key = Secret::from(&*"01".repeat(32));
        let vault = Vault::open(&Tokens { path: dir.path().join("o.db"), key, old_key: None }).unwrap();
        vault.expect("first", "verifier-1", 1000).unwrap();
        vault.expect("second", "verifier-2", 1000).unwrap();
        assert_eq!(vault.returned("other", 1001).unwrap(), None);
        assert_eq!(vault.returned("first", 1001).unwrap().as_deref(), Some("verifier-1"));
        assert_eq!(vault.returned("first", 1002).unwrap(), None, "a code is not taken twice");
        assert_eq!(vault.returned("second", 1900).unwrap(), None, "too late");
    }
}
