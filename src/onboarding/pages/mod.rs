//! Pages for owners, on the listener for everybody: why, consent, each car's next step, and the way back. They work
//! without JavaScript, but for the poll that says "done" by itself.
//!
//! | path | |
//! |---|---|
//! | `GET /connect`, `POST /connect` | what is wanted and why; on to the maker |
//! | `GET /callback` | back from there |
//! | `GET /vehicles` | the owner's cars, and what each needs next |
//! | `GET /vehicles/{vin}`, `…/state` | pairing; its state for the poll |
//! | `POST /vehicles/{vin}/start` | the car is told what to send |
//! | `GET /vehicles/{vin}/withdraw`, `POST` | the way back |

mod html;
mod sessions;
mod steps;
mod texts;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};

use self::sessions::Sessions;
use super::consent::{self, Asked};
use super::follow::Follower;
use super::key::FleetKey;
use super::owners::Owners;
use crate::config;

/// What the pages are made of.
#[derive(Debug)]
pub struct Pages {
    section: config::Onboarding,
    key: FleetKey,
    owners: Owners,
    /// `None`: grants are not ours to write.
    follower: Option<Arc<Follower>>,
    asked: Vec<Asked>,
    sessions: Sessions,
}

impl Pages {
    /// Pages about `owners`.
    #[must_use]
    pub fn new(section: config::Onboarding, key: FleetKey, owners: Owners, follower: Option<Arc<Follower>>) -> Self {
        let fields = section.telemetry.iter().flat_map(|telemetry| telemetry.fields.keys());
        let asked = consent::asked(fields.map(String::as_str));
        Self { asked, section, key, owners, follower, sessions: Sessions::default() }
    }

    /// Cookies go over TLS alone when the pages do.
    fn is_secure(&self) -> bool {
        self.section.application.as_ref().is_some_and(|application| application.redirect_uri.starts_with("https:"))
    }
}

/// All pages.
pub fn router(pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/connect", get(steps::connect).post(steps::leave))
        .route("/callback", get(steps::callback))
        .route("/vehicles", get(steps::vehicles))
        .route("/vehicles/{vin}", get(steps::vehicle))
        .route("/vehicles/{vin}/state", get(steps::state))
        .route("/vehicles/{vin}/start", post(steps::start))
        .route("/vehicles/{vin}/withdraw", get(steps::ask_withdraw).post(steps::withdraw))
        .route("/style.css", get(async || ([(CONTENT_TYPE, "text/css")], html::STYLE)))
        .route("/poll.js", get(async || ([(CONTENT_TYPE, "text/javascript")], html::SCRIPT)))
        .with_state(pages)
}
