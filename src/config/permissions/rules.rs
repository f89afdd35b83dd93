//! `permissions`: what is withheld, and how.

use std::sync::Arc;

use regex::Regex;
use strum::VariantArray;

use super::FilePermissions;
use crate::config::error::{ConfigError, Problems};
use crate::config::json::Json;
use crate::config::section::FromJson;
use crate::scope::{Scope, Scopes};

/// Whether and how the filter acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is looked at.
    Off,
    /// What would be withheld is counted, and passes.
    Audit,
    /// It is withheld.
    Enforce,
}

/// What becomes of a datum that is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It disappears.
    Drop,
    /// Its key stays, its value is marked invalid.
    Invalid,
    /// Coordinates are rounded to so many decimals of a degree; what has no coordinates disappears.
    Coarsen(u8),
}

/// The configured rules; fixed while the process lives.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Off, audit or enforce.
    pub mode: Mode,
    /// What happens to a withheld datum.
    pub action: Action,
    /// Also the fields that reveal a place indirectly, and unknown field numbers.
    pub strict: bool,
    /// A vehicle without an entry is denied.
    pub deny_unknown: bool,
    /// A `V` record of which nothing is left goes nowhere.
    pub skip_empty: bool,
    /// What else counts as coordinates in texts of `alerts`, `errors` and `connectivity`.
    pub patterns: Arc<[Regex]>,
    /// The scopes that are enforced.
    pub enforced: Scopes,
}

impl Rules {
    /// No filter.
    #[must_use]
    pub fn off() -> Self {
        Self {
            mode: Mode::Off,
            action: Action::Drop,
            strict: false,
            deny_unknown: false,
            skip_empty: false,
            patterns: Arc::new([]),
            enforced: Scopes::NONE,
        }
    }
}

/// `permissions.action`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAction {
    /// `drop` or `invalid`.
    Named(String),
    /// `{"coarsen": decimals}`.
    Coarsen(i64),
}

impl FromJson for FileAction {
    const EXPECTED: &'static str = "\"drop\", \"invalid\" or {\"coarsen\": 0 to 7}";

    fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::String(name) => Some(Self::Named(name.clone())),
            Json::Object(entries) => match entries.as_slice() {
                [(key, decimals)] if key == "coarsen" => i64::from_json(decimals).map(Self::Coarsen),
                _ => None,
            },
            _ => None,
        }
    }
}

pub(super) fn resolve(section: &FilePermissions, problems: &mut Problems) -> Rules {
    let rules = Rules {
        mode: mode(section.mode.as_deref(), problems),
        action: action(section.action.as_ref(), problems),
        // The stricter of two choices unless the operator makes the other one.
        strict: section.strict.unwrap_or(true),
        deny_unknown: deny_unknown(section.default.as_deref(), problems),
        enforced: scopes(section.scopes.as_deref(), problems),
        skip_empty: skip_empty(section.empty_records.as_deref(), problems),
        patterns: patterns(section.patterns.as_deref(), problems).into(),
    };
    if rules.mode == Mode::Enforce && !rules.deny_unknown {
        problems.advise(
            "permissions.default",
            "with \"allow\" the data of a vehicle pass although its owner has said nothing; \"deny\" withholds them",
        );
    }
    rules
}

fn skip_empty(empty_records: Option<&str>, problems: &mut Problems) -> bool {
    match empty_records {
        None | Some("deliver") => false,
        Some("skip") => true,
        Some(other) => {
            problems.not_allowed("permissions.empty_records", other, "deliver, skip");
            false
        }
    }
}

fn mode(mode: Option<&str>, problems: &mut Problems) -> Mode {
    match mode {
        Some("off") => Mode::Off,
        Some("audit") => Mode::Audit,
        Some("enforce") => Mode::Enforce,
        Some(other) => {
            problems.not_allowed("permissions.mode", other, "off, audit, enforce");
            Mode::Enforce
        }
        None => {
            let remedy = "give \"off\", \"audit\" (counts what would be withheld) or \"enforce\"";
            problems.error(ConfigError::Missing { key: "permissions.mode", remedy });
            Mode::Enforce
        }
    }
}

fn action(action: Option<&FileAction>, problems: &mut Problems) -> Action {
    match action {
        None => Action::Drop,
        Some(FileAction::Named(name)) => match name.as_str() {
            "drop" => Action::Drop,
            "invalid" => Action::Invalid,
            other => {
                problems.not_allowed("permissions.action", other, "drop, invalid, {\"coarsen\": 0 to 7}");
                Action::Drop
            }
        },
        // Seven decimals of a degree are a centimetre.
        Some(FileAction::Coarsen(decimals)) => {
            Action::Coarsen(problems.number("permissions.action.coarsen", Some(*decimals), 0..=7, 0))
        }
    }
}

fn deny_unknown(default: Option<&str>, problems: &mut Problems) -> bool {
    match default {
        None | Some("deny") => true,
        Some("allow") => false,
        Some(other) => {
            problems.not_allowed("permissions.default", other, "deny, allow");
            true
        }
    }
}

fn scopes(names: Option<&[String]>, problems: &mut Problems) -> Scopes {
    let Some(names) = names else { return Scopes::NONE.with(Scope::VehicleLocation) };
    if names.is_empty() {
        let remedy = "name at least one, such as \"vehicle_location\", or leave the key out";
        problems.error(ConfigError::Missing { key: "permissions.scopes", remedy });
    }
    names.iter().enumerate().fold(Scopes::NONE, |scopes, (at, name)| match Scope::parse(name) {
        Some(scope) => scopes.with(scope),
        None => {
            let allowed = Scope::VARIANTS.iter().map(|scope| scope.label()).collect::<Vec<_>>().join(", ");
            problems.not_allowed(format!("permissions.scopes[{at}]"), name, allowed);
            scopes
        }
    })
}

fn patterns(patterns: Option<&[String]>, problems: &mut Problems) -> Vec<Regex> {
    let mut compiled = Vec::new();
    for (at, pattern) in patterns.unwrap_or_default().iter().enumerate() {
        match Regex::new(pattern) {
            // It would put the mask between all letters.
            Ok(regex) if regex.is_match("") => {
                problems.not_allowed(
                    format!("permissions.patterns[{at}]"),
                    pattern,
                    "expressions that do not match nothing",
                );
            }
            Ok(regex) => compiled.push(regex),
            Err(_) => {
                problems.not_allowed(format!("permissions.patterns[{at}]"), pattern, "regular expressions");
            }
        }
    }
    compiled
}
