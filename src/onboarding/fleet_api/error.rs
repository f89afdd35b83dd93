//! What went wrong at the vehicle maker's, told apart by what a person can do about it.

use std::time::Duration;

use hyper::header::RETRY_AFTER;
use serde_json::Value;

use crate::escape::escape;
use crate::onboarding::web::{Answer, WebError};

/// Longest text of the maker's that is shown, in bytes.
const TEXT_BYTES: usize = 300;

/// An error of the maker's API. None of them holds a token.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing came back.
    #[error("{0}")]
    Web(#[from] WebError),
    /// 400: the request.
    #[error("the vehicle maker refuses the request: {text}")]
    BadRequest {
        /// In its words.
        text: String,
    },
    /// 401: the access token has ended.
    #[error("the access token is not accepted: {text}")]
    TokenExpired {
        /// In its words.
        text: String,
    },
    /// The owner's consent, or the session, is over.
    #[error("the owner has to authorize again: {text}")]
    Reauthorize {
        /// In its words.
        text: String,
    },
    /// 401: mobile access is off, or the account was never used in the phone app.
    #[error("the owner's account: {text}; switch on mobile access in the car, and sign in to the phone app once")]
    Account {
        /// In its words.
        text: String,
    },
    /// 402.
    #[error("the vehicle maker wants a payment: {text}; see the billing page of the developer portal")]
    Payment {
        /// In its words.
        text: String,
    },
    /// 403: one or more scopes were not given, or were taken back.
    #[error("the owner has not given {}; ask again with prompt_missing_scopes", scopes.join(", "))]
    MissingScopes {
        /// Which.
        scopes: Vec<String>,
    },
    /// 403 for another reason.
    #[error("not allowed: {text}")]
    Forbidden {
        /// In its words.
        text: String,
    },
    /// 404: not in this account.
    #[error("not found: {text}; is it this owner's vehicle?")]
    NotFound {
        /// In its words.
        text: String,
    },
    /// 408: offline or asleep.
    #[error("the vehicle is offline or asleep; wait, and do not wake it")]
    Asleep,
    /// 412: the application is not registered there.
    #[error("not registered: {text}; run `fleet-telemetry partner register`")]
    NotRegistered {
        /// In its words.
        text: String,
    },
    /// 421: the owner belongs to another region.
    #[error("the owner belongs to another region, {base}")]
    OtherRegion {
        /// Where the maker says that he is.
        base: String,
    },
    /// An answer names a host that is not the maker's.
    #[error(
        "an answer says to go on at {named:?}, which is not a host of the vehicle maker; the token was not sent there. If it \
         is one, add it to onboarding.maker.api_urls or host_suffixes"
    )]
    ForeignHost {
        /// Escaped.
        named: String,
    },
    /// 422: there already.
    #[error("there already: {text}")]
    Taken {
        /// In its words.
        text: String,
    },
    /// 424: the maker cannot read our key.
    #[error("the vehicle maker cannot read the public key: {text}; run `fleet-telemetry keys check`")]
    KeyUnreadable {
        /// In its words.
        text: String,
    },
    /// 429.
    #[error("too many requests{}", retry_after.map(|wait| format!("; try again in {} s", wait.as_secs())).unwrap_or_default())]
    TooMany {
        /// What the maker asks for.
        retry_after: Option<Duration>,
    },
    /// 5xx and the like.
    #[error("the vehicle maker's side fails (status {status}): {text}")]
    Theirs {
        /// Its status.
        status: u16,
        /// In its words.
        text: String,
    },
    /// HTML, mostly: something in between has answered.
    #[error("an answer that is not JSON (status {status}, begins with \"{begin}\")")]
    NotJson {
        /// Its status.
        status: u16,
        /// Escaped.
        begin: String,
    },
    /// JSON of another form.
    #[error("the vehicle maker sends {what}")]
    Unexpected {
        /// What it sends.
        what: &'static str,
    },
}

impl ApiError {
    /// Of an answer without success.
    pub(super) fn of(answer: &Answer) -> Self {
        let status = answer.status.as_u16();
        if status == 429 {
            let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return Self::TooMany { retry_after: seconds.map(Duration::from_secs) };
        }
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return Self::not_json(answer) };
        let text = escape(words(&body).as_bytes(), TEXT_BYTES);
        match status {
            400 => Self::BadRequest { text },
            401 => Self::unauthorized(text),
            402 => Self::Payment { text },
            403 => Self::forbidden(text),
            404 => Self::NotFound { text },
            408 => Self::Asleep,
            412 => Self::NotRegistered { text },
            421 => match text.split_whitespace().find(|word| word.starts_with("https://")) {
                Some(base) => Self::OtherRegion { base: base.trim_end_matches(['.', ',', ';', '"']).to_owned() },
                None => Self::Unexpected { what: "421 without the address of the other region" },
            },
            422 => Self::Taken { text },
            424 => Self::KeyUnreadable { text },
            _ => Self::Theirs { status, text },
        }
    }

    pub(super) fn not_json(answer: &Answer) -> Self {
        Self::NotJson { status: answer.status.as_u16(), begin: escape(&answer.body, 60) }
    }

    fn unauthorized(text: String) -> Self {
        let lower = text.to_ascii_lowercase();
        if lower.contains("revoked consent") || lower.contains("login_required") {
            Self::Reauthorize { text }
        } else if lower.contains("mobile_access_disabled") || lower.contains("unknown user") {
            Self::Account { text }
        } else {
            Self::TokenExpired { text }
        }
    }

    fn forbidden(text: String) -> Self {
        let named = text.to_ascii_lowercase().contains("missing scopes");
        let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inside, _)| inside);
        match inside.filter(|_| named) {
            Some(inside) => {
                let names = inside.split([' ', ',']).filter(|name| !name.is_empty());
                Self::MissingScopes { scopes: names.map(str::to_owned).collect() }
            }
            None => Self::Forbidden { text },
        }
    }

    /// The same request may succeed a moment later. Never a sign that somebody has withdrawn anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Web(error) => !matches!(error, WebError::Address { .. }),
            Self::TooMany { .. } | Self::NotJson { .. } => true,
            Self::Theirs { status, .. } => *status == 499 || *status >= 500,
            _ => false,
        }
    }

    /// What the maker asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::TooMany { retry_after } = self { *retry_after } else { None }
    }

    /// What programs can rely on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Web(_) => "unreachable",
            Self::BadRequest { .. } => "bad_request",
            Self::TokenExpired { .. } => "token_expired",
            Self::Reauthorize { .. } => "reauthorize",
            Self::Account { .. } => "account",
            Self::Payment { .. } => "payment",
            Self::MissingScopes { .. } => "scope_missing",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound { .. } => "not_in_account",
            Self::Asleep => "asleep",
            Self::NotRegistered { .. } => "not_registered",
            Self::OtherRegion { .. } => "region",
            Self::ForeignHost { .. } => "foreign_host",
            Self::Taken { .. } => "taken",
            Self::KeyUnreadable { .. } => "key_unreadable",
            Self::TooMany { .. } => "too_many_requests",
            Self::Theirs { .. } | Self::NotJson { .. } | Self::Unexpected { .. } => "maker_failure",
        }
    }
}

/// `error`, `error_description` and `messages`, in one line.
fn words(body: &Value) -> String {
    let text = |member: &str| body.get(member).and_then(Value::as_str).filter(|text| !text.is_empty());
    let messages = body.get("messages").filter(|messages| !messages.is_null()).map(Value::to_string);
    let parts = [text("error").map(str::to_owned), text("error_description").map(str::to_owned), messages];
    let joined = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
    if joined.is_empty() { "it does not say why".to_owned() } else { joined }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::http::StatusCode;

    use super::*;

    fn error(status: u16, body: &str) -> ApiError {
        let status = StatusCode::from_u16(status).unwrap();
        ApiError::of(&Answer { status, headers: HeaderMap::new(), body: body.to_owned().into() })
    }

    #[test]
    fn each_answer_is_told_by_what_a_person_can_do() {
        for (status, body, code) in [
            (400, r#"{"error": "Unknown field X"}"#, "bad_request"),
            (401, r#"{"error": "token expired (401)"}"#, "token_expired"),
            (401, r#"{"error": "login_required", "error_description": "User revoked the consent"}"#, "reauthorize"),
            (401, r#"{"error": "User revoked consent"}"#, "reauthorize"),
            (401, r#"{"error": "mobile_access_disabled"}"#, "account"),
            (402, "{}", "payment"),
            (403, r#"{"error": "Unauthorized missing scopes [vehicle_location vehicle_cmds]"}"#, "scope_missing"),
            (403, r#"{"error": "unsupported vehicle"}"#, "forbidden"),
            (404, r#"{"error": "5YJ not_found"}"#, "not_in_account"),
            (408, "{}", "asleep"),
            (412, r#"{"error": "Account must be registered in the current region"}"#, "not_registered"),
            (421, r#"{"error": "user out of region, use base URL: https://fleet-api.x"}"#, "region"),
            (421, "{}", "maker_failure"),
            (422, r#"{"error": "already been taken"}"#, "taken"),
            (424, r#"{"error": "Public key download failed"}"#, "key_unreadable"),
            (429, "", "too_many_requests"),
            (503, "{}", "maker_failure"),
            (540, "<html>", "maker_failure"),
        ] {
            assert_eq!(error(status, body).code(), code, "{status} {body}");
        }
        let missing = error(403, r#"{"error": "Unauthorized missing scopes [vehicle_location vehicle_cmds]"}"#);
        assert!(
            matches!(missing, ApiError::MissingScopes { scopes } if scopes == ["vehicle_location", "vehicle_cmds"])
        );
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for (status, body, passes) in
            [(500, "{}", true), (502, "<html>", true), (429, "", true), (400, "{}", false), (401, "{}", false)]
        {
            assert_eq!(error(status, body).is_passing(), passes, "{status}");
        }
    }

    #[test]
    fn what_the_maker_says_is_shown_escaped_and_cut() {
        let text = error(400, &serde_json::json!({"error": "\u{1b}[31m\n".repeat(500)}).to_string()).to_string();
        assert!(!text.contains('\u{1b}') && !text.contains('\n') && text.len() < 1000, "{text}");
    }
}
