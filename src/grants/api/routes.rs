//! Which path is answered by what.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, Router, middleware};

use super::refusal::Refusal;
use super::view::HealthView;
use super::{Api, OPENAPI, auth, transfer, vehicles};
use crate::grants::Health;

/// Everything that needs a caller who may: method, path, answer.
pub(super) fn routes() -> Vec<(&'static str, &'static str, MethodRouter<Arc<Api>>)> {
    vec![
        ("get", "/v1/vehicles", get(vehicles::list)),
        ("get", "/v1/vehicles/{vin}", get(vehicles::show)),
        ("put", "/v1/vehicles/{vin}/scopes/{scope}", put(vehicles::put)),
        ("get", "/v1/vehicles/{vin}/history", get(vehicles::history)),
        ("get", "/v1/vehicles/{vin}/access", get(vehicles::access)),
        ("post", "/v1/import", post(transfer::import)),
        ("get", "/v1/export", get(transfer::export)),
        ("get", "/v1/health", get(health)),
    ]
}

/// The only path for everybody.
pub(super) const OPENAPI_PATH: &str = "/openapi.json";

pub(super) fn router(api: Arc<Api>) -> Router {
    let guarded = routes().into_iter().fold(Router::new(), |router, (_, path, answer)| router.route(path, answer));
    guarded
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::authorize))
        .route(OPENAPI_PATH, get(openapi))
        .layer(middleware::map_response(uncached))
        .with_state(api)
}

async fn openapi() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn health(State(api): State<Arc<Api>>) -> Response {
    let health = api.authority.health();
    let status = match &health {
        Health::Loaded | Health::Stale { .. } => StatusCode::OK,
        Health::Loading | Health::Lost { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(HealthView::from(health))).into_response()
}

async fn not_found(request: Request) -> Refusal {
    Refusal::not_found(request.uri().path())
}

async fn method_not_allowed(request: Request) -> Refusal {
    Refusal::method(request.method().as_str())
}

/// An answer holds for the moment in which it is given.
async fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
