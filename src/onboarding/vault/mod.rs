//! What is kept of owners: their tokens, sealed, and which vehicles are theirs. An SQLite database of its own, whose
//! commits are on the disk when they return: a refresh token works once, so the next one must not be lost.
//!
//! ```text
//! owners    sub   base, tokens (sealed), seal, scopes, issued, expires, state, leased_until, leased_by
//! vehicles  vin   sub, name, access, hides_place
//! pending   state verifier (sealed), seal, created     links on their way, for a quarter of an hour
//! ```

mod owners;
mod pending;
mod seal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

pub use self::owners::{OwnedVehicle, Owner, OwnerState};
use self::seal::Seal;
use crate::config;
use crate::sqlite::{Database, Kind, OpenError};

/// The store. Its methods block while the disk does.
#[derive(Clone, Debug)]
pub struct Vault(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Mutex<Database>,
    seal: Seal,
    path: PathBuf,
}

/// Why nothing can be kept, or read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The database cannot be opened.
    #[error("onboarding.tokens.path: {0}")]
    Open(String),
    /// The database.
    #[error("{}: {source}", path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// What it holds was sealed with a key that is not given.
    #[error(
        "{}: was written with another key than onboarding.tokens.key; give that one as onboarding.tokens.old_key, or owners \
         have to connect again (remove the file then)",
        path.display()
    )]
    OtherKey {
        /// Its file.
        path: PathBuf,
    },
    /// The key is none.
    #[error("onboarding.tokens.key: must be 64 hexadecimal digits")]
    Key,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

const PATIENCE: Duration = Duration::from_secs(5);

const KIND: Kind = Kind {
    // "FlOn".
    application_id: 0x466c_4f6e,
    migrations: &[SCHEMA],
    first_pragmas: "",
    // What is deleted is overwritten, too.
    pragmas: "PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;",
};

const SCHEMA: &str = "
    CREATE TABLE owners (
        sub TEXT PRIMARY KEY,
        base TEXT NOT NULL,
        tokens BLOB NOT NULL,
        seal INTEGER NOT NULL,
        scopes TEXT NOT NULL,
        issued INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('good', 'reauthorize')),
        leased_until INTEGER NOT NULL DEFAULT 0,
        leased_by TEXT NOT NULL DEFAULT ''
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE vehicles (
        vin TEXT PRIMARY KEY,
        sub TEXT NOT NULL REFERENCES owners (sub) ON DELETE CASCADE,
        name TEXT NOT NULL,
        access TEXT NOT NULL,
        hides_place INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX vehicles_by_owner ON vehicles (sub);
    CREATE TABLE pending (
        state TEXT PRIMARY KEY,
        verifier BLOB NOT NULL,
        seal INTEGER NOT NULL,
        created INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

impl Vault {
    /// Opens or makes the database. What the old key has sealed is sealed anew.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn open(section: &config::Tokens) -> Result<Self, VaultError> {
        let seal = Seal::new(&section.key).ok_or(VaultError::Key)?;
        let old = section.old_key.as_ref().map(|key| Seal::new(key).ok_or(VaultError::Key)).transpose()?;
        let opened = |error: OpenError| VaultError::Open(error.to_string());
        let database = Database::open(&section.path, &KIND, PATIENCE).map_err(opened)?;
        let vault = Self(Arc::new(Inner { database: Mutex::new(database), seal, path: section.path.clone() }));
        vault.rotate(old.as_ref())?;
        Ok(vault)
    }

    fn lock(&self) -> MutexGuard<'_, Database> {
        self.0.database.lock()
    }

    fn failed(&self, source: rusqlite::Error) -> VaultError {
        VaultError::Database { path: self.0.path.clone(), source }
    }

    fn other_key(&self) -> VaultError {
        VaultError::OtherKey { path: self.0.path.clone() }
    }

    /// Seals with today's key what another one has sealed. All of it, or nothing.
    fn rotate(&self, old: Option<&Seal>) -> Result<(), VaultError> {
        let mut database = self.lock();
        let transaction = database.begin().map_err(|error| self.failed(error))?;
        for (table, id, secret) in [("owners", "sub", "tokens"), ("pending", "state", "verifier")] {
            let select = format!("SELECT {id}, {secret}, seal FROM {table} WHERE seal <> ?1");
            let mut statement = transaction.prepare(&select).map_err(|error| self.failed(error))?;
            let rows = statement.query_map([self.0.seal.name()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            let rows = rows.and_then(Iterator::collect::<Result<Vec<(String, Vec<u8>, i64)>, _>>);
            for (whose, sealed, name) in rows.map_err(|error| self.failed(error))? {
                let plain = old.filter(|old| old.name() == name).and_then(|old| old.open(&whose, &sealed));
                let plain = plain.ok_or_else(|| self.other_key())?;
                let anew = self.0.seal.close(&whose, &plain).ok_or(VaultError::NoRandomness)?;
                let update = format!("UPDATE {table} SET {secret} = ?1, seal = ?2 WHERE {id} = ?3");
                let updated = transaction.execute(&update, (anew, self.0.seal.name(), whose));
                updated.map_err(|error| self.failed(error))?;
            }
        }
        transaction.commit().map_err(|error| self.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::owners::tests::{filled, tokens};
    use super::*;
    use crate::config::Secret;

    fn section(path: &std::path::Path, key: &str, old: Option<&str>) -> config::Tokens {
        let secret = |byte: &str| Secret::from(&*byte.repeat(32));
        config::Tokens { path: path.to_owned(), key: secret(key), old_key: old.map(secret) }
    }

    #[test]
    fn nothing_of_a_token_is_in_the_files_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(&section(&dir.path().join("o.db"), "01", None)).unwrap();
        filled(&vault);
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let found = bytes.windows(14).any(|window| window == b"secret-refresh" || window == b"secret-access-");
            assert!(!found, "a token in the clear");
        }
    }

    #[test]
    fn another_key_is_refused_unless_the_old_one_is_given_and_then_it_is_needed_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.db");
        filled(&Vault::open(&section(&path, "01", None)).unwrap());
        let error = Vault::open(&section(&path, "02", None)).unwrap_err().to_string();
        assert!(error.contains("give that one as onboarding.tokens.old_key"), "{error}");
        assert!(matches!(Vault::open(&section(&path, "02", Some("03"))), Err(VaultError::OtherKey { .. })));
        Vault::open(&section(&path, "02", Some("01"))).unwrap();
        let rotated = Vault::open(&section(&path, "02", None)).unwrap();
        assert_eq!(rotated.owner("owner-1").unwrap().unwrap().tokens, tokens());
    }
}
