//! What a caller gets instead of what it asked for.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::grants::document::DocumentError;
use crate::grants::{ChangeError, Health, ImportError, Invalid};

/// What programs can rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// No token, or another one.
    Unauthorized,
    /// The request can never be answered as it is.
    BadRequest,
    /// Nothing is known of this vehicle.
    VehicleUnknown,
    /// Somebody else has changed the entry in between.
    VersionConflict,
    /// Grants are changed somewhere else.
    ReadOnly,
    /// The grants are not known, or cannot be written.
    StoreUnavailable,
    /// A consent cannot be put on record now.
    AuditUnavailable,
    /// No such path.
    NotFound,
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Box<Body>,
}

#[derive(Debug, Serialize)]
struct Body {
    code: Code,
    message: String,
    /// The member, parameter or header that is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Of an import, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Longest value that is sent back, in characters.
const VALUE_CHARS: usize = 200;

impl Refusal {
    fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        let body = Body { code, message: message.into(), field: None, value: None, row: None, hint: None };
        Self { status, body: Box::new(body) }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "no valid token came with the request")
            .hint("send `Authorization: Bearer <token>` with the token of permissions.api.token or token_file")
    }

    /// 400: `field` is to blame.
    pub(super) fn bad(field: impl Into<String>, value: &str, message: impl Into<String>) -> Self {
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, Code::BadRequest, message);
        refusal.body.field = Some(field.into());
        refusal.body.value = Some(value.chars().take(VALUE_CHARS).collect());
        refusal
    }

    /// 413.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the body is longer than {limit} bytes, or did not arrive whole");
        let mut refusal = Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::BadRequest, message);
        refusal.body.field = Some("body".to_owned());
        refusal
    }

    /// 415.
    pub(super) fn unsupported(content_type: &str) -> Self {
        let mut refusal = Self::bad("content-type", content_type, "neither application/json nor text/csv");
        refusal.status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        refusal
    }

    pub(super) fn vehicle_unknown(vin: &str) -> Self {
        let mut refusal =
            Self::new(StatusCode::NOT_FOUND, Code::VehicleUnknown, format!("there is no entry for vehicle {vin}"));
        refusal.body.field = Some("vin".to_owned());
        refusal.body.value = Some(vin.to_owned());
        refusal.hint("check the VIN, or record what its owner has said with PUT /v1/vehicles/{vin}/scopes/{scope}")
    }

    pub(super) fn not_found(path: &str) -> Self {
        let mut refusal = Self::new(StatusCode::NOT_FOUND, Code::NotFound, "there is no such path");
        refusal.body.field = Some("path".to_owned());
        refusal.body.value = Some(path.chars().take(VALUE_CHARS).collect());
        refusal.hint("GET /openapi.json describes what there is")
    }

    pub(super) fn method(method: &str) -> Self {
        let mut refusal = Self::bad("method", method, "this path does not take this method");
        refusal.status = StatusCode::METHOD_NOT_ALLOWED;
        refusal.hint("GET /openapi.json describes what there is")
    }

    /// 503, when the grants are not known.
    pub(super) fn unless_known(health: &Health) -> Result<(), Self> {
        let message = match health {
            Health::Loaded | Health::Stale { .. } => return Ok(()),
            Health::Loading => "the grants are being loaded".to_owned(),
            Health::Lost { error } => format!("the grants are not known: {error}"),
        };
        Err(Self::unavailable(message))
    }

    fn unavailable(message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::StoreUnavailable, message)
            .hint("until the store is back, nothing that needs a grant is delivered or changed; GET /v1/health tells")
    }

    pub(super) fn of_change(error: &ChangeError) -> Self {
        match error {
            ChangeError::Conflict { expected, actual } => {
                let mut refusal = Self::new(StatusCode::CONFLICT, Code::VersionConflict, error.to_string());
                refusal.body.field = Some("expected_version".to_owned());
                refusal.body.value = Some(expected.to_string());
                refusal.hint(format!("read the entry again and decide; it is now at version {actual} (0: no entry)"))
            }
            ChangeError::Invalid(invalid) => invalid.clone().into(),
            ChangeError::AuditFull => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::AuditUnavailable, error.to_string()).hint(
                    "see that the server's stderr is read and has space; refusals and revocations are still taken",
                )
            }
            ChangeError::ReadOnly => Self::new(StatusCode::FORBIDDEN, Code::ReadOnly, error.to_string())
                .hint("change the grants at their source"),
            ChangeError::Store(_) => Self::unavailable(error.to_string()),
        }
    }

    pub(super) fn of_import(error: &ImportError) -> Self {
        let mut refusal = Self::of_change(&error.error);
        // From 1, for the caller.
        refusal.body.row = Some(error.row + 1);
        refusal
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = Some(hint.into());
        self
    }

    /// The version came in `If-Match`, whose own status it is.
    pub(super) fn of_precondition(mut self) -> Self {
        if self.body.code == Code::VersionConflict {
            self.status = StatusCode::PRECONDITION_FAILED;
            self.body.field = Some("if-match".to_owned());
        }
        self
    }
}

impl From<Invalid> for Refusal {
    fn from(Invalid { field, value, reason }: Invalid) -> Self {
        Self::bad(field, &value, reason)
    }
}

impl From<DocumentError> for Refusal {
    fn from(DocumentError { row, field, value, reason }: DocumentError) -> Self {
        let mut refusal = Self::bad(field, value.as_deref().unwrap_or_default(), reason);
        refusal.body.row = row;
        refusal
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Envelope {
            error: Box<Body>,
        }
        let answer = (self.status, Json(Envelope { error: self.body }));
        if self.status == StatusCode::UNAUTHORIZED {
            return ([(WWW_AUTHENTICATE, "Bearer")], answer).into_response();
        }
        answer.into_response()
    }
}
