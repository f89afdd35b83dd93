//! The admin API: how applications and people read and change grants. Its own listener, JSON over HTTP/1.1,
//! for callers that hold the token or a client certificate.
//!
//! | path | |
//! |---|---|
//! | `GET /v1/vehicles` | all vehicles, by page |
//! | `GET /v1/vehicles/{vin}` | what the owner of one has said |
//! | `PUT /v1/vehicles/{vin}/scopes/{scope}` | grant, revoke, change |
//! | `GET /v1/vehicles/{vin}/history` | what has changed |
//! | `GET /v1/vehicles/{vin}/access` | may an application read it, and if not, why |
//! | `POST /v1/import`, `GET /v1/export` | everything, JSON or CSV |
//! | `GET /v1/health` | whether the grants are known |
//! | `GET /openapi.json` | this, for machines; needs no token |
//!
//! Every refusal is `{"error": {"code", "message", …}}`; codes are stable, messages are for people.

mod access;
mod auth;
mod refusal;
mod request;
mod routes;
mod serve;
mod tls;
mod transfer;
mod vehicles;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use auth::{Auth, AuthError, Token};
pub use refusal::Code;
pub use serve::serve;

use super::Authority;
use crate::logging::RateLimited;
use crate::permissions::Rules;

/// The description of the API, as it is served.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What the answers are made of.
#[derive(Debug)]
pub struct Api {
    authority: Arc<Authority>,
    /// What holds for a vehicle without an entry.
    rules: Rules,
    auth: Auth,
    /// An import holds its document in memory, so there is one at a time.
    imports: Semaphore,
    /// Holds back lines about callers that may not.
    unauthorized: RateLimited,
}

impl Api {
    /// An API over `authority`, under the `rules` of the filter.
    #[must_use]
    pub fn new(authority: Arc<Authority>, rules: Rules, auth: Auth) -> Self {
        Self { authority, rules, auth, imports: Semaphore::new(1), unauthorized: RateLimited::default() }
    }
}
