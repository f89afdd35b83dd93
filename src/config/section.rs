//! Reads one JSON object key by key.
//!
//! The keys that the code asks for are the keys that exist: everything else in the object is reported
//! as unknown, so there is no second list to keep in step.

use std::time::Duration;

use super::duration;
use super::error::{ConfigError, Problems, Warning};
use super::json::Json;

/// An object of fixed keys. Keys match whatever their case; `null` counts as absent.
pub(super) struct Section<'a> {
    path: String,
    entries: Vec<Entry>,
    asked: Vec<&'static str>,
    problems: &'a mut Problems,
}

struct Entry {
    key: String,
    value: Json,
    taken: bool,
}

/// Maps one JSON value to a Rust one.
pub(super) trait FromJson: Sized {
    /// In words, with an article.
    const EXPECTED: &'static str;

    /// `None` when the type is wrong.
    fn from_json(json: &Json) -> Option<Self>;
}

impl<'a> Section<'a> {
    /// Reads the whole document with `read`; `path` is empty.
    pub(super) fn document<T: Default>(
        json: Json,
        problems: &'a mut Problems,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        match json {
            Json::Object(entries) => Section::of(String::new(), entries, problems).read(read),
            other => {
                let error = ConfigError::WrongType {
                    key: "the document".to_owned(),
                    expected: "an object",
                    found: other.to_string(),
                    remedy: String::new(),
                };
                problems.error(error);
                T::default()
            }
        }
    }

    fn of(path: String, entries: Vec<(String, Json)>, problems: &'a mut Problems) -> Self {
        let mut section = Self { path, entries: Vec::with_capacity(entries.len()), asked: Vec::new(), problems };
        for (key, value) in entries {
            section.add(key, value);
        }
        section
    }

    /// As Go's decoder does: `null` changes nothing, objects merge, otherwise the later value wins.
    fn add(&mut self, key: String, value: Json) {
        if value == Json::Null {
            return;
        }
        let Some(at) = self.entries.iter().position(|entry| entry.key.eq_ignore_ascii_case(&key)) else {
            self.entries.push(Entry { key, value, taken: false });
            return;
        };
        self.problems.warn(Warning::RepeatedKey { key: self.path_of(&key) });
        match (&mut self.entries[at].value, value) {
            (Json::Object(first), Json::Object(second)) => first.extend(second),
            (earlier, later) => *earlier = later,
        }
    }

    /// A value of a plain type.
    pub(super) fn value<T: FromJson>(&mut self, name: &'static str) -> Option<T> {
        let json = self.take(name)?;
        let value = T::from_json(&json);
        if value.is_none() {
            self.wrong_type(name, T::EXPECTED, &json);
        }
        value
    }

    /// A text that is not shown, whatever is wrong with it.
    pub(super) fn secret(&mut self, name: &'static str) -> Option<String> {
        let json = self.take(name)?;
        let value = String::from_json(&json);
        if value.is_none() {
            let (key, found) = (self.path_of(name), "something else".to_owned());
            self.problems.error(ConfigError::WrongType {
                key,
                expected: String::EXPECTED,
                found,
                remedy: String::new(),
            });
        }
        value
    }

    /// The same for a key that is not to be suggested for another one.
    pub(super) fn hidden_value<T: FromJson>(&mut self, name: &'static str) -> Option<T> {
        let asked = self.asked.len();
        let value = self.value(name);
        self.asked.truncate(asked);
        value
    }

    /// A duration: integer nanoseconds, or a string with units.
    pub(super) fn duration(&mut self, name: &'static str) -> Option<Duration> {
        /// Integers below this many nanoseconds are mistakes.
        const TINY: u64 = 1_000_000;
        let json = self.take(name)?;
        let value = match &json {
            Json::Number(number) => number.as_u64().map(Duration::from_nanos),
            Json::String(text) => duration::parse(text),
            _ => None,
        };
        match (&json, value) {
            (_, None) => self.wrong_type(name, duration::FORM, &json),
            (Json::Number(number), _) if number.as_u64().is_some_and(|nanos| (1..TINY).contains(&nanos)) => {
                let nanos = number.as_u64().unwrap_or_default();
                self.problems.warn(Warning::TinyDuration { key: self.path_of(name), nanos });
            }
            _ => {}
        }
        value
    }

    /// A nested object of fixed keys.
    pub(super) fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        let entries = self.entries(name)?;
        Some(Section::of(self.path_of(name), entries, self.problems).read(read))
    }

    /// A nested object whose keys are data: case matters, and of equal ones the last counts.
    pub(super) fn map(&mut self, name: &'static str) -> Option<Vec<(String, Json)>> {
        let entries = self.entries(name)?;
        let mut unique: Vec<(String, Json)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match unique.iter_mut().find(|(known, _)| *known == key) {
                None => unique.push((key, value)),
                Some((_, earlier)) => {
                    *earlier = value;
                    self.problems.warn(Warning::RepeatedKey { key: self.path_of(&format!("{name}.{key}")) });
                }
            }
        }
        Some(unique)
    }

    /// A map whose values are of one plain type.
    pub(super) fn map_of<T: FromJson>(&mut self, name: &'static str) -> Option<Vec<(String, T)>> {
        let entries = self.map(name)?;
        let mut values = Vec::with_capacity(entries.len());
        for (key, json) in entries {
            match T::from_json(&json) {
                Some(value) => values.push((key, value)),
                None => self.wrong_type(&format!("{name}.{key}"), T::EXPECTED, &json),
            }
        }
        Some(values)
    }

    /// A key that may be given and is not looked into. Tells whether it is there.
    pub(super) fn accept(&mut self, name: &'static str) -> bool {
        self.take(name).is_some()
    }

    /// A key that may be given although it does nothing, with the reason.
    pub(super) fn ineffective(&mut self, name: &'static str, why: &'static str) {
        // Not a name to suggest for another one.
        let asked = self.asked.len();
        if self.accept(name) {
            self.problems.warn(Warning::NoEffect { key: self.path_of(name), why });
        }
        self.asked.truncate(asked);
    }

    fn read<T>(mut self, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let value = read(&mut self);
        let unknown: Vec<_> = self.entries.iter().filter(|entry| !entry.taken).map(|entry| &entry.key).collect();
        for key in unknown {
            let nearest = nearest(key, &self.asked);
            self.problems.warn(Warning::UnknownKey { key: self.path_of(key), nearest });
        }
        value
    }

    fn entries(&mut self, name: &'static str) -> Option<Vec<(String, Json)>> {
        match self.take(name)? {
            Json::Object(entries) => Some(entries),
            other => {
                self.wrong_type(name, "an object", &other);
                None
            }
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Json> {
        self.asked.push(name);
        let entry = self.entries.iter_mut().find(|entry| entry.key.eq_ignore_ascii_case(name))?;
        entry.taken = true;
        Some(std::mem::replace(&mut entry.value, Json::Null))
    }

    fn wrong_type(&mut self, name: &str, expected: &'static str, found: &Json) {
        let key = self.path_of(name);
        let remedy = remedy(expected, found);
        self.problems.error(ConfigError::WrongType { key, expected, found: found.to_string(), remedy });
    }

    fn path_of(&self, key: &str) -> String {
        let key = crate::escape::escape(key.as_bytes(), 80);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

/// What the value was probably meant to be, behind a semicolon.
fn remedy(expected: &str, found: &Json) -> String {
    let written = match found {
        Json::String(text) if expected == i64::EXPECTED => {
            text.trim().parse().ok().map(|number: i64| number.to_string())
        }
        Json::String(text) if expected == bool::EXPECTED => {
            text.trim().to_ascii_lowercase().parse().ok().map(|flag: bool| flag.to_string())
        }
        Json::String(_) if expected == <Vec<String>>::EXPECTED => Some(format!("[{found}]")),
        Json::Number(_) | Json::Bool(_) if expected == String::EXPECTED => Some(format!("\"{found}\"")),
        Json::Object(entries) if expected == <Vec<String>>::EXPECTED => {
            let names: Vec<_> = entries.iter().map(|(key, _)| Json::String(key.clone()).to_string()).collect();
            Some(format!("[{}]", names.join(", ")))
        }
        _ => None,
    };
    written.map(|written| format!("; write {written}")).unwrap_or_default()
}

/// The known name that `key` was probably meant to be.
pub(super) fn nearest<'n>(key: &str, names: &[&'n str]) -> Option<&'n str> {
    /// Below this similarity (0 to 1) a suggestion would be a guess.
    const SIMILAR: f64 = 0.8;
    let key = key.to_ascii_lowercase();
    let similarity = |name: &str| strsim::jaro_winkler(&key, &name.to_ascii_lowercase());
    let (name, similarity) =
        names.iter().map(|name| (*name, similarity(name))).max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (similarity >= SIMILAR).then_some(name)
}

impl FromJson for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_json(json: &Json) -> Option<Self> {
        if let Json::Bool(value) = json { Some(*value) } else { None }
    }
}

impl FromJson for i64 {
    const EXPECTED: &'static str = "an integer";

    fn from_json(json: &Json) -> Option<Self> {
        if let Json::Number(number) = json { number.as_i64() } else { None }
    }
}

impl FromJson for String {
    const EXPECTED: &'static str = "a string";

    fn from_json(json: &Json) -> Option<Self> {
        if let Json::String(text) = json { Some(text.clone()) } else { None }
    }
}

impl FromJson for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";

    /// `null` is the empty list, as in Go.
    fn from_json(json: &Json) -> Option<Self> {
        match json {
            Json::Null => Some(Self::new()),
            Json::Array(items) => items.iter().map(String::from_json).collect(),
            _ => None,
        }
    }
}
