//! Files of grants: JSON, or CSV with the same columns.
//!
//! ```text
//! {"version": 1, "grants": [{"vin": "5YJ…", "scope": "vehicle_location", "state": "granted",
//!   "since": "2026-01-01T00:00:00Z", "expires": null, "source": "owner consent", "note": ""}]}
//!
//! vin,scope,state,since,expires,source,note
//! 5YJ…,vehicle_location,granted,2026-01-01T00:00:00Z,,owner consent,
//! ```
//!
//! The columns of CSV may come in any order and `expires`, `source` and `note` may be missing; quotes as in
//! RFC 4180. Times are RFC 3339.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::permissions::change::{MAX_NOTE, MAX_SOURCE, check_text, check_times, check_vin};
use crate::permissions::clock::{parse_rfc3339, rfc3339};
use crate::permissions::{Scope, State};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Json,
    /// A header and one line per grant.
    Csv,
}

/// One grant of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Of which vehicle.
    pub vin: String,
    /// Which scope.
    pub scope: Scope,
    /// Granted or denied.
    pub state: State,
    /// From when; milliseconds since the epoch.
    pub since_ms: i64,
    /// Until when; milliseconds since the epoch.
    pub expires_ms: Option<i64>,
    /// Who said so.
    pub source: String,
    /// Anything else.
    pub note: String,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It is not what its format says, as a whole.
    #[error("{0}")]
    Document(String),
    /// One grant is wrong.
    #[error("grant {row}: {field}: {problem}")]
    Row {
        /// Which, from 1; with CSV, the header does not count.
        row: usize,
        /// Which column.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Format {
    /// By the extension: CSV is `.csv`, everything else is JSON.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        if is_csv { Self::Csv } else { Self::Json }
    }

    /// All grants of a file.
    ///
    /// # Errors
    /// The first thing that is wrong; two grants for the same vehicle and scope are.
    pub fn parse(self, bytes: &[u8]) -> Result<Vec<Row>, FormatError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| FormatError::Document(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let cells = match self {
            Self::Json => json_cells(text)?,
            Self::Csv => csv_cells(text)?,
        };
        let mut rows = Vec::with_capacity(cells.len());
        let mut seen = HashMap::with_capacity(cells.len());
        for (at, cells) in cells.into_iter().enumerate() {
            let failed = |(field, problem)| FormatError::Row { row: at + 1, field, problem };
            let row = cells.and_then(Cells::row).map_err(failed)?;
            if let Some(first) = seen.insert((row.vin.clone(), row.scope), at + 1) {
                return Err(failed(("vin", format!("{} has {} already in grant {first}", row.vin, row.scope))));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// A file of `rows`.
    #[must_use]
    pub fn render<'a>(self, rows: impl IntoIterator<Item = &'a Row>) -> String {
        match self {
            Self::Json => render_json(rows),
            Self::Csv => render_csv(rows),
        }
    }
}

const COLUMNS: [&str; 7] = ["vin", "scope", "state", "since", "expires", "source", "note"];

/// One grant as text, in the order of [`COLUMNS`].
#[derive(Default)]
struct Cells([Option<String>; COLUMNS.len()]);

type CellError = (&'static str, String);

impl Cells {
    fn row(self) -> Result<Row, CellError> {
        let [vin, scope, state, since, expires, source, note] = self.0;
        let required = |field: &'static str, cell: Option<String>| cell.ok_or((field, "missing".to_owned()));
        let time = |field: &'static str, text: &str| {
            let error = || (field, format!("{text:?} is not an RFC 3339 time, such as \"2026-01-01T00:00:00Z\""));
            parse_rfc3339(text).ok_or_else(error)
        };
        let vin = required("vin", vin)?;
        check_vin(&vin).map_err(|reason| ("vin", format!("{vin:?} {reason}")))?;
        let scope = required("scope", scope)?;
        let scope = Scope::parse(&scope).ok_or_else(|| ("scope", unknown(&scope, &Scope::ALL.map(Scope::label))))?;
        let state = required("state", state)?;
        let state = State::parse(&state).ok_or_else(|| ("state", unknown(&state, &State::ALL.map(State::label))))?;
        let since_ms = time("since", &required("since", since)?)?;
        let expires_ms = expires.map(|text| time("expires", &text)).transpose()?;
        check_times(since_ms, expires_ms)
            .map_err(|(field, ms, reason)| (field, format!("{} {reason}", rfc3339(ms))))?;
        let (source, note) = (source.unwrap_or_default(), note.unwrap_or_default());
        check_text(&source, MAX_SOURCE).map_err(|reason| ("source", reason))?;
        check_text(&note, MAX_NOTE).map_err(|reason| ("note", reason))?;
        Ok(Row { vin, scope, state, since_ms, expires_ms, source, note })
    }
}

fn unknown(value: &str, allowed: &[&str]) -> String {
    format!("unknown value {value:?}, allowed are {}", allowed.join(", "))
}

fn json_cells(text: &str) -> Result<Vec<Result<Cells, CellError>>, FormatError> {
    let document = |problem: String| FormatError::Document(problem);
    let mut root: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| document(format!("not a JSON object: {error}")))?;
    match root.remove("version") {
        Some(Value::Number(version)) if version.as_u64() == Some(1) => {}
        other => {
            let found = other.map_or_else(|| "missing".to_owned(), |value| value.to_string());
            return Err(document(format!("version: must be 1, found {found}")));
        }
    }
    let Some(Value::Array(grants)) = root.remove("grants") else {
        return Err(document("grants: must be a list".to_owned()));
    };
    if let Some(key) = root.keys().next() {
        return Err(document(format!("{key:?}: unknown key, allowed are version, grants")));
    }
    Ok(grants.into_iter().map(json_row).collect())
}

fn json_row(grant: Value) -> Result<Cells, CellError> {
    let Value::Object(grant) = grant else { return Err(("vin", "the grant is not an object".to_owned())) };
    let mut cells = Cells::default();
    for (key, value) in grant {
        let at = COLUMNS.iter().position(|column| *column == key);
        let at = at.ok_or_else(|| ("vin", format!("beside it: {}", unknown(&key, &COLUMNS))))?;
        cells.0[at] = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => return Err((COLUMNS[at], format!("expected a string, found {other}"))),
        };
    }
    Ok(cells)
}

fn csv_cells(text: &str) -> Result<Vec<Result<Cells, CellError>>, FormatError> {
    let mut records = csv_records(text)?.into_iter();
    let header = records.next().unwrap_or_default();
    let mut columns = Vec::with_capacity(header.len());
    for name in &header {
        let at = COLUMNS.iter().position(|column| column == name);
        let at = at.ok_or_else(|| FormatError::Document(format!("header: {}", unknown(name, &COLUMNS))))?;
        if columns.contains(&at) {
            return Err(FormatError::Document(format!("header: {name:?} is there twice")));
        }
        columns.push(at);
    }
    for (at, required) in COLUMNS.iter().enumerate().take(4) {
        if !columns.contains(&at) {
            return Err(FormatError::Document(format!("header: {required:?} is missing")));
        }
    }
    Ok(records
        .map(|record| {
            if record.len() != columns.len() {
                let problem = format!("the line has {} cells, the header {}", record.len(), columns.len());
                return Err(("vin", problem));
            }
            let mut cells = Cells::default();
            for (at, cell) in columns.iter().zip(record) {
                cells.0[*at] = (!cell.is_empty()).then_some(cell);
            }
            Ok(cells)
        })
        .collect())
}

/// RFC 4180, also with bare line feeds. Empty lines count for nothing.
fn csv_records(text: &str) -> Result<Vec<Vec<String>>, FormatError> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut cell = String::new();
    let mut was_quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if cell.is_empty() && !was_quoted => {
                read_quoted(&mut chars, &mut cell)?;
                was_quoted = true;
            }
            ',' => {
                record.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                if !record.is_empty() || !cell.is_empty() || was_quoted {
                    record.push(std::mem::take(&mut cell));
                    records.push(std::mem::take(&mut record));
                }
                was_quoted = false;
            }
            c if was_quoted => {
                let line = records.len() + 1;
                return Err(FormatError::Document(format!("record {line}: {c:?} after a closing quote")));
            }
            c => cell.push(c),
        }
    }
    if !record.is_empty() || !cell.is_empty() || was_quoted {
        record.push(cell);
        records.push(record);
    }
    Ok(records)
}

/// Behind the opening quote, to the closing one.
fn read_quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, cell: &mut String) -> Result<(), FormatError> {
    loop {
        match chars.next() {
            Some('"') if chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            Some('"') => return Ok(()),
            Some(c) => cell.push(c),
            None => return Err(FormatError::Document("the last quote is not closed".to_owned())),
        }
    }
}

/// One grant per line, for people and for `diff`.
fn render_json<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut text = String::from("{\"version\": 1, \"grants\": [");
    for (at, row) in rows.into_iter().enumerate() {
        let grant = json!({
            "vin": row.vin,
            "scope": row.scope.label(),
            "state": row.state.label(),
            "since": rfc3339(row.since_ms),
            "expires": row.expires_ms.map(rfc3339),
            "source": row.source,
            "note": row.note,
        });
        // Writing to a string cannot fail.
        let _ = write!(text, "{}\n  {grant}", if at == 0 { "" } else { "," });
    }
    text.push_str("\n]}\n");
    text
}

fn render_csv<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut text = COLUMNS.join(",");
    text.push('\n');
    for row in rows {
        let times = [rfc3339(row.since_ms), row.expires_ms.map(rfc3339).unwrap_or_default()];
        let cells = [&row.vin, row.scope.label(), row.state.label(), &times[0], &times[1], &row.source, &row.note];
        text.push_str(&cells.map(quoted).join(","));
        text.push('\n');
    }
    text
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
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

    fn json_error(text: &str) -> String {
        Format::Json.parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn csv_and_json_say_the_same() {
        let rows = Format::Json.parse(JSON.as_bytes()).unwrap();
        assert_eq!(rows, Format::Csv.parse(CSV.as_bytes()).unwrap());
        assert_eq!((rows[0].source.as_str(), rows[1].since_ms), ("owner, in \"writing\"", 1_767_225_600_500));
    }

    #[test]
    fn errors_name_the_grant_and_the_field() {
        assert_eq!(
            json_error(&JSON.replace("media", "radio")),
            "grant 2: scope: unknown value \"radio\", allowed are vehicle_location, charging, climate, media, security, driving"
        );
        assert!(
            json_error(&JSON.replace("00.5Z", "00.5")).starts_with("grant 2: since: \"2026-01-01T00:00:00.5\" is not")
        );
        assert!(json_error(&JSON.replace("\"note\"", "\"notes\"")).contains("unknown value \"notes\""));
        assert!(json_error(&JSON.replace("\"version\": 1", "\"version\": 2")).contains("must be 1, found 2"));
        assert!(json_error("{\"version\": 1, \"grants\": [").contains("line 1 column"));
        let twice = JSON.replace("VIN2", "VIN1").replace("media", "vehicle_location");
        assert_eq!(json_error(&twice), "grant 2: vin: VIN1 has vehicle_location already in grant 1");
        let csv = |text: &str| Format::Csv.parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            csv(&CSV.replace("denied", "no")),
            "grant 2: state: unknown value \"no\", allowed are granted, denied"
        );
        assert_eq!(csv("vin,scope,state\n"), "header: \"since\" is missing");
        assert_eq!(csv(""), "header: \"vin\" is missing");
        assert!(csv("vin,scope,state,since\na,media\n").contains("has 2 cells, the header 4"));
    }

    #[test]
    fn the_format_goes_by_the_extension() {
        assert_eq!(Format::of(Path::new("a/b.CSV")), Format::Csv);
        assert_eq!(Format::of(Path::new("a.csv/b")), Format::Json);
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(texts in proptest::collection::vec("[ -~\u{e9}\n]{0,20}", 0..4), since in 0..2_000_000_000_000_i64) {
            let rows: Vec<_> = texts.iter().enumerate().map(|(at, text)| Row {
                vin: format!("VIN{at}"),
                scope: Scope::ALL[at],
                state: State::ALL[at % 2],
                since_ms: since,
                expires_ms: (at == 1).then_some(since + 1),
                source: text.clone(),
                note: text.chars().rev().collect(),
            }).collect();
            for format in [Format::Json, Format::Csv] {
                prop_assert_eq!(&format.parse(format.render(&rows).as_bytes()).unwrap(), &rows);
            }
        }

        #[test]
        fn never_panics(text in "[\\PC\n\"]{0,80}") {
            let _ = (Format::Json.parse(text.as_bytes()), Format::Csv.parse(text.as_bytes()));
        }
    }
}
