//! From a car on the driveway to its first record: the key that vehicles know the application by, what is served for
//! others to see, owners and their consent, and configurations that vehicles obey. Nothing of it runs without the section `onboarding`.

#[cfg(feature = "sqlite")]
mod calls;
pub mod consent;
#[cfg(feature = "sqlite")]
pub mod deploy;
#[cfg(feature = "sqlite")]
pub mod doctor;
pub mod drift;
pub mod fleet_api;
#[cfg(feature = "sqlite")]
pub mod follow;
pub mod key;
mod open;
#[cfg(feature = "sqlite")]
pub mod owners;
#[cfg(feature = "sqlite")]
pub mod pages;
pub mod public;
pub mod schnorr;
pub mod served;

pub mod telemetry;
pub mod token;
#[cfg(feature = "sqlite")]
pub mod vault;
pub mod web;

pub use key::{FleetKey, KeyError};
pub use open::{Consent, Onboarding, OpenError, judged, key, problems};

/// Where the vehicle maker, and every phone that pairs, reads the application's public key.
pub const WELL_KNOWN: &str = "/.well-known/appspecific/com.tesla.3p.public-key.pem";

/// Where the owner's phone app takes the key for a vehicle.
#[must_use]
pub fn pairing_link(section: &crate::config::Onboarding, vin: &str) -> String {
    format!("{}/{}?{}", section.maker.pair_url, section.domain, fleet_api::encode(&[("vin", vin)]))
}
