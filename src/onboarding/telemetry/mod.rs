//! What a vehicle is told to send: its configuration, judged by the rules of the vehicle maker before anything is sent,
//! with every mistake at once. The maker's own answer names one at a time, and some it accepts and never applies.

pub mod build;
pub mod cost;
mod fields;
mod firmware;
mod judge;
mod shape;
mod trust;

use serde_json::{Map, Value};

pub use self::firmware::Version;
pub use self::judge::{Facts, Judgement, judge};
use crate::proto::vehicle_data::Field;
use crate::scope::{self, Scope};

/// A document as the maker's tools take it: `{"vins": […], "config": {…}}`, or the configuration alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// For which vehicles; empty when it was not said.
    pub vins: Vec<String>,
    /// What they are told.
    pub config: Map<String, Value>,
}

/// Why a document is none.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON of another form.
    #[error("{member}: expected {expected}")]
    Form {
        /// Where.
        member: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
}

impl Document {
    /// Reads one.
    ///
    /// # Errors
    /// [`DocumentError`]. What the configuration holds is up to [`judge()`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let form = |member, expected| DocumentError::Form { member, expected };
        let Value::Object(mut document) = serde_json::from_slice(bytes)? else {
            return Err(form("the document", "an object"));
        };
        if !document.contains_key("config") && !document.contains_key("vins") {
            return Ok(Self { vins: Vec::new(), config: document });
        }
        let vins = match document.remove("vins") {
            None | Some(Value::Null) => Vec::new(),
            Some(vins) => serde_json::from_value(vins).map_err(|_| form("vins", "a list of texts"))?,
        };
        match document.remove("config") {
            Some(Value::Object(config)) => Ok(Self { vins, config }),
            // The maker's proxy ends without an answer here.
            _ => Err(form("config", "an object")),
        }
    }

    /// The names of the fields that are asked for, known or not.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.config
            .get("fields")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|fields| fields.keys().map(String::as_str))
    }

    /// Those that the owner has to have allowed location for.
    pub fn location_fields(&self) -> impl Iterator<Item = &str> {
        self.field_names().filter(|name| needs_location(name))
    }
}

/// Whether the maker sends this field only with the owner's scope `vehicle_location`. `GpsAccuracyMeters` is not
/// documented; it is counted among them, which costs nothing but a question more.
#[must_use]
pub fn needs_location(name: &str) -> bool {
    let field = Field::from_str_name(name);
    let scopes = field.and_then(|field| scope::of(field as i32, false)).unwrap_or_default();
    scopes.contains(Scope::VehicleLocation) || field == Some(Field::GpsAccuracyMeters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_proxys_or_the_configuration_alone() {
        let both = Document::parse(br#"{"vins": ["5YJ3E1EA1KF000001"], "config": {"port": 443}}"#).unwrap();
        assert_eq!((both.vins.len(), both.config["port"].as_i64()), (1, Some(443)));
        let alone = Document::parse(br#"{"hostname": "h", "fields": {"Soc": {}, "Location": {}}}"#).unwrap();
        assert_eq!(alone.field_names().count(), 2);
        assert_eq!(alone.location_fields().collect::<Vec<_>>(), ["Location"]);
        for text in ["", "[]", r#"{"vins": []}"#, r#"{"config": null}"#, r#"{"vins": "x", "config": {}}"#] {
            assert!(Document::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn being_at_home_needs_no_location() {
        assert!(needs_location("GpsState") && needs_location("GpsAccuracyMeters"));
        assert!(!needs_location("LocatedAtHome") && !needs_location("Soc") && !needs_location("Nonsense"));
    }
}
