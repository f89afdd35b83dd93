//! Owners who have connected: links to the maker's page and back, tokens that are fresh when they are needed, and calls
//! in an owner's name.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use super::fleet_api::{ApiError, Claims, FleetApi, OwnerTokens};
use super::vault::{Owner, OwnerState, Vault, VaultError};
use crate::tls::certificate::now;

/// Tokens that end sooner than this are refreshed before they are used, in seconds.
const SHORTEST: i64 = 120;
/// Longest time that one process may take for a refresh; after that another one may.
const LEASE: Duration = Duration::from_secs(60);
/// How often, and how long, another process' refresh is waited for.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: u32 = 75;

/// All of them.
#[derive(Clone, Debug)]
pub struct Owners {
    pub(super) api: Arc<FleetApi>,
    vault: Vault,
    /// Of this process, for leases.
    name: Arc<str>,
}

/// Why an owner's vehicles cannot be asked about.
#[derive(Debug, thiserror::Error)]
pub enum OwnersError {
    /// The maker.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// The store.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// Nobody has connected with this vehicle.
    #[error("{vin}: no owner who has connected has this vehicle; send the owner to the connect page (`consent link`)")]
    NoOwner {
        /// Which.
        vin: String,
    },
    /// A link came back that was not sent, or not lately, or has come back before.
    #[error("this link was not sent from here, is older than a quarter of an hour, or was used already; begin again")]
    State,
    /// The owner said no, or the maker did.
    #[error("access was not given: {reason}")]
    Denied {
        /// In the maker's words, escaped.
        reason: String,
    },
    /// Another process does not come to an end.
    #[error("another process is refreshing the owner's tokens and does not come to an end; try again in a minute")]
    Busy,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

impl OwnersError {
    /// What programs can rely on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Api(error) => error.code(),
            Self::Vault(_) => "store",
            Self::NoOwner { .. } => "not_in_account",
            Self::State => "state",
            Self::Denied { .. } => "permission_denied",
            Self::Busy => "busy",
            Self::NoRandomness => "random",
        }
    }
}

/// What the maker's page sends back.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub struct Callback {
    /// Of the link.
    #[serde(default)]
    pub state: String,
    /// Good for tokens, once.
    #[serde(default)]
    pub code: String,
    /// Instead of a code.
    #[serde(default)]
    pub error: String,
}

impl Owners {
    /// Owners kept in `vault`, asked about through `api`.
    #[must_use]
    pub fn new(api: FleetApi, vault: Vault) -> Self {
        Self { api: Arc::new(api), vault, name: uuid::Uuid::new_v4().to_string().into() }
    }

    /// What is known of them.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Who is asked.
    #[must_use]
    pub fn api(&self) -> &FleetApi {
        &self.api
    }

    /// A link to the maker's page that asks for `scopes`; it works once, for a quarter of an hour.
    ///
    /// # Errors
    /// [`OwnersError`] when it cannot be remembered.
    pub fn link(&self, scopes: &[&str]) -> Result<String, OwnersError> {
        let (state, verifier) = (random()?, random()?);
        self.vault.expect(&state, &verifier, now())?;
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()));
        let scopes = scopes.join(" ");
        let application = self.api.application();
        let query = super::fleet_api::encode(&[
            ("response_type", "code"),
            ("client_id", &application.client_id),
            ("redirect_uri", &application.redirect_uri),
            ("scope", &scopes),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            // Without this, what is new since an earlier consent is never asked for.
            ("prompt_missing_scopes", "true"),
            ("require_requested_scopes", "true"),
        ]);
        Ok(format!("{}?{query}", self.api.maker().authorize_url))
    }

    /// An owner comes back from the maker's page. His tokens are kept before they are used.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn arrive(&self, callback: &Callback) -> Result<Owner, OwnersError> {
        let verifier = self.vault.returned(&callback.state, now())?.ok_or(OwnersError::State)?;
        if callback.code.is_empty() {
            let reason = crate::escape::escape(callback.error.as_bytes(), 100);
            return Err(OwnersError::Denied { reason });
        }
        let tokens = self.api.exchange(&callback.code, &verifier).await?;
        let claims = Claims::read(&tokens.access)?;
        let base = self.api.maker().api_urls[0].clone();
        self.vault.keep(&base, &tokens, &claims)?;
        let mut session = self.session(&claims.sub).await?;
        session.region().await?;
        session.look_for_vehicles().await?;
        tracing::info!(activity = true, scopes = claims.scp.join(" "), "owner_connected");
        Ok(session.owner)
    }

    /// Calls in the name of an owner, with a token that is good.
    ///
    /// # Errors
    /// [`OwnersError`]; [`ApiError::Reauthorize`] when he has to consent again.
    pub async fn session(&self, sub: &str) -> Result<Session, OwnersError> {
        let owner = self.vault.owner(sub)?.ok_or(OwnersError::State)?;
        let mut session = Session { owners: self.clone(), owner };
        if session.owner.expires <= now() + SHORTEST {
            session.refresh().await?;
        }
        Ok(session)
    }

    /// The same, of the owner of a vehicle.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn session_of(&self, vin: &str) -> Result<Session, OwnersError> {
        let no_owner = || OwnersError::NoOwner { vin: crate::escape::escape(vin.as_bytes(), 40) };
        let owner = self.vault.owner_of(vin)?.ok_or_else(no_owner)?;
        self.session(&owner.sub).await
    }
}

/// An owner with a good token.
#[derive(Clone, Debug)]
pub struct Session {
    pub(super) owners: Owners,
    /// As kept.
    pub owner: Owner,
}

impl Session {
    /// Whether the answer of a call is the last word: once, it is asked again with new tokens, if the maker does not take
    /// the ones that were there.
    pub(super) async fn settle<T>(
        &mut self,
        answer: Result<T, ApiError>,
        is_second: &mut bool,
    ) -> Result<Option<T>, OwnersError> {
        let is_refused = matches!(answer, Err(ApiError::TokenExpired { .. } | ApiError::Reauthorize { .. }));
        if is_refused && !std::mem::replace(is_second, true) {
            // Also "consent revoked", which was a false alarm at times: the refresh tells.
            self.refresh().await?;
            return Ok(None);
        }
        let kept = self.owners.vault.owner(&self.owner.sub)?.map(|owner| owner.base);
        if kept.is_some_and(|kept| kept != self.owner.base) {
            self.owners.vault.set_base(&self.owner.sub, &self.owner.base)?;
        }
        Ok(Some(answer?))
    }

    /// Which vehicles are his now.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn look_for_vehicles(&mut self) -> Result<(), OwnersError> {
        let vehicles = self.vehicles().await?;
        Ok(self.owners.vault.set_vehicles(&self.owner.sub, &vehicles)?)
    }

    /// New tokens, unless another process has just got them.
    ///
    /// # Errors
    /// [`OwnersError`].
    pub async fn refresh(&mut self) -> Result<(), OwnersError> {
        let vault = self.owners.vault.clone();
        let (sub, name) = (self.owner.sub.clone(), Arc::clone(&self.owners.name));
        for _ in 0..LOOKS {
            let Some(leased) = vault.lease(&sub, &name, now(), LEASE)? else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            if leased.tokens != self.owner.tokens && leased.state == OwnerState::Good {
                vault.release(&sub, &name, OwnerState::Good)?;
                self.owner = leased;
                return Ok(());
            }
            return self.refresh_leased(&leased.tokens).await;
        }
        Err(OwnersError::Busy)
    }

    async fn refresh_leased(&mut self, tokens: &OwnerTokens) -> Result<(), OwnersError> {
        let vault = &self.owners.vault;
        let (sub, name) = (&self.owner.sub, &self.owners.name);
        let fresh = self.owners.api.refresh(&tokens.refresh).await;
        let fresh = match fresh.and_then(|tokens| Ok((Claims::read(&tokens.access)?, tokens))) {
            Ok(fresh) => fresh,
            Err(error) => {
                let is_over = matches!(error, ApiError::Reauthorize { .. });
                let state = if is_over { OwnerState::Reauthorize } else { self.owner.state };
                vault.release(sub, name, state)?;
                return Err(error.into());
            }
        };
        let (claims, tokens) = fresh;
        // Before anything else: the old one works no more.
        vault.keep(&self.owner.base, &tokens, &claims)?;
        self.owner = vault.owner(sub)?.ok_or(OwnersError::State)?;
        Ok(())
    }
}

/// 256 bits that nobody guesses.
fn random() -> Result<String, OwnersError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| OwnersError::NoRandomness)?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}
