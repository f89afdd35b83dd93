//! All grants as one document: the permissions file, JSON or CSV with the same columns.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::csv;
use super::refusal::Refusal;
use super::request::{self, Wish};
use crate::permissions::{Actor, Change};
use crate::permissions::{Grant, Scope, clock};

/// The form that is written, and the only one that is read.
const VERSION: u64 = 1;

/// The columns of the CSV form, in the order in which they are written.
const COLUMNS: [&str; 7] = ["vin", "scope", "state", "since", "expires", "source", "note"];

/// The JSON form.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    grants: Vec<Row>,
}

/// One entry of one vehicle.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    vin: String,
    scope: String,
    state: String,
    since: Option<String>,
    expires: Option<String>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    note: String,
}

impl Row {
    pub(super) fn of(vin: &str, scope: Scope, grant: &Grant) -> Self {
        Self {
            vin: vin.to_owned(),
            scope: scope.label().to_owned(),
            state: grant.state.label().to_owned(),
            since: Some(clock::rfc3339(grant.since_ms)),
            expires: grant.expires_ms.map(clock::rfc3339),
            source: grant.source.clone(),
            note: grant.note.clone(),
        }
    }

    fn change(self, actor: &Actor, now_ms: i64) -> Result<Change, Refusal> {
        let (vin, scope) = (request::vin(&self.vin)?, request::scope(&self.scope)?);
        let wish = Wish {
            state: self.state,
            since: self.since,
            expires: self.expires,
            source: Some(self.source),
            note: Some(self.note),
            expected_version: None,
        };
        wish.change(vin, scope, actor.clone(), now_ms)
    }
}

pub(super) fn from_json(bytes: &[u8]) -> Result<Vec<Row>, Refusal> {
    let document: Document = request::json(bytes)?;
    if document.version != VERSION {
        return Err(Refusal::bad("version", &document.version.to_string(), format!("must be {VERSION}")));
    }
    Ok(document.grants)
}

pub(super) fn from_csv(bytes: &[u8]) -> Result<Vec<Row>, Refusal> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Refusal::bad("body", "", format!("is not UTF-8 behind byte {}", error.valid_up_to())))?;
    let records = csv::read(text)
        .map_err(|error| Refusal::bad("body", "", format!("is not CSV: line {}: {}", error.line, error.reason)))?;
    let mut records = records.into_iter();
    let header = records.next().ok_or_else(|| Refusal::bad("body", "", format!("has no header line; {EXPECTED}")))?;
    check(&header)?;
    records.enumerate().map(|(n, record)| row(&header, record).map_err(|refusal| refusal.in_row(n))).collect()
}

const EXPECTED: &str = "the columns are vin, scope, state and, as needed, since, expires, source, note";

fn check(header: &[String]) -> Result<(), Refusal> {
    for (n, column) in header.iter().enumerate() {
        if !COLUMNS.contains(&column.as_str()) {
            return Err(Refusal::bad("header", column, format!("unknown column; {EXPECTED}")));
        }
        if header[..n].contains(column) {
            return Err(Refusal::bad("header", column, "the column stands there twice"));
        }
    }
    match COLUMNS[..3].iter().find(|needed| !header.iter().any(|column| column == *needed)) {
        Some(missing) => Err(Refusal::bad("header", missing, format!("the column is missing; {EXPECTED}"))),
        None => Ok(()),
    }
}

fn row(header: &[String], record: Vec<String>) -> Result<Row, Refusal> {
    if record.len() != header.len() {
        let message = format!("has {} fields, the header has {}", record.len(), header.len());
        return Err(Refusal::bad("body", &record.join(","), message));
    }
    let mut row = Row::default();
    for (column, value) in header.iter().zip(record) {
        let some = |value: String| (!value.is_empty()).then_some(value);
        match column.as_str() {
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

/// Checks every row, and that none says twice what an entry is.
pub(super) fn changes(rows: Vec<Row>, actor: &Actor, now_ms: i64) -> Result<Vec<Change>, Refusal> {
    let mut seen = HashSet::with_capacity(rows.len());
    let check = |(n, row): (usize, Row)| {
        let change = row.change(actor, now_ms).map_err(|refusal| refusal.in_row(n))?;
        if seen.insert((change.vin.clone(), change.scope)) {
            return Ok(change);
        }
        let message = format!("the document has an entry for {} of this vehicle already", change.scope);
        Err(Refusal::bad("vin", &change.vin, message).in_row(n))
    };
    rows.into_iter().enumerate().map(check).collect()
}

pub(super) fn to_json(rows: Vec<Row>) -> String {
    let document = Document { version: VERSION, grants: rows };
    serde_json::to_string_pretty(&document).expect("texts and numbers only") + "\n"
}

pub(super) fn to_csv(rows: &[Row]) -> String {
    let mut out = String::new();
    csv::write(&mut out, &COLUMNS);
    for row in rows {
        let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let (since, expires) = (text(&row.since), text(&row.expires));
        csv::write(&mut out, &[&row.vin, &row.scope, &row.state, &since, &expires, &row.source, &row.note]);
    }
    out
}
