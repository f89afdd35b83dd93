//! Calls with an owner's token: the vehicles, what they need, what they are told. `base` is the owner's region, and
//! follows him.

use hyper::http::Method;
use serde_json::{Value, json};

use super::answers::{CurrentConfig, FleetStatus, Pushed, Vehicle, VehicleError};
use super::{ApiError, FleetApi};

/// Pages of an account that are read; more vehicles than that are a fleet's, and the maker has other ways for those.
const MAX_PAGES: u64 = 100;

impl FleetApi {
    /// Where the owner belongs.
    ///
    /// # Errors
    /// [`ApiError`]; an address that is not the maker's is one.
    pub async fn region(&self, base: &mut String, token: &str) -> Result<(), ApiError> {
        let response = self.call(Method::GET, base, "/api/1/users/region", token, None).await?;
        let named = response.get("fleet_api_base_url").and_then(Value::as_str);
        *base = self.allowed(named.ok_or(ApiError::Unexpected { what: "a region without an address" })?)?;
        Ok(())
    }

    /// All vehicles of the account.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn vehicles(&self, base: &mut String, token: &str) -> Result<Vec<Vehicle>, ApiError> {
        let mut vehicles = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = format!("/api/1/vehicles?page={page}&per_page=100");
            let mut answer = self.whole(Method::GET, base, &path, token, None).await?;
            let page = answer.get_mut("response").map(Value::take).unwrap_or_default();
            let unexpected = ApiError::Unexpected { what: "vehicles in another form" };
            vehicles.extend(serde_json::from_value::<Vec<Vehicle>>(page).map_err(|_| unexpected)?);
            if answer.pointer("/pagination/next").and_then(Value::as_u64).unwrap_or(0) == 0 {
                break;
            }
        }
        Ok(vehicles)
    }

    /// What vehicles need before they stream. Nobody is woken.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn fleet_status(&self, base: &mut String, token: &str, vins: &[&str]) -> Result<FleetStatus, ApiError> {
        let body = json!({"vins": vins});
        let response = self.call(Method::POST, base, "/api/1/vehicles/fleet_status", token, Some(&body)).await?;
        serde_json::from_value(response).map_err(|_| ApiError::Unexpected { what: "a fleet_status in another form" })
    }

    /// Tells vehicles of one owner what to send. `signed` is the token of the configuration.
    ///
    /// # Errors
    /// [`ApiError`]; vehicles that were left out are not an error here, but [`Pushed::skipped`].
    pub async fn push(&self, base: &mut String, token: &str, signed: &str, vins: &[&str]) -> Result<Pushed, ApiError> {
        let body = json!({"token": signed, "vins": vins});
        let path = "/api/1/vehicles/fleet_telemetry_config_jws";
        let response = self.call(Method::POST, base, path, token, Some(&body)).await?;
        Ok(Pushed::read(&response))
    }

    /// What a vehicle is told now.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn current(&self, base: &mut String, token: &str, vin: &str) -> Result<CurrentConfig, ApiError> {
        let response = self.call(Method::GET, base, &config_of(vin), token, None).await?;
        serde_json::from_value(response).map_err(|_| ApiError::Unexpected { what: "a configuration in another form" })
    }

    /// Has a vehicle send nothing more. Whether there was anything to delete.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn delete(&self, base: &mut String, token: &str, vin: &str) -> Result<bool, ApiError> {
        let response = self.call(Method::DELETE, base, &config_of(vin), token, None).await?;
        Ok(response.get("updated_vehicles").and_then(Value::as_u64).unwrap_or(0) > 0)
    }

    /// What a vehicle reports of its trouble with us.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn errors(&self, base: &mut String, token: &str, vin: &str) -> Result<Vec<VehicleError>, ApiError> {
        let path = format!("/api/1/vehicles/{vin}/fleet_telemetry_errors");
        Ok(VehicleError::list(&self.call(Method::GET, base, &path, token, None).await?))
    }
}

fn config_of(vin: &str) -> String {
    format!("/api/1/vehicles/{vin}/fleet_telemetry_config")
}
