//! Calls in an owner's name, each with new tokens when the maker does not take the old ones.

use std::sync::Arc;

use super::fleet_api::{CurrentConfig, FleetStatus, Pushed, Vehicle, VehicleError};
use super::owners::{OwnersError, Session};

impl Session {
    /// Where he belongs.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn region(&mut self) -> Result<(), OwnersError> {
        let (api, mut is_second) = (Arc::clone(&self.owners.api), false);
        loop {
            let answer = api.region(&mut self.owner.base, &self.owner.tokens.access).await;
            if let Some(answer) = self.settle(answer, &mut is_second).await? {
                return Ok(answer);
            }
        }
    }

    /// All vehicles of the account.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn vehicles(&mut self) -> Result<Vec<Vehicle>, OwnersError> {
        let (api, mut is_second) = (Arc::clone(&self.owners.api), false);
        loop {
            let answer = api.vehicles(&mut self.owner.base, &self.owner.tokens.access).await;
            if let Some(answer) = self.settle(answer, &mut is_second).await? {
                return Ok(answer);
            }
        }
    }

    /// What vehicles need before they stream.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn fleet_status(&mut self, vins: &[&str]) -> Result<FleetStatus, OwnersError> {
        let (api, mut is_second) = (Arc::clone(&self.owners.api), false);
        loop {
            let answer = api.fleet_status(&mut self.owner.base, &self.owner.tokens.access, vins).await;
            if let Some(answer) = self.settle(answer, &mut is_second).await? {
                return Ok(answer);
            }
        }
    }

    /// Vehicles are told what to send.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn push(&mut self, signed: &str, vins: &[&str]) -> Result<Pushed, OwnersError> {
        let (api, mut is_second) = (Arc::clone(&self.owners.api), false);
        loop {
            let answer = api.push(&mut self.owner.base, &self.owner.tokens.access, signed, vins).await;
            if let Some(answer) = self.settle(answer, &mut is_second).await? {
                return Ok(answer);
            }
        }
    }

    /// What a vehicle is told now.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn current(&mut self, vin: &str) -> Result<CurrentConfig, OwnersError> {
        let (api, mut is_second) = (Arc::clone(&self.owners.api), false);
        loop {
            let answer = api.current(&mut self.owner.base, &self.owner.tokens.access, vin).await;
            if let Some(answer) = self.settle(answer, &mut is_second).await? {
                return Ok(answer);
            }
        }
    }

    /// A vehicle sends nothing more; whether there was anything to delete.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn delete(&mut self, vin: &str) -> Result<bool, OwnersError> {
        let (api, mut is_second) = (Arc::clone(&self.owners.api), false);
        loop {
            let answer = api.delete(&mut self.owner.base, &self.owner.tokens.access, vin).await;
            if let Some(answer) = self.settle(answer, &mut is_second).await? {
                return Ok(answer);
            }
        }
    }

    /// What a vehicle reports of its trouble with us.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn errors(&mut self, vin: &str) -> Result<Vec<VehicleError>, OwnersError> {
        let (api, mut is_second) = (Arc::clone(&self.owners.api), false);
        loop {
            let answer = api.errors(&mut self.owner.base, &self.owner.tokens.access, vin).await;
            if let Some(answer) = self.settle(answer, &mut is_second).await? {
                return Ok(answer);
            }
        }
    }
}
