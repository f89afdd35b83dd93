//! Owners and their vehicles.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};

use super::{Vault, VaultError};
use crate::onboarding::fleet_api::{Claims, OwnerTokens, Vehicle};

/// An owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The maker's name for him, always the same.
    pub sub: String,
    /// Base address of the API in his region.
    pub base: String,
    /// His tokens.
    pub tokens: OwnerTokens,
    /// What he has allowed, by the last access token.
    pub scopes: Vec<String>,
    /// Of that token, seconds since the epoch.
    pub issued: i64,
    /// Its end.
    pub expires: i64,
    /// Whether he has to consent again.
    pub state: OwnerState,
}

/// Whether tokens can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// As far as is known.
    Good,
    /// The maker says no.
    Reauthorize,
}

/// A vehicle and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedVehicle {
    /// Its VIN.
    pub vin: String,
    /// Whose.
    pub sub: String,
    /// What he calls it; may be empty.
    pub name: String,
    /// `OWNER`, `DRIVER`, or empty.
    pub access: String,
    /// Its place is not for us.
    pub hides_place: bool,
}

const COLUMNS: &str = "sub, base, tokens, scopes, issued, expires, state";

impl Vault {
    /// Keeps tokens, before anybody uses them. A lease on the owner ends with it.
    ///
    /// # Errors
    /// [`VaultError`]: they are not kept.
    pub fn keep(&self, base: &str, tokens: &OwnerTokens, claims: &Claims) -> Result<(), VaultError> {
        let plain = serde_json::to_vec(tokens).unwrap_or_default();
        let sealed = self.0.seal.close(&claims.sub, &plain).ok_or(VaultError::NoRandomness)?;
        let upsert = "INSERT INTO owners (sub, base, tokens, seal, scopes, issued, expires, state)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'good')
            ON CONFLICT (sub) DO UPDATE SET base = excluded.base, tokens = excluded.tokens, seal = excluded.seal,
                scopes = excluded.scopes, issued = excluded.issued, expires = excluded.expires, state = 'good',
                leased_until = 0, leased_by = ''";
        let scopes = claims.scp.join(" ");
        let values = params![claims.sub, base, sealed, self.0.seal.name(), scopes, claims.iat, claims.exp];
        let kept = self.lock().connection().execute(upsert, values);
        kept.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// One owner.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn owner(&self, sub: &str) -> Result<Option<Owner>, VaultError> {
        let select = format!("SELECT {COLUMNS} FROM owners WHERE sub = ?1");
        let found = self.lock().connection().query_row(&select, [sub], read).optional();
        found.map_err(|error| self.failed(error))?.map(|row| self.opened(row)).transpose()
    }

    /// The owner of a vehicle.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn owner_of(&self, vin: &str) -> Result<Option<Owner>, VaultError> {
        let select = "SELECT sub FROM vehicles WHERE vin = ?1";
        let sub = self.lock().connection().query_row(select, [vin], |row| row.get::<_, String>(0)).optional();
        match sub.map_err(|error| self.failed(error))? {
            Some(sub) => self.owner(&sub),
            None => Ok(None),
        }
    }

    /// All owners, by name.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn owners(&self) -> Result<Vec<Owner>, VaultError> {
        let select = format!("SELECT {COLUMNS} FROM owners ORDER BY sub");
        let rows: Vec<_> = {
            let database = self.lock();
            let mut statement = database.connection().prepare(&select).map_err(|error| self.failed(error))?;
            let rows = statement.query_map([], read).and_then(Iterator::collect::<Result<_, _>>);
            rows.map_err(|error| self.failed(error))?
        };
        rows.into_iter().map(|row| self.opened(row)).collect()
    }

    /// An owner's region is another one.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn set_base(&self, sub: &str, base: &str) -> Result<(), VaultError> {
        let set = self.lock().connection().execute("UPDATE owners SET base = ?2 WHERE sub = ?1", [sub, base]);
        set.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// The right to refresh an owner's tokens, for `time`: of several processes, one has it. `None`: another one.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn lease(&self, sub: &str, by: &str, now: i64, time: Duration) -> Result<Option<Owner>, VaultError> {
        let until = now.saturating_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
        let update = "UPDATE owners SET leased_until = ?1, leased_by = ?2
            WHERE sub = ?3 AND (leased_until <= ?4 OR leased_by = ?2)";
        let leased = self.lock().connection().execute(update, params![until, by, sub, now]);
        match leased.map_err(|error| self.failed(error))? {
            0 => Ok(None),
            _ => self.owner(sub),
        }
    }

    /// Ends a lease without tokens; with `state` when the maker has said so.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn release(&self, sub: &str, by: &str, state: OwnerState) -> Result<(), VaultError> {
        let update = "UPDATE owners SET leased_until = 0, leased_by = '', state = ?3 WHERE sub = ?1 AND leased_by = ?2";
        let released = self.lock().connection().execute(update, params![sub, by, state.label()]);
        released.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// Which vehicles are an owner's now. One that another had is his who came last.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn set_vehicles(&self, sub: &str, vehicles: &[Vehicle]) -> Result<(), VaultError> {
        let mut database = self.lock();
        let done = database.begin().and_then(|transaction| {
            transaction.execute("DELETE FROM vehicles WHERE sub = ?1", [sub])?;
            let insert =
                "INSERT OR REPLACE INTO vehicles (vin, sub, name, access, hides_place) VALUES (?1, ?2, ?3, ?4, ?5)";
            for vehicle in vehicles {
                let name = vehicle.display_name.as_deref().unwrap_or_default();
                let access = vehicle.access_type.as_deref().unwrap_or_default();
                transaction.execute(insert, params![vehicle.vin, sub, name, access, vehicle.hides_place()])?;
            }
            transaction.commit()
        });
        done.map_err(|error| self.failed(error))
    }

    /// All vehicles, or those of one owner, by VIN.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn vehicles(&self, sub: Option<&str>) -> Result<Vec<OwnedVehicle>, VaultError> {
        let select = "SELECT vin, sub, name, access, hides_place FROM vehicles
            WHERE ?1 IS NULL OR sub = ?1 ORDER BY vin";
        let database = self.lock();
        let mut statement = database.connection().prepare(select).map_err(|error| self.failed(error))?;
        let rows = statement.query_map([sub], |row| {
            Ok(OwnedVehicle {
                vin: row.get(0)?,
                sub: row.get(1)?,
                name: row.get(2)?,
                access: row.get(3)?,
                hides_place: row.get(4)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(|error| self.failed(error))
    }

    /// Forgets a vehicle, and its owner's tokens with his last one.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn forget_vehicle(&self, vin: &str) -> Result<(), VaultError> {
        let mut database = self.lock();
        let done = database.begin().and_then(|transaction| {
            let select = "SELECT sub FROM vehicles WHERE vin = ?1";
            let sub = transaction.query_row(select, [vin], |row| row.get::<_, String>(0)).optional()?;
            transaction.execute("DELETE FROM vehicles WHERE vin = ?1", [vin])?;
            let last = "DELETE FROM owners WHERE sub = ?1 AND NOT EXISTS (SELECT 1 FROM vehicles WHERE sub = ?1)";
            transaction.execute(last, [sub])?;
            transaction.commit()
        });
        done.map_err(|error| self.failed(error))
    }

    fn opened(&self, (mut owner, sealed): (Owner, Vec<u8>)) -> Result<Owner, VaultError> {
        let plain = self.0.seal.open(&owner.sub, &sealed).ok_or_else(|| self.other_key())?;
        owner.tokens = serde_json::from_slice(&plain).map_err(|_| self.other_key())?;
        Ok(owner)
    }
}

impl OwnerState {
    fn label(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Reauthorize => "reauthorize",
        }
    }
}

/// The tokens are still sealed.
fn read(row: &Row<'_>) -> rusqlite::Result<(Owner, Vec<u8>)> {
    let scopes: String = row.get(3)?;
    let state: String = row.get(6)?;
    let owner = Owner {
        sub: row.get(0)?,
        base: row.get(1)?,
        tokens: OwnerTokens { access: String::new(), refresh: String::new() },
        scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        issued: row.get(4)?,
        expires: row.get(5)?,
        state: if state == "good" { OwnerState::Good } else { OwnerState::Reauthorize },
    };
    Ok((owner, row.get(2)?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Secret, Tokens};

    pub(in super::super) fn tokens() -> OwnerTokens {
        OwnerTokens { access: "secret-access-token".to_owned(), refresh: "secret-refresh-token".to_owned() }
    }

    fn claims(sub: &str) -> Claims {
        let scp = ["openid", "vehicle_location"].map(str::to_owned).to_vec();
        Claims { sub: sub.to_owned(), scp, aud: vec![], iat: 100, exp: 200 }
    }

    fn vehicle(vin: &str) -> Vehicle {
        serde_json::from_value(serde_json::json!({"vin": vin, "display_name": "Red"})).unwrap()
    }

    /// With two vehicles of one owner and one of another.
    pub(in super::super) fn filled(vault: &Vault) {
        vault.keep("https://api", &tokens(), &claims("owner-1")).unwrap();
        vault.keep("https://api", &tokens(), &claims("owner-2")).unwrap();
        vault.set_vehicles("owner-1", &[vehicle("A"), vehicle("B")]).unwrap();
        vault.set_vehicles("owner-2", &[vehicle("C")]).unwrap();
    }

    fn vault(dir: &tempfile::TempDir) -> Vault {
        let key = Secret::from(&*"01".repeat(32));
        let vault = Vault::open(&Tokens { path: dir.path().join("o.db"), key, old_key: None }).unwrap();
        filled(&vault);
        vault
    }

    #[test]
    fn owners_are_found_by_their_vehicles() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(&dir);
        let owner = vault.owner_of("B").unwrap().unwrap();
        assert_eq!((owner.sub.as_str(), owner.expires, owner.tokens), ("owner-1", 200, tokens()));
        assert_eq!(owner.scopes, ["openid", "vehicle_location"]);
        assert!(vault.owner_of("D").unwrap().is_none());
        assert_eq!(vault.vehicles(Some("owner-1")).unwrap().len(), 2);
        assert_eq!(vault.vehicles(None).unwrap().len(), 3);
    }

    #[test]
    fn one_process_at_a_time_refreshes() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(&dir);
        let time = Duration::from_secs(60);
        assert!(vault.lease("owner-1", "a", 1000, time).unwrap().is_some());
        assert!(vault.lease("owner-1", "b", 1001, time).unwrap().is_none());
        assert!(vault.lease("owner-1", "a", 1002, time).unwrap().is_some(), "its own");
        assert!(vault.lease("owner-2", "b", 1002, time).unwrap().is_some(), "another owner");
        assert!(vault.lease("owner-1", "b", 1062, time).unwrap().is_some(), "whoever died has lost it");
        vault.keep("https://api", &tokens(), &claims("owner-1")).unwrap();
        assert!(vault.lease("owner-1", "a", 1063, time).unwrap().is_some(), "new tokens end it");
        vault.release("owner-1", "a", OwnerState::Reauthorize).unwrap();
        assert_eq!(vault.owner("owner-1").unwrap().unwrap().state, OwnerState::Reauthorize);
    }

    #[test]
    fn tokens_go_with_the_last_vehicle() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(&dir);
        vault.forget_vehicle("A").unwrap();
        assert!(vault.owner("owner-1").unwrap().is_some(), "the other one stays");
        vault.forget_vehicle("B").unwrap();
        assert!(vault.owner("owner-1").unwrap().is_none());
        assert!(vault.owner("owner-2").unwrap().is_some());
        vault.forget_vehicle("nobody's").unwrap();
    }
}
