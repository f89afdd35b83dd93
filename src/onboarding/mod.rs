//! From a car on the driveway to its first record: the key that vehicles know the application by, what is served for
//! others to see, and configurations that vehicles obey. Nothing of it runs without the section `onboarding`.

pub mod key;
mod open;
pub mod public;
pub mod schnorr;
pub mod served;

pub mod telemetry;
pub mod token;
pub mod web;

pub use key::{FleetKey, KeyError};
pub use open::{Onboarding, OpenError, key, problems};

/// Where the vehicle maker, and every phone that pairs, reads the application's public key.
pub const WELL_KNOWN: &str = "/.well-known/appspecific/com.tesla.3p.public-key.pem";
