//! Permissions files, which are also what the API imports and exports: JSON, or CSV with the same columns.
//!
//! ```text
//! {"version": 1, "grants": [
//!   {"vin": "5YJ…", "scope": "vehicle_location", "state": "granted", "since": "2026-01-01T00:00:00Z",
//!    "expires": null, "source": "owner consent", "note": ""}
//! ]}
//!
//! vin,scope,state,since,expires,source,note
//! 5YJ…,vehicle_location,granted,2026-01-01T00:00:00Z,,owner consent,
//! ```
//!
//! `vin`, `scope` and `state` must be there, the others may be missing; the columns of CSV may come in any order, with
//! quotes as in RFC 4180. Times are RFC 3339.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_path_to_error::Segment;
use strum::VariantArray;

use super::change::{Actor, Change, Invalid};
use super::clock::{parse_rfc3339, rfc3339};
use crate::permissions::{Grant, State};
use crate::scope::Scope;

/// The form that is written, and the only one that is read.
const VERSION: u64 = 1;

/// The columns of the CSV form, in the order in which they are written. The first three must be there.
const COLUMNS: [&str; 7] = ["vin", "scope", "state", "since", "expires", "source", "note"];
const NEEDED: usize = 3;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Json,
    /// A header and one line per grant.
    Csv,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    grants: Vec<Row>,
}

/// One grant, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Of which vehicle.
    pub vin: String,
    /// The name of the scope.
    pub scope: String,
    /// `granted` or `denied`.
    pub state: String,
    /// From when; RFC 3339.
    pub since: Option<String>,
    /// Until when; RFC 3339.
    pub expires: Option<String>,
    /// Who said so.
    #[serde(default)]
    pub source: String,
    /// Anything else.
    #[serde(default)]
    pub note: String,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// The grant that is wrong, from 1 (with CSV, the header does not count); `None`: the document as a whole.
    pub row: Option<usize>,
    /// The member or column; `body` or `header` when it is none.
    pub field: Cow<'static, str>,
    /// As given; `None` when the fault has none.
    pub value: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

impl std::error::Error for DocumentError {}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { row, field, value, reason } = self;
        if let Some(row) = row {
            write!(f, "grant {row}: ")?;
        }
        match value {
            Some(value) => write!(f, "{field}: {value:?} {reason}"),
            None => write!(f, "{field}: {reason}"),
        }
    }
}

impl From<Invalid> for DocumentError {
    fn from(Invalid { field, value, reason }: Invalid) -> Self {
        Self { row: None, field: field.into(), value: Some(value), reason }
    }
}

impl DocumentError {
    fn new(field: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self { row: None, field: field.into(), value: None, reason: reason.into() }
    }

    fn with(self, value: impl Into<String>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    /// `row` counts from 0 here.
    pub(super) fn in_row(self, row: usize) -> Self {
        Self { row: Some(row + 1), ..self }
    }
}

impl Format {
    /// By the extension: CSV is `.csv`, everything else is JSON.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        if is_csv { Self::Csv } else { Self::Json }
    }

    /// All grants of a document. Only their form is looked at.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(self, bytes: &[u8]) -> Result<Vec<Row>, DocumentError> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        match self {
            Self::Json => from_json(bytes),
            Self::Csv => from_csv(bytes),
        }
    }

    /// A document of `rows`.
    #[must_use]
    pub fn render(self, rows: impl IntoIterator<Item = Row>) -> String {
        match self {
            Self::Json => to_json(rows),
            Self::Csv => to_csv(rows),
        }
    }
}

impl Row {
    /// As `grant` is written.
    #[must_use]
    pub fn of(vin: &str, scope: Scope, grant: &Grant) -> Self {
        Self {
            vin: vin.to_owned(),
            scope: scope.label().to_owned(),
            state: grant.state.label().to_owned(),
            since: Some(rfc3339(grant.since_ms)),
            expires: grant.expires_ms.map(rfc3339),
            source: grant.source.clone(),
            note: grant.note.clone(),
        }
    }

    fn change(self, actor: &Actor) -> Result<Change, Invalid> {
        Ok(Change {
            scope: scope(&self.scope)?,
            state: state(&self.state)?,
            since_ms: time("since", self.since.as_deref())?,
            expires_ms: time("expires", self.expires.as_deref())?,
            vin: self.vin,
            source: self.source,
            note: self.note,
            expected_version: None,
            actor: actor.clone(),
        })
    }
}

/// What `rows` wish. Bounds of texts and times are looked at when the changes are made.
///
/// # Errors
/// The first word or time that is none, and the first row that says again what an entry is.
pub(super) fn changes(rows: Vec<Row>, actor: &Actor) -> Result<Vec<Change>, DocumentError> {
    let mut seen = HashSet::with_capacity(rows.len());
    let change = |(n, row): (usize, Row)| {
        let change = row.change(actor).map_err(|invalid| DocumentError::from(invalid).in_row(n))?;
        if seen.insert((change.vin.clone(), change.scope)) {
            return Ok(change);
        }
        let reason = format!("has {} in another row already", change.scope);
        Err(DocumentError::new("vin", reason).with(change.vin).in_row(n))
    };
    rows.into_iter().enumerate().map(change).collect()
}

/// A scope by its name.
pub(super) fn scope(name: &str) -> Result<Scope, Invalid> {
    let names = || Scope::VARIANTS.iter().map(|scope| scope.label()).collect::<Vec<_>>().join(", ");
    Scope::parse(name).ok_or_else(|| Invalid::new("scope", name, format!("must be one of {}", names())))
}

/// A state by its name.
pub(super) fn state(name: &str) -> Result<State, Invalid> {
    State::parse(name).ok_or_else(|| Invalid::new("state", name, "must be one of granted, denied"))
}

/// Milliseconds since the epoch.
pub(super) fn time(field: &'static str, text: Option<&str>) -> Result<Option<i64>, Invalid> {
    let bad = |text| Invalid::new(field, text, "must be a time by RFC 3339, such as 2026-01-31T08:00:00Z");
    text.map(|text| parse_rfc3339(text).ok_or_else(|| bad(text))).transpose()
}

/// Exactly one JSON document of the form `T`.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| blame(&error))?;
    reader.end().map_err(|error| DocumentError::new("body", format!("is not one JSON document: {error}")))?;
    Ok(value)
}

/// Which member, of which row.
fn blame(error: &serde_path_to_error::Error<serde_json::Error>) -> DocumentError {
    let mut field = None;
    let mut row = None;
    for segment in error.path() {
        match segment {
            Segment::Map { key } => field = Some(key.as_str()),
            Segment::Seq { index } => row = Some(*index),
            _ => {}
        }
    }
    let message = error.inner().to_string();
    // What is missing or unknown is named by the message only.
    let named = message.split('`').nth(1).filter(|_| message.contains(" field `"));
    let error = DocumentError::new(named.or(field).unwrap_or("body").to_owned(), message.as_str());
    match row {
        Some(row) => error.in_row(row),
        None => error,
    }
}

fn from_json(bytes: &[u8]) -> Result<Vec<Row>, DocumentError> {
    let document: Document = json(bytes)?;
    if document.version != VERSION {
        let reason = format!("must be {VERSION}");
        return Err(DocumentError::new("version", reason).with(document.version.to_string()));
    }
    Ok(document.grants)
}

fn from_csv(bytes: &[u8]) -> Result<Vec<Row>, DocumentError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| DocumentError::new("body", format!("is not UTF-8 at byte {}", error.valid_up_to())))?;
    // The reader would take the rest of the document for a field.
    if text.matches('"').count() % 2 == 1 {
        return Err(DocumentError::new("body", "is not CSV: a quoted field has no end"));
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let malformed = |error: csv::Error| DocumentError::new("body", format!("is not CSV: {error}"));
    let header = reader.headers().map_err(malformed)?.clone();
    check(&header)?;
    let row = |(n, record): (usize, Result<csv::StringRecord, csv::Error>)| {
        record.map_err(malformed).and_then(|record| row(&header, &record)).map_err(|error| error.in_row(n))
    };
    reader.records().enumerate().map(row).collect()
}

fn check(header: &csv::StringRecord) -> Result<(), DocumentError> {
    if header.is_empty() {
        return Err(DocumentError::new("body", format!("has no header line; {EXPECTED}")));
    }
    let mut seen = HashSet::new();
    for column in header {
        if !COLUMNS.contains(&column) {
            return Err(DocumentError::new("header", format!("is no column; {EXPECTED}")).with(column));
        }
        if !seen.insert(column) {
            return Err(DocumentError::new("header", "stands there twice").with(column));
        }
    }
    match COLUMNS[..NEEDED].iter().find(|needed| !seen.contains(*needed)) {
        Some(missing) => Err(DocumentError::new("header", format!("is missing; {EXPECTED}")).with(*missing)),
        None => Ok(()),
    }
}

const EXPECTED: &str = "the columns are vin, scope, state and, as needed, since, expires, source, note";

fn row(header: &csv::StringRecord, record: &csv::StringRecord) -> Result<Row, DocumentError> {
    if record.len() != header.len() {
        let reason = format!("has {} fields, the header has {}", record.len(), header.len());
        return Err(DocumentError::new("body", reason).with(record.iter().collect::<Vec<_>>().join(",")));
    }
    let mut row = Row::default();
    for (column, value) in header.iter().zip(record) {
        let value = value.to_owned();
        let some = |value: String| (!value.is_empty()).then_some(value);
        match column {
            "vin" => row.vin = value,
            "scope" => row.scope = value,
            "state" => row.state = value,
            "since" => row.since = some(value),
            "expires" => row.expires = some(value),
            "source" => row.source = value,
            _ => row.note = value,
        }
    }
    Ok(row)
}

/// One grant per line, for people and for `diff`.
fn to_json(rows: impl IntoIterator<Item = Row>) -> String {
    let mut text = format!("{{\"version\": {VERSION}, \"grants\": [");
    let mut separator = "\n  ";
    for row in rows {
        text.push_str(separator);
        text.push_str(&serde_json::to_string(&row).expect("texts only"));
        separator = ",\n  ";
    }
    text.push_str("\n]}\n");
    text
}

fn to_csv(rows: impl IntoIterator<Item = Row>) -> String {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let written = "writing to memory cannot fail";
    writer.write_record(COLUMNS).expect(written);
    for row in rows {
        let (since, expires) = (row.since.unwrap_or_default(), row.expires.unwrap_or_default());
        writer.write_record([row.vin, row.scope, row.state, since, expires, row.source, row.note]).expect(written);
    }
    String::from_utf8(writer.into_inner().expect(written)).expect("texts only")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = r#"{"version": 1, "grants": [
        {"vin": "VIN1", "scope": "vehicle_location", "state": "granted", "since": "2026-01-01T00:00:00Z",
         "expires": null, "source": "owner, in \"writing\"", "note": ""},
        {"vin": "VIN2", "scope": "media", "state": "denied", "since": "2026-01-01T00:00:00.5Z"}]}"#;
    const CSV: &str = "scope,vin,state,since,expires,source\r\n\
        vehicle_location,VIN1,granted,2026-01-01T00:00:00Z,,\"owner, in \"\"writing\"\"\"\r\n\n\
        media,VIN2,denied,2026-01-01T00:00:00.5Z,,";

    fn error(format: Format, text: &str) -> String {
        let parsed = format.parse(text.as_bytes()).and_then(|rows| changes(rows, &Actor::default()));
        parsed.unwrap_err().to_string()
    }

    #[test]
    fn csv_and_json_say_the_same() {
        let rows = Format::Json.parse(JSON.as_bytes()).unwrap();
        assert_eq!(rows, Format::Csv.parse(CSV.as_bytes()).unwrap());
        assert_eq!(rows, Format::Csv.parse(format!("\u{feff}{CSV}").as_bytes()).unwrap());
        let changes = changes(rows, &Actor::default()).unwrap();
        assert_eq!(changes[0].source, "owner, in \"writing\"");
        assert_eq!((changes[1].scope, changes[1].since_ms), (Scope::Media, Some(1_767_225_600_500)));
    }

    #[test]
    fn errors_of_json_name_the_grant_the_field_and_the_value() {
        let said = |text: &str| error(Format::Json, text);
        assert_eq!(
            said(&JSON.replace("media", "radio")),
            "grant 2: scope: \"radio\" must be one of vehicle_location, charging, climate, media, security, driving"
        );
        assert!(said(&JSON.replace("00.5Z", "00.5")).starts_with("grant 2: since: \"2026-01-01T00:00:00.5\" must be"));
        assert!(said(&JSON.replace("\"note\"", "\"notes\"")).starts_with("grant 1: notes: unknown field"));
        assert_eq!(said(&JSON.replace("\"version\": 1", "\"version\": 2")), "version: \"2\" must be 1");
        assert!(said("{\"version\": 1, \"grants\": [").contains("line 1 column"));
        assert!(said(&format!("{JSON} {{}}")).starts_with("body: is not one JSON document"));
        let twice = JSON.replace("VIN2", "VIN1").replace("media", "vehicle_location");
        assert_eq!(said(&twice), "grant 2: vin: \"VIN1\" has vehicle_location in another row already");
    }

    #[test]
    fn errors_of_csv_name_the_column_or_the_row() {
        let said = |text: &str| error(Format::Csv, text);
        assert_eq!(said(&CSV.replace("denied", "no")), "grant 2: state: \"no\" must be one of granted, denied");
        assert!(said("vin,scope,colour\n").starts_with("header: \"colour\" is no column; the columns are"));
        assert!(said("vin,scope\n").starts_with("header: \"state\" is missing"));
        assert_eq!(said("vin,scope,vin\n"), "header: \"vin\" stands there twice");
        assert!(said("").starts_with("body: has no header line"));
        assert_eq!(said("vin,scope,state\na,media\n"), "grant 1: body: \"a,media\" has 2 fields, the header has 3");
        assert_eq!(said("vin,scope,state\n\"a,media,denied\n"), "body: is not CSV: a quoted field has no end");
        assert_eq!(Format::Csv.parse(b"vin\xff").unwrap_err().to_string(), "body: is not UTF-8 at byte 3");
    }

    #[test]
    fn the_format_goes_by_the_extension() {
        assert_eq!(Format::of(Path::new("a/b.CSV")), Format::Csv);
        assert_eq!(Format::of(Path::new("a.csv/b")), Format::Json);
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(texts in proptest::collection::vec("[ -~\u{e9}\r\n]{0,20}", 0..4), since in 0..2_000_000_000_000_i64) {
            let rows: Vec<_> = texts.iter().enumerate().map(|(at, text)| Row {
                vin: format!("VIN{at}"),
                scope: Scope::VARIANTS[at].label().to_owned(),
                state: State::VARIANTS[at % 2].label().to_owned(),
                since: Some(rfc3339(since)),
                expires: (at == 1).then(|| rfc3339(since + 1)),
                source: text.clone(),
                note: text.chars().rev().collect(),
            }).collect();
            for format in [Format::Json, Format::Csv] {
                prop_assert_eq!(&format.parse(format.render(rows.clone()).as_bytes()).unwrap(), &rows);
            }
        }

        #[test]
        fn never_panics(text in "[\\PC\n\"]{0,80}") {
            let _ = (Format::Json.parse(text.as_bytes()), Format::Csv.parse(text.as_bytes()));
        }
    }
}
