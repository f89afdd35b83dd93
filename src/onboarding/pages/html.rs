//! HTML by hand: everything that is not a constant goes through [`text`].

use std::fmt::Write;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// Nothing from anywhere else, and no scripts but ours.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; frame-ancestors 'none'";

pub(super) const STYLE: &str = include_str!("style.css");
pub(super) const SCRIPT: &str = include_str!("poll.js");

/// `value`, as text in HTML or in a quoted attribute.
pub(super) fn text(value: &str) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
        escaped
    })
}

pub(super) fn list<'i>(items: impl IntoIterator<Item = &'i str>, tag: &str) -> String {
    let items = items.into_iter().fold(String::new(), |mut list, item| {
        // Writing to a string cannot fail.
        let _ = write!(list, "<li>{}</li>", text(item));
        list
    });
    format!("<{tag}>{items}</{tag}>")
}

/// A form that does something, for a session.
pub(super) fn form(action: &str, proof: &str, button: &str) -> String {
    let (action, proof, button) = (text(action), text(proof), text(button));
    format!(
        "<form method=\"post\" action=\"{action}\"><input type=\"hidden\" name=\"proof\" value=\"{proof}\"><button>{button}</button></form>"
    )
}

/// A whole page.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let title = text(title);
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
         <link rel=\"stylesheet\" href=\"/style.css\"></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // The address of the callback holds a code.
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, page).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_text() {
        let shown = text("<script>\"'&");
        assert_eq!(shown, "&lt;script&gt;&quot;&#39;&amp;");
        assert_eq!(list(["<b>"], "ul"), "<ul><li>&lt;b&gt;</li></ul>");
    }
}
