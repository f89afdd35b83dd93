//! The answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{self, Extension};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::scrapes::Scrapes;
use super::{Phase, State, Surface};
use crate::escape::escape;
use crate::http::Line;
use crate::metrics;

/// Longest reason that is shown, in bytes.
const REASON_BYTES: usize = 500;

type Shared = extract::State<Arc<State>>;

pub(super) fn router(surface: Surface, state: Arc<State>) -> Router {
    let router = Router::new().route("/livez", any(livez)).route("/readyz", any(readyz));
    match surface {
        Surface::Status => router.route("/status", any(status)),
        Surface::Metrics => {
            let scrapes = Arc::new(Scrapes::default());
            router.route("/metrics", any(move |state, line| scrape(scrapes, state, line)))
        }
    }
    .fallback(not_found)
    .with_state(state)
}

async fn status() -> &'static str {
    "ok"
}

async fn livez() -> &'static str {
    "ok"
}

async fn readyz(extract::State(state): Shared) -> (StatusCode, String) {
    let mut reasons = Vec::new();
    match state.readiness.phase() {
        Phase::Ready => {}
        phase => reasons.push(phase.label().to_owned()),
    }
    for unhealthy in (state.unhealthy)() {
        reasons.push(format!("{}: {}", unhealthy.part, escape(unhealthy.reason.as_bytes(), REASON_BYTES)));
    }
    if reasons.is_empty() {
        return (StatusCode::OK, Phase::Ready.label().to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
}

async fn scrape(scrapes: Arc<Scrapes>, extract::State(state): Shared, Extension(line): Extension<Line>) -> Response {
    match scrapes.text(&state.metrics, &line).await {
        Some(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}
